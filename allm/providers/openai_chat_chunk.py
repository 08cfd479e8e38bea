"""OpenAI Chat Completions: the typed chunk of an answer, and its usage in our terms.

Only what is read is typed. What one host in a hundred sends stays `Any`, and is looked at where it stands.
"""

from typing import Any, Final, TypeAlias

import msgspec

from allm.providers.decoding import noted
from allm.providers.usage_counts import counted, settled, tokens
from allm.usage import Usage
from allm.wire_json import is_object

__all__ = ["Call", "Choice", "Chunk", "Delta", "Function", "counts", "decode_chunk", "joined", "usage_of"]


class Function(msgspec.Struct, gc=False):
    """The function that a call names. Some hosts send the arguments as an object in place of a text."""

    name: str | None = None
    arguments: Any = None


class _Custom(msgspec.Struct, gc=False):
    name: str | None = None
    input: str | None = None


class Call(msgspec.Struct):
    """A tool call, or a piece of one."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None
    custom: _Custom | None = None
    extra_content: Any = None


class Delta(msgspec.Struct):
    """What a chunk adds to the message, or (in one body) the message."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None
    reasoning_details: Any = None
    thinking_blocks: Any = None
    images: Any = None
    annotations: Any = None
    audio: Any = None
    error: Any = None


_Word: TypeAlias = str | msgspec.UnsetType | None


class Choice(msgspec.Struct):
    """One of the answers; only the first is read."""

    index: int | None = 0
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: _Word = msgspec.UNSET
    error: Any = None
    usage: dict[str, Any] | None = None


class Chunk(msgspec.Struct):
    """An event of a stream, or a whole body."""

    id: Any = None
    model: str | None = None
    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    errors: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None
    citations: Any = None
    search_results: Any = None
    x_groq: Any = None


decode_chunk = msgspec.json.Decoder(Chunk).decode


def _cost(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _dict(value: Any) -> dict[str, Any]:
    return value if is_object(value) else {}


def _details(told: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        details = told.get(name)
        if details and is_object(details):
            return details
    return {}


def counts(told: dict[str, Any]) -> bool:
    """Whether anything was counted: some hosts end with a chunk of zeros."""
    return bool(told) and any(told.get(name) for name in _COUNTS)


def joined(before: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """Usage that is told in parts, or told again with zeros: the last count of each thing that says something."""
    return {**before, **{name: value for name, value in told.items() if value or name not in before}} if before else told


def usage_of(told: dict[str, Any]) -> Usage:
    """Usage in the library's terms; what has no place there goes to `extra`. Costs as OpenRouter and Perplexity report them. Gateways
    to other vendors use their names: Anthropic's count cached tokens beside `input_tokens`."""
    if not told:
        return Usage()
    prompt, completion = _details(told, "prompt_tokens_details", "input_tokens_details"), _details(told, *_WRITTEN)
    cached = counted(prompt.get("cached_tokens"), *map(told.get, _READ))
    written = counted(*map(prompt.get, _WROTE), *map(told.get, _WROTE))
    thought = counted(completion.get("reasoning_tokens"), told.get("reasoning_tokens"))
    given = counted(told.get("prompt_tokens"), told.get("input_tokens"))
    if given is not None and not told.get("prompt_tokens") and "input_tokens_details" not in told:
        given += sum(tokens(told.get(name)) or 0 for name in ("cache_read_input_tokens", "cache_creation_input_tokens"))
    output = counted(told.get("completion_tokens"), told.get("output_tokens"))
    given, output, total = settled(given, output, tokens(told.get("total_tokens")), thought, (cached, written))
    cost = told.get("cost")
    costs = _dict(cost)
    return Usage(
        input_tokens=given,
        output_tokens=output,
        cached_input_tokens=cached,
        cache_write_input_tokens=written,
        reasoning_tokens=thought,
        total_tokens=total,
        input_cost=_cost(costs.get("input_tokens_cost")),
        output_cost=_cost(costs.get("output_tokens_cost")),
        total_cost=_cost(costs.get("total_cost") if costs else cost),
        extra=noted({**_rest(told, _KNOWN_USAGE), **_rest(prompt, _KNOWN_PROMPT), **_rest(completion, _KNOWN_COMPLETION)}),
    )


_COUNTS: Final = ("total_tokens", "completion_tokens", "prompt_tokens", "output_tokens", "input_tokens")
_READ: Final = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "num_cached_tokens")
"""What cached tokens are called beside the counts: Moonshot's and Together's, DeepSeek's, LiteLLM's and Databricks', Mistral's."""
_WROTE: Final = ("cache_write_tokens", "cache_creation_input_tokens", "cache_creation_tokens")
"""And written ones, there or in the details: OpenRouter's, LiteLLM's and DashScope's."""
_WRITTEN: Final = ("completion_tokens_details", "output_tokens_details")
_KNOWN_USAGE = frozenset({
    *_COUNTS, *_READ, *_WROTE, *_WRITTEN, "cost", "prompt_tokens_details", "input_tokens_details", "prompt_cache_miss_tokens",
    "reasoning_tokens",
})  # fmt: skip
_KNOWN_PROMPT = frozenset({"cached_tokens", *_WROTE})
_KNOWN_COMPLETION = frozenset({"reasoning_tokens"})


def _rest(told: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """What was counted and has no field of its own."""
    if told.keys() <= known:  # nearly always, and decided in C
        return {}
    return {name: value for name, value in told.items() if value and name not in known}
