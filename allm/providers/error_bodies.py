"""Where an error stands in what a host says: the one place that knows, for all wires.

Hosts put an error under `error`, `errors`, `error_code`, `base_resp` or `detail`, or make the whole object one (`object: "error"`,
`type: "error"`, a `message` with a code). It may be the body of an answer whose status is 200, an event of a stream, and on the Chat wire
a choice or a delta. The same fields, empty, tell that all went well: `error: {}`, `error: false`, `error_code: 0`.

An answer may itself have a `message`, a `detail` or a `status`: these count only where there is nothing of an answer beside them.
"""

from typing import Any, Final

from allm.providers.loose import decode_answer
from allm.wire_json import MalformedJson, is_array, is_object

__all__ = ["error_beside", "error_in_json", "error_told", "says_something"]

_ANSWERS: Final = frozenset({"choices", "candidates", "output", "content", "delta", "item", "response", "content_block", "usage", "data"})
"""Fields of an answer, or of an event that is a piece of one."""

_WORDS: Final = ("error", "exception", "fail")

_NAMES: Final = ("error", "errors")
"""Fields that hold an error, whatever stands beside them."""
_RARE_NAMES: Final = ("Error", "err", "exception", "fault")
"""Fields that hold one where there is nothing of an answer."""
_TEXTS: Final = (
    "message",
    "msg",
    "error_message",
    "error_msg",
    "Message",
    "errorMessage",
    "error_description",
    "detail",
    "faultstring",
    "text",
)
"""What the text of an error is called."""
_OWN_TEXTS: Final = ("error_message", "error_msg", "errorMessage")
"""Names of a text that is nothing but an error's."""
_TYPES: Final = ("type", "__type", "error_type", "errorType", "Code")
_STATUSES: Final = ("status_code", "code", "statusCode", "http_status", "http_code", "status")
_DEEPEST: Final = 4
"""Errors within one another that are looked into: each proxy on the way may wrap the last one's."""


def error_told(told: Any) -> Any:
    """The error that this says, with its text under `message`, as `error_of` reads it; None if it says none.

    `told` is decoded JSON: a body, an event, a choice or a delta.
    """
    if is_array(told):
        return error_told(told[0]) if len(told) == 1 else None
    if not is_object(told):
        return None
    if (error := error_beside(told)) is not None:
        return error
    if says_something(code := told.get("error_code")) and code not in ("0", "success"):
        return _with_status({**told, "code": code, "message": _text(told, *_TEXTS)})
    groq = told.get("x_groq")
    if is_object(groq) and says_something(error := groq.get("error")):
        return _named(error, groq)
    base = told.get("base_resp")
    if is_object(base) and says_something(base.get("status_code")):
        return {"code": base["status_code"], "message": _text(base, "status_msg")}
    if told.get("object") == "error" or told.get("type") == "error":
        return _plain({**told, "message": _text(told, *_TEXTS)})
    return _whole(told) if all(told.get(name) is None for name in _ANSWERS) else None


def error_beside(told: dict[str, Any]) -> Any:
    """The error in the fields that hold nothing else, whatever of an answer stands beside them; None for none."""
    for name in _NAMES:
        if says_something(value := told.get(name)):
            return _named(value, told)
    return None


def error_in_json(data: bytes) -> Any:
    """The same of a document of JSON; None for what is none."""
    try:
        return error_told(decode_answer(data))
    except MalformedJson:
        return None


def says_something(value: Any) -> bool:
    """Whether an `error` field tells of one: many hosts send it empty, false or full of nulls with each answer."""
    if is_object(value):
        return any(value.values())
    return any(value) if is_array(value) else bool(value)


