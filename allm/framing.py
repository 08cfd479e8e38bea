"""What the first bytes of an answer say about it, whatever its content type does; and an error that comes as an event."""

from typing import Final, Literal

from allm.sse import FrameTooLarge, SseDecoder

__all__ = ["Form", "form_of", "unframed"]

Form = Literal["events", "json", "other"]

_BOM: Final = b"\xef\xbb\xbf"
_FIELDS: Final = (b"data", b"event", b"id", b"retry")


def form_of(beginning: bytes) -> Form | None:
    """Which form an answer has that begins so: a stream of events, JSON, or neither; None while too little has come to know."""
    if _BOM.startswith(beginning[:3]) and len(beginning) < 3:
        return None
    text = beginning.removeprefix(_BOM).lstrip()
    if not text:
        return None
    if text[:1] in b"{[":
        return "json"
    if text[:1] == b":":
        return "events"
    for field in _FIELDS:
        if text.startswith(field) and len(text) > len(field):
            return "events" if text[len(field) : len(field) + 1] in b":\r\n" else "other"
        if field.startswith(text):
            return None
    return "other"


def unframed(body: bytes) -> bytes:
    """The JSON object of an error answer that was framed as an event (`data: {...}`); any other body as it is."""
    if form_of(body[:64]) != "events":
        return body
    sse = SseDecoder(len(body))
    try:
        frames = [*sse.feed(body), *sse.close()]
    except FrameTooLarge:
        return body
    return next((frame.data for frame in frames if frame.data.lstrip()[:1] == b"{"), body)
