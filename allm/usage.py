"""Usage: what a call consumed, in the same terms for every provider."""

from typing import Any

from msgspec.structs import force_setattr

from allm.freezing import freeze_dict
from allm.plain import Value

__all__ = ["Usage"]


class Usage(Value, frozen=True, kw_only=True):
    """Tokens and cost of one response, or of several added up.

    `None` means "not reported", never 0. `input_tokens` counts every prompt token, cached reads and cache writes included;
    `output_tokens` every generated token, reasoning included. Costs are in US dollars, as the provider reports them.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    input_cost: float | None = None
    output_cost: float | None = None
    total_cost: float | None = None
    extra: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.extra:
            force_setattr(self, "extra", freeze_dict(self.extra, "usage.extra"))

    def __add__(self, other: "Usage") -> "Usage":
        """The sum, field by field; a field is unknown only if both are."""
        return Usage(**{name: _sum(getattr(self, name), getattr(other, name)) for name in _COUNTED})


_COUNTED = tuple(name for name in Usage.__struct_fields__ if name != "extra")


def _sum(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return b if a is None else a
    return a + b
