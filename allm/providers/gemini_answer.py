"""What a Gemini answer consists of: the typed chunk, its media, the words for its end, and the usage.

What is needed once an answer only (usage, ratings, grounding) stays raw until the end: usage comes with every chunk.
"""

from typing import Any, Final, TypeAlias

import msgspec

from allm.errors import ValidationError
from allm.images import Image
from allm.messages import FilePart, ImagePart
from allm.providers.decoding import noted
from allm.providers.finish_words import is_reason
from allm.providers.loose import bytes_of, decode_answer
from allm.providers.usage_counts import settled, tokens
from allm.usage import Usage
from allm.wire_json import MalformedJson, decode, encode, is_array, is_object

__all__ = [
    "EXTRAS", "Candidate", "Chunk", "FunctionCall", "Part", "block_word", "chunk_of", "chunks_of", "finish_word", "is_whole",
    "loose_part", "media_of", "usage_of", "within_limits",
]  # fmt: skip

# With `enum-encoding=int` enums are numbers. The two services number the finish reasons alike up to 5 only; 7 and 8 mean a filter on both.
_FINISH_BY_NUMBER = {1: "STOP", 2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION", 5: "OTHER"}
_BLOCK_BY_NUMBER = {1: "SAFETY", 2: "OTHER", 3: "BLOCKLIST", 4: "PROHIBITED_CONTENT"}

_NOTHING: Final = msgspec.Raw()


class FunctionCall(msgspec.Struct, gc=False):
    """A call, whole; or a piece of one (`willContinue`, `partialArgs`)."""

    id: str | None = None
    name: str | None = None
    args: msgspec.Raw = _NOTHING
    partialArgs: list[Any] | None = None
    willContinue: bool | None = None


class Blob(msgspec.Struct, gc=False):
    """Bytes as base64."""

    data: str | None = None
    mimeType: str | None = None


class FileData(msgspec.Struct, gc=False):
    """A file by its address."""

    fileUri: str | None = None
    mimeType: str | None = None


class Part(msgspec.Struct, gc=False):
    """A part of an answer. One with none of these fields, or an empty text, is told apart by reading it loosely."""

    text: str | None = None
    thought: bool | None = None
    thoughtSignature: str | None = None
    functionCall: FunctionCall | None = None
    inlineData: Blob | None = None
    fileData: FileData | None = None
    executableCode: msgspec.Raw = _NOTHING
    codeExecutionResult: msgspec.Raw = _NOTHING

    def is_plain(self) -> bool:
        """Whether it is nothing but a text or a call. (Two of these fields are one only where neither came: a comparison less, for each
        piece of text.)"""
        return self.inlineData is None and self.executableCode is self.codeExecutionResult and self.fileData is None


class _Content(msgspec.Struct, gc=False):
    parts: list[Part] | None = None


class Candidate(msgspec.Struct, gc=False):
    """One of the answers; only the first is read."""

    index: int | None = None
    content: _Content | None = None
    finishReason: str | int | None = None
    finishMessage: str | None = None
    safetyRatings: msgspec.Raw = _NOTHING
    citationMetadata: msgspec.Raw = _NOTHING
    groundingMetadata: msgspec.Raw = _NOTHING
    urlContextMetadata: msgspec.Raw = _NOTHING
    avgLogprobs: msgspec.Raw = _NOTHING
    logprobsResult: msgspec.Raw = _NOTHING
    error: Any = None

    def says_no_more(self) -> bool:
        """Whether none of EXTRAS came: each is the one default then. Nearly every chunk is such a one."""
        return (
            self.groundingMetadata is _NOTHING
            and self.safetyRatings is _NOTHING
            and self.citationMetadata is _NOTHING
            and self.urlContextMetadata is _NOTHING
            and self.avgLogprobs is _NOTHING
            and self.logprobsResult is _NOTHING
        )


EXTRAS: Final = ("safetyRatings", "citationMetadata", "groundingMetadata", "urlContextMetadata", "avgLogprobs", "logprobsResult")
"""What a candidate has beside its content."""


class Chunk(msgspec.Struct, gc=False):
    """An event of a stream, or a whole body."""

    candidates: list[Candidate] | None = None
    promptFeedback: msgspec.Raw = _NOTHING
    usageMetadata: msgspec.Raw = _NOTHING
    modelVersion: str | None = None
    responseId: str | None = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(Chunk).decode
_decode_loosely = msgspec.json.Decoder(Chunk, strict=False).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def chunk_of(data: bytes) -> Chunk:
    """The chunk. Raises MalformedJson for what is no JSON, msgspec.ValidationError for what is not of this wire."""
    try:
        return _decode_chunk(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_loosely(encode(_pruned(decode_answer(data))))


_Fields: TypeAlias = "dict[str, type | tuple[type, ...] | _Fields]"

_CALL: Final[_Fields] = {"id": (str, int), "partialArgs": list, "willContinue": (bool, str, int)}
_FILE: Final[_Fields] = {"mimeType": str}
_PART: Final[_Fields] = {
    "thought": bool, "thoughtSignature": str, "functionCall": _CALL,
    "inlineData": {**_FILE, "data": str}, "fileData": {**_FILE, "fileUri": str},
}  # fmt: skip
_CANDIDATE: Final[_Fields] = {"index": (int, str), "finishMessage": str, "finishReason": (str, int), "content": {"parts": list}}
_CHUNK: Final[_Fields] = {"modelVersion": str, "responseId": (str, int)}


def _pruned(told: Any) -> Any:
    """A chunk that the typed decoder refused, without the fields that are of another type than this wire's. What a part says must be
    right all the same: half an answer is none."""
    chunk = _right(told, _CHUNK)
    if is_object(chunk) and is_object(one := chunk.get("candidates")):
        chunk["candidates"] = [one]
    if not is_object(chunk) or not is_array(chunk.get("candidates")):
        return chunk
    chunk["candidates"] = [_pruned_candidate(each) if is_object(each) else {} for each in chunk["candidates"]]
    return chunk


def _pruned_candidate(told: dict[str, Any]) -> dict[str, Any]:
    content = told.get("content")
    parts: Any = content if isinstance(content, str) else content.get("parts") if is_object(content) else None
    if isinstance(parts, str) or (is_array(parts) and any(isinstance(part, str) for part in parts)):
        texts: list[Any] = [parts] if isinstance(parts, str) else parts
        told = {**told, "content": {"parts": [{"text": part} if isinstance(part, str) else part for part in texts]}}
    candidate: dict[str, Any] = _right(told, _CANDIDATE)
    if isinstance(index := candidate.get("index"), str) and not (index.isascii() and index.isdecimal()):
        del candidate["index"]
    kept: dict[str, Any] = candidate.get("content") or {}
    if "parts" in kept:
        kept["parts"] = [_right(part, _PART) if is_object(part) else {} for part in kept["parts"]]
    return candidate


def _right(told: Any, fields: _Fields) -> Any:
    """The object without those of `fields` that have another type; ids that are numbers as text, one object for a list of one."""
    if not is_object(told):
        return told
    kept: dict[str, Any] = {}
    for name, value in told.items():
        kind = fields.get(name)
        if isinstance(kind, dict):
            if is_array(value) and len(value) == 1:
                value = value[0]
            if is_object(value):
                kept[name] = _right(value, kind)
        elif kind is list and is_object(value):
            kept[name] = [value]
        elif kind is None or (isinstance(value, kind) and (kind is bool or kind == (bool, str, int) or not isinstance(value, bool))):
            kept[name] = str(value) if name in ("id", "responseId") and isinstance(value, int) else value
    return kept


def chunks_of(data: bytes) -> list[bytes]:
    """The chunks of a stream that came as one array. Raises MalformedJson."""
    try:
        return [bytes(raw) for raw in _decode_array(data)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [encode(each) for each in decode_answer(data)]


def finish_word(told: str | int | None) -> str | None:
    """The word for the end; None while there is none."""
    if isinstance(told, int):
        return _FINISH_BY_NUMBER.get(told, str(told)) if told else None
    return told if told and is_reason(told) else None


def block_word(told: Any) -> str | None:
    """The word for why a prompt was refused; None if it was not."""
    if isinstance(told, int):
        return _BLOCK_BY_NUMBER.get(told, str(told)) if told else None
    return told if isinstance(told, str) and told and not told.endswith("UNSPECIFIED") else None


def usage_of(data: msgspec.Raw | None, before: msgspec.Raw | None = None) -> Usage:
    """Usage in the library's terms. The wire counts thoughts beside the candidates' tokens, what its own tools gave the model to read
    beside the prompt's (in all recordings the total is the sum of the four), and leaves out what is zero. Where the total is without the
    thoughts, they are in the candidates' already. `before` is what was told of it earlier: it counts where the last word is of nothing."""
    told = _read(data)
    if not is_object(told) or not any(tokens(told.get(name)) for name in _COUNTS):
        told = _read(before) if before is not None else told
    if not is_object(told):
        return Usage()
    answer, thoughts, total = (tokens(told.get(name)) for name in ("candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount"))
    prompt, shown = tokens(told.get("promptTokenCount")), tokens(told.get("toolUsePromptTokenCount"))
    given = None if prompt is None and shown is None else (prompt or 0) + (shown or 0)
    output = None if answer is None and thoughts is None else (answer or 0) + (thoughts or 0)
    if thoughts and answer is not None and total == (given or 0) + answer and thoughts <= answer:
        output = answer
    if given is not None and total and (output is not None or total > given):
        given, output, total = settled(given, output or 0, total, thoughts)
    return Usage(
        input_tokens=given,
        output_tokens=output,
        cached_input_tokens=tokens(told.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
        total_tokens=total,
        extra=noted({name: value for name, value in told.items() if value and name not in _KNOWN}),
    )


_COUNTS: Final = ("totalTokenCount", "promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
_KNOWN = frozenset({"promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "cachedContentTokenCount", "totalTokenCount"})


def within_limits(told: dict[str, msgspec.Raw]) -> dict[str, Any]:
    """What the provider said beside its answer, without what says nothing and what no value of ours may hold."""
    read = {name: _read(data) for name, data in told.items()}
    return noted({name: value for name, value in read.items() if value or value == 0})


def _read(data: msgspec.Raw | None) -> Any:
    try:
        return decode_answer(bytes(data)) if data is not None else None
    except MalformedJson:
        return None


def media_of(part: Part) -> ImagePart | FilePart | None:
    """An image or a file; None for a thought's, and for what cannot be read."""
    blob, file = part.inlineData, part.fileData
    if part.thought:
        return None
    if file is not None and file.fileUri:
        return FilePart(url=file.fileUri, mime=file.mimeType)
    if blob is None or not blob.data:
        return None
    try:
        data = bytes_of(blob.data)
        if (blob.mimeType or "image/").startswith("image/"):
            return ImagePart(Image(data=data, mime=blob.mimeType))
        return FilePart(data=data, mime=blob.mimeType)
    except (ValueError, ValidationError):
        return None


def loose_part(data: bytes, place: int, number: int) -> dict[str, Any]:
    """A part with all of its fields."""
    try:
        told = decode(data)["candidates"][place]["content"]["parts"][number]
    except (KeyError, IndexError, TypeError):
        return {}
    return told if is_object(told) else {}


def is_whole(data: bytes) -> bool:
    """Whether what came last came to its end."""
    try:
        told = decode(data)
    except MalformedJson:
        return False
    return is_object(told) or is_array(told)
