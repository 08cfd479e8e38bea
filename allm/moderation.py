"""Moderation as plain data: what is judged, and the verdicts."""

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

from msgspec.structs import force_setattr

from allm.errors import ValidationError
from allm.freezing import freeze, freeze_dict
from allm.messages import ImagePart, Message, TextPart
from allm.plain import Value

__all__ = ["ModerationInput", "ModerationRequest", "ModerationResponse", "ModerationResult", "read_input"]

ModerationInput: TypeAlias = "str | TextPart | ImagePart | Message | Sequence[str | TextPart | ImagePart]"
"""What is judged: a text, texts (a verdict for each), or parts (or a message of parts: one verdict for all of it)."""


class ModerationRequest(Value, frozen=True, kw_only=True):
    """`texts` are judged one by one; `parts`, if there are any, together."""

    texts: tuple[str, ...] = ()
    parts: tuple[TextPart | ImagePart, ...] = ()
    model: str
    options: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.options:
            force_setattr(self, "options", freeze_dict(self.options, "moderation_request.options"))

    @property
    def verdicts(self) -> int:
        """How many results the answer must have."""
        return len(self.texts) or 1


class ModerationResult(Value, frozen=True, kw_only=True):
    """One verdict. `categories`: name -> whether it applies; `category_scores`: name -> 0..1; `category_applied_input_types`: name -> the
    kinds of input (`text`, `image`) that were looked at for it. The names are the provider's; what it left open is not in them."""

    flagged: bool
    categories: dict[str, bool] = {}
    category_scores: dict[str, float] = {}
    category_applied_input_types: dict[str, tuple[str, ...]] = {}

    def __post_init__(self) -> None:
        for name in ("categories", "category_scores", "category_applied_input_types"):
            if value := getattr(self, name):
                force_setattr(self, name, freeze_dict(value, f"moderation_result.{name}"))


class ModerationResponse(Value, frozen=True, kw_only=True):
    """`results[i]` is the verdict on text i, or the only one on parts."""

    id: str | None = None
    request_id: str | None = None
    model: str | None = None
    results: tuple[ModerationResult, ...]
    metadata: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.metadata:
            force_setattr(self, "metadata", freeze_dict(self.metadata, "moderation_response.metadata"))

    @property
    def flagged(self) -> bool:
        """Whether any result is flagged."""
        return any(result.flagged for result in self.results)


def read_input(given: Any, model: str, options: Any = None) -> ModerationRequest:
    """The request that a caller means. Raises ValidationError that names what cannot be judged."""
    fields: dict[str, Any] = {"model": model, "options": options or {}}
    if isinstance(given, Message):
        given = given.parts
    if isinstance(given, str):
        return ModerationRequest(texts=(_text(given, "input"),), **fields)
    if isinstance(given, TextPart | ImagePart):
        given = (given,)
    if not isinstance(given, list | tuple):
        raise ValidationError.at("input", f"expected a text, texts or parts, got {type(given).__name__}")
    items = cast("Sequence[Any]", given)
    if not items:
        raise ValidationError.at("input", "there is nothing in it")
    if all(isinstance(item, str) for item in items):
        return ModerationRequest(texts=tuple(_text(item, f"input[{i}]") for i, item in enumerate(items)), **fields)
    return ModerationRequest(parts=tuple(_part(item, f"input[{i}]") for i, item in enumerate(items)), **fields)


def _part(item: Any, path: str) -> TextPart | ImagePart:
    if isinstance(item, str):
        return TextPart(_text(item, path))
    if isinstance(item, TextPart):
        return TextPart(_text(item.text, f"{path}.text"))
    if isinstance(item, ImagePart):
        return item
    raise ValidationError.at(path, f"expected text, a TextPart or an ImagePart, got {type(item).__name__}")


def _text(text: Any, path: str) -> str:
    if not isinstance(text, str) or not text:
        raise ValidationError.at(path, "it is empty" if text == "" else f"expected text, got {type(text).__name__}")
    return str(freeze(text, path))
