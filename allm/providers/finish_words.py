"""The words with which providers and hosts say why an answer ended, and what each means here: one table for all wires.

Hosts borrow each other's words (a gateway to Claude says `end_turn` on the Chat wire, one to OpenAI says `length` on Anthropic's), so
that a table for each wire would take a cut, filtered or failed answer for something else. `tool_calls`, `TOOL-CALLS` and `toolCalls` are
one word.
"""

import re
from typing import Final

from allm.responses import FinishReason

__all__ = ["FINISH_WORDS", "finish_of", "is_reason", "later"]

_MEANINGS: Final[dict[FinishReason, str]] = {
    "stop": (
        "stop stop_sequence stop_token stop_str stop_word stop_string_found eos eos_token eos_token_id eos_found eos_token_found end_turn"
        " end_of_turn eot end_of_text complete completed finish finished done normal success succeeded"
    ),
    "length": (
        "length max_length max_tokens max_output_tokens max_completion_tokens max_new_tokens model_length token_limit limit error_limit"
        " context_length context_length_exceeded context_length_reached context_window_exceeded model_context_window_exceeded max_output"
        " maximum_tokens max_tokens_reached max_predicted_tokens_reached time_limit repetition repetition_truncation"
    ),
    "tool_calls": "tool_calls tool_call tool_use tool tools function_call function_calls function",
    "content_filter": (
        "content_filter content_filtered filtered refusal sensitive safety recitation blocklist blocked prohibited_content spii"
        " model_armor moderation guardrail guardrail_intervened policy_violation content_policy_violation error_toxic 7 8"
        " image_safety image_prohibited_content image_recitation language blacklist content_policy"
    ),
    "error": (
        "error failed failure network_error server_error internal_error internal_server_error upstream_error provider_error"
        " insufficient_system_resource overloaded server_overloaded engine_overloaded service_unavailable rate_limit rate_limit_exceeded"
        " rate_limited timeout abort aborted exception interrupted preempted expired model_unloaded"
    ),
    "cancelled": "cancelled canceled user_cancel user_cancelled user_stopped",
}
"""Ours: theirs. Beside the obvious: `sensitive`, `network_error` and `model_context_window_exceeded` are z.ai's,
`insufficient_system_resource` DeepSeek's, `model_length` Mistral's, `end_turn` also xAI's, `eos_token` and `stop_sequence` TGI's, `abort`
SGLang's and vLLM's, `repetition` vLLM's, `repetition_truncation` MiMo's, `error_limit`, `error_toxic` and `user_cancel` Cohere's,
`guardrail_intervened` Bedrock's, `blacklist` GigaChat's, `time_limit` watsonx's, `eos_found` and its like LM Studio's, `language` Gemini's,
and so are 7 and 8, where enums are numbers."""

FINISH_WORDS: Final[dict[str, FinishReason]] = {word: ours for ours, words in _MEANINGS.items() for word in words.split()}
"""theirs -> ours."""

_GOES_ON: Final = frozenset({"", "null", "none", "unspecified", "notfinished"})
"""What stands where a reason would, while there is none: hosts write a null as a text, enums have a word for it."""

_WORSE: Final[dict[FinishReason, int]] = {"error": 3, "content_filter": 2, "length": 1}

_SEPARATOR: Final = re.compile(r"[\W_]+")
_BARE: Final[dict[str, FinishReason]] = {_SEPARATOR.sub("", word): ours for word, ours in FINISH_WORDS.items()}


def finish_of(word: str | None) -> FinishReason:
    """Our word for theirs: `stop` where none is told of an answer that came to its end, `other` for a word that nobody knew. What follows
    a colon says more of it (`content_filter: RECITATION`)."""
    if not word:
        return "stop"
    return FINISH_WORDS.get(word) or _BARE.get(_bare(word)) or _BARE.get(_bare(word.partition(":")[0]), "other")


def is_reason(word: str) -> bool:
    """Whether this says that an answer ended, and is not how a host writes that it goes on."""
    return word in FINISH_WORDS or _bare(word) not in _GOES_ON


def later(known: str | None, word: str) -> str:
    """Which of two reasons that one answer was given counts: the later one, but it takes back no worse one."""
    return word if known is None or _WORSE.get(finish_of(word), 0) >= _WORSE.get(finish_of(known), 0) else known


def _bare(word: str) -> str:
    """A word as all write it; enums are told with their type's name before them (`FinishReason.STOP`)."""
    return _SEPARATOR.sub("", word.lower()).removeprefix("finishreason")
