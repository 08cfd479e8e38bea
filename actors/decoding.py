"""Decoders, asked by an exchange: whatever one raises is told as an answer that cannot be read."""

from collections.abc import Callable
from typing import Any, TypeVar

from allm.actors.answer import Body
from allm.errors import AdapterError, AllmError
from allm.events import Event
from allm.providers.adapter import Decoder

__all__ = ["Unreadable", "ask", "whole_body"]

_T = TypeVar("_T")


class Unreadable(Exception):
    """A decoder raised, with the name of what it raised: its text may hold anything."""


def ask(read: Callable[..., _T], *told: Any) -> _T:
    """What a decoder makes of it. One that raises has met an answer that it does not know: another attempt may bring a better one."""
    try:
        return read(*told)
    except AllmError:
        raise  # it says what is wrong
    except Exception as error:
        raise Unreadable(type(error).__name__) from None


def whole_body(decoder: Decoder, body: Body, read: list[bytes]) -> list[Event]:
    """The events of a body that has come in whole."""
    data = body.joined(read)
    if not data.strip():
        raise AdapterError("truncated", "the answer has no body")
    return ask(decoder.body, data)