def _named(value: Any, told: dict[str, Any]) -> Any:
    """What stands under a name of an error."""
    if is_array(value):
        value = next(each for each in value if each)
    if is_object(value):
        return _plain(value)
    beside = {name: told[name] for name in ("code", "type", "status", "status_code", "param") if says_something(told.get(name))}
    if isinstance(value, int) and not isinstance(value, bool):
        beside.setdefault("code", value)
    text = _text(told, *_TEXTS)
    if isinstance(value, str):
        # {"error": "rate_limit_exceeded", "message": "..."}: the first is the word, the second the text. Without a text it is both.
        word = {"type": value} if text or not any(letter.isspace() for letter in value) else {}
        beside, text = {**word, **beside}, text or value
    return _with_status({**beside, "message": text})


def _plain(error: dict[str, Any]) -> Any:
    """An error's fields under the names that `error_of` knows; of errors within one another the innermost, with what the outer ones add."""
    for _ in range(_DEEPEST):
        inner = next((error[name] for name in ("error", "message", "detail", "fault") if _is_error(error.get(name))), None)
        if inner is None:
            break
        error = {**{name: value for name, value in error.items() if value is not inner}, **_first(inner)}
    told = {name: value for name, value in error.items() if value is not None}
    if (kind := _text(told, *_TYPES)) is not None:
        told["type"] = kind
    return _with_status({**told, "message": _text(told, *_TEXTS)})


def _is_error(value: Any) -> bool:
    inner = _first(value)
    return any(says_something(inner.get(name)) for name in (*_NAMES, *_TEXTS, *_TYPES)) if inner else False


def _first(value: Any) -> dict[str, Any]:
    """An object, or the one in a list of one; empty for anything else."""
    if is_array(value) and len(value) == 1:
        value = value[0]
    return value if is_object(value) and "loc" not in value else {}


def _whole(told: dict[str, Any]) -> Any:
    """An object that is an error as a whole, as its names say."""
    for name in _RARE_NAMES:
        if says_something(value := told.get(name)):
            return _named(value, told)
    if says_something(detail := told.get("detail")):
        if is_array(detail) and any(is_object(each) and "loc" in each for each in detail):
            return _plain({**told, "message": detail, "status_code": 422})  # FastAPI: which fields of the request it refuses
        return _plain({**told, "message": detail})
    message = _text(told, *_TEXTS[:6])
    if not message:
        return _within(told)
    kind = next((told[name] for name in ("type", "__type", "status") if isinstance(told.get(name), str)), "").lower()
    marked = any(says_something(told.get(name)) for name in ("code", "status_code", "statusCode", "error_type", "param", *_OWN_TEXTS))
    failed = told.get("success") is False or any(word in kind for word in _WORDS)
    error = _plain({**told, "message": message})
    alone = not (told.keys() - {"message", "msg", "Message", "request_id", "requestId", "timestamp", "path"})
    return error if marked or failed or "status_code" in error or alone else None


def _within(told: dict[str, Any]) -> Any:
    """The error in an object within this one that holds nothing else, as gateways of clouds have it (`Response.Error`,
    `ResponseMetadata.Error`, `throttlingException`); or a problem of RFC 9457 with no more than a title."""
    for name, value in told.items():
        if not is_object(value):
            continue
        if (error := next((value[inner] for inner in (*_NAMES, *_RARE_NAMES) if says_something(value.get(inner))), None)) is not None:
            return _named(error, value)
        if name.lower().endswith(_WORDS[:2]) and _text(value, *_TEXTS):
            return _plain({"type": name, **value})
    title = _text(told, "title")
    error = _with_status({**told, "message": title})
    return error if title and "status_code" in error else None


def _with_status(error: dict[str, Any]) -> dict[str, Any]:
    """A status that is written as a text, or under another name, as a number under `status_code`."""
    if isinstance(error.get("status_code"), int):
        return error
    for name in _STATUSES:
        value = error.get(name)
        number = int(value) if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdecimal() else value
        if isinstance(number, int) and not isinstance(number, bool) and 400 <= number < 600:
            return {**error, "status_code": number}
    return error


def _text(told: dict[str, Any], *names: str) -> Any:
    """The first of these that says something: a text, or what `error_of` writes as one."""
    return next((told[name] for name in names if says_something(told.get(name)) and not isinstance(told[name], bool)), None)
