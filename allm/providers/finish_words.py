"""The words with which providers and hosts say why an answer ended, and what each means here: one table for all wires.

Hosts borrow each other's words (a gateway to Claude says `end_turn` on the Chat wire, one to OpenAI says `length` on Anthropic's), so
that a table for each wire would take a cut, filtered or failed answer for something else. `tool_calls`, `TOOL-CALLS` and `toolCalls` are
one word.
"""

import re
from typing import Final

from allm.responses import FinishReason

__all__ = ["FINISH_WORDS", "finish_of"]

_MEANINGS: Final[dict[FinishReason, str]] = {
    "stop": (
        "stop stop_sequence stop_token stop_str stop_word eos eos_token eos_token_id end_turn end_of_turn eot complete completed finish"
        " finished done"
    ),
    "length": (
        "length max_length max_tokens max_output_tokens max_completion_tokens max_new_tokens model_length token_limit limit error_limit"
        " context_length context_length_exceeded context_window_exceeded model_context_window_exceeded"
    ),
    "tool_calls": "tool_calls tool_call tool_use function_call function_calls",
    "content_filter": (
        "content_filter content_filtered filtered refusal sensitive safety recitation blocklist blocked prohibited_content spii"
        " model_armor moderation guardrail guardrail_intervened policy_violation content_policy_violation error_toxic 7 8"
        " image_safety image_prohibited_content image_recitation"
    ),
    "error": "error failed failure network_error server_error internal_error insufficient_system_resource overloaded timeout abort aborted",
    "cancelled": "cancelled canceled",
}
"""Ours: theirs. Beside the obvious: `sensitive`, `network_error` and `model_context_window_exceeded` are z.ai's,
`insufficient_system_resource` DeepSeek's, `model_length` Mistral's, `end_turn` also xAI's, `eos_token` and `stop_sequence` TGI's, `abort`
SGLang's and vLLM's, `error_limit` and `error_toxic` Cohere's, `guardrail_intervened` Bedrock's, 7 and 8 Gemini's with enums as numbers."""

FINISH_WORDS: Final[dict[str, FinishReason]] = {word: ours for ours, words in _MEANINGS.items() for word in words.split()}
"""theirs -> ours."""

_SEPARATOR: Final = re.compile(r"[\W_]+")
_BARE: Final[dict[str, FinishReason]] = {_SEPARATOR.sub("", word): ours for word, ours in FINISH_WORDS.items()}


def finish_of(word: str | None) -> FinishReason:
    """Our word for theirs: `stop` where none is told of an answer that came to its end, `other` for a word that nobody knew."""
    return FINISH_WORDS.get(word) or _BARE.get(_SEPARATOR.sub("", word.lower()), "other") if word else "stop"
