"""Tools: what a model may call, with the handler that runs here."""

from typing import Any, Literal

from msgspec.structs import force_setattr

from allm.freezing import freeze_dict
from allm.plain import Value
from allm.requests import ToolSpec

__all__ = ["Tool", "spec_of"]


class Tool(Value, frozen=True, kw_only=True):
    """A tool. `schema` is the JSON Schema of its arguments; `handler` a callable or `"module:qualname"`, None for a manual tool.

    `timeout` is in seconds (None: the engine's `Timeouts.tool`), `max_result` in characters of the encoded result.
    """

    name: str
    description: str = ""
    schema: dict[str, Any] = {}
    handler: Any = None
    manual: bool = False
    timeout: float | None = None
    isolation: Literal["thread", "process"] = "thread"
    on_crash: Literal["fail", "retry"] = "fail"
    max_result: int = 1_000_000

    def __post_init__(self) -> None:
        if self.schema:
            force_setattr(self, "schema", freeze_dict(self.schema, f"tools.{self.name}.schema"))

    @property
    def spec(self) -> ToolSpec:
        """What the model sees of it."""
        return ToolSpec(self.name, self.description, self.schema, self.manual)


def spec_of(tool: Tool | ToolSpec) -> ToolSpec:
    """The spec of a tool with or without handler."""
    return tool.spec if isinstance(tool, Tool) else tool
