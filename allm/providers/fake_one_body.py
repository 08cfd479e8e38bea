"""What the fakes of embeddings and moderation share: their settings, what they were asked, failures on purpose.

Settings are in the engine's `adapter_opts`, under the name of the service (`embeddings`, `moderation`):

    errors            what the first requests end with, one entry each: None, a reason, or (reason, details)
    retry_until_call  the first n-1 attempts of each request fail (`service_unavailable`)
    delay             seconds before each answer
    record            keep what was asked
"""

from typing import Annotated, Any, TypeVar

import msgspec

from allm.engine import Engine
from allm.errors import ADAPTER_REASONS, ErrorInfo, ValidationError
from allm.providers.adapter import Script
from allm.providers.fake_log import log_of
from allm.providers.one_body import Answer
from allm.wire_json import encode

__all__ = ["FakeSettings", "opened", "script", "settings_of"]


class FakeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all fakes know. Each adds its own."""

    errors: tuple[str | tuple[str, dict[str, Any]] | None, ...] = ()
    retry_until_call: int = 1
    delay: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    record: bool = False


SettingsT = TypeVar("SettingsT", bound=FakeSettings)


class _Envelope(msgspec.Struct):
    """What a fake's script carries: the answer, or how it fails."""

    answer: msgspec.Raw = msgspec.Raw(b"null")
    error: ErrorInfo | None = None
    retry_until_call: int = 1


_open = msgspec.json.Decoder(_Envelope).decode


def settings_of(engine: Engine, service: str, kind: type[SettingsT]) -> SettingsT:
    """The fake's settings. Raises ValidationError for what it does not know."""
    try:
        return msgspec.convert(engine.adapter_opts.get(service, {}), kind)
    except msgspec.ValidationError as error:
        raise ValidationError.at(f"adapter_opts.{service}", str(error)) from None


def script(engine: Engine, service: str, ask: Any, settings: FakeSettings, answer: Any) -> Script:
    """The script that gives `answer`, or fails as the settings say."""
    errors = [_error(item, f"adapter_opts.{service}.errors[{i}]") for i, item in enumerate(settings.errors)]
    number = log_of(engine, service).next(ask, settings.record)
    told = _Envelope(msgspec.Raw(encode(answer)), errors[number] if number < len(errors) else None, settings.retry_until_call)
    return Script(((settings.delay, encode(told)),))


def opened(answer: Answer) -> Answer | ErrorInfo:
    """The answer of a fake without what was wrapped round it."""
    told = _open(answer.body)
    if answer.attempt < told.retry_until_call:
        return ErrorInfo("adapter", "service_unavailable", "this attempt fails, as retry_until_call says", provider="fake")
    return told.error or Answer(bytes(told.answer), answer.headers, answer.attempt)


def _error(item: str | tuple[str, dict[str, Any]] | None, path: str) -> ErrorInfo | None:
    if item is None:
        return None
    reason, details = (item, dict[str, Any]()) if isinstance(item, str) else item
    if reason not in ADAPTER_REASONS:
        raise ValidationError.at(path, f"unknown reason {reason!r}")
    told = {"kind": "adapter", "message": f"the fake was told to fail: {reason}", "provider": "fake", **details, "reason": reason}
    try:
        return msgspec.convert(told, ErrorInfo)
    except msgspec.ValidationError as error:
        raise ValidationError.at(path, str(error)) from None
