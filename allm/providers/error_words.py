"""What hosts say in place of a code: that a prompt is too long, and that a balance is spent. Pure tables, a host beside each wording.

A status does not tell: the same prompt is a 400, a 413, a 422, a 429 or a 500, by the host; a spent balance is a 400, 403 or 429.
The first table holds wordings that mean nothing else. Behind it one general rule takes what is said of the tokens of a prompt and
a limit, where the status is one of bad input. The texts of rate limits, which speak of tokens and limits too, are left to them.
"""

import re
from typing import Final

__all__ = ["is_spent", "is_too_long", "meant"]

_TOO_LONG: Final = (
    (r"maximum context length", "OpenAI, vLLM, OpenRouter, Mistral, DeepSeek"),
    (r"context[ _]?(?:length|size|window|limit)", "llama.cpp, SGLang, LM Studio, Ollama, MiniMax, Anthropic, Cloudflare, gateways"),
    (r"model context is \d", "dasllama"),
    (r"prompt (?:is )?too long", "Anthropic, Atlas, Ollama, Fireworks"),
    (r"prompt exceeds (?:the )?max(?:imum)? length", "z.ai"),
    (r"maximum prompt length", "xAI"),
    (r"prompt (?:length|token count)[^.\n]{0,40}\bexceed", "Copilot, AI21"),
    (r"input token count", "Gemini, Vertex (Gemma)"),
    (r"input tokens exceeded", "Amazon Nova"),
    (r"input (?:length|is|prompt)\b[^.\n]{0,60}\b(?:exceeds? the maximum|too long for)", "Poolside, Volcengine, Bedrock"),
    (r"range of input length should be", "DashScope"),
    (r"model(?:'s)? token limit", "Moonshot"),
    (r"max size: \d+ tokens", "GitHub Models"),
    (r"\binputs`? (?:tokens \+ `?max_new_tokens|must have less than \d+ tokens)", "TGI, Together"),
    (r"exceeds? (?:the )?max_seq_len", "Atlas"),
    (r"total length of all messages", "Perplexity"),
    (r"reduce the length of the (?:messages|prompt|input)", "OpenAI, Groq, Cerebras, DeepSeek"),
    (r"too many (?:input )?tokens", "Cohere, gateways"),
    (
        r"\b(?:prompt|input|sequence)[^.\n]{0,20} length\b[^\n]{0,60}\b(?:exceed(?:s|ed)?|(?:greater|longer|larger) than)\b"
        r"[^\n]{0,40}\b(?:max|limit|model)",
        "DeepInfra, TensorRT-LLM, TabbyAPI, Transformers",
    ),
    (r"\b(?:prompt|input)_tokens\b[^.\n]{0,40}\bexceed", "gateways"),
    (r"exceeds? (?:the )?max(?:imum)? message tokens", "Volcengine"),
    (r"(?:conversation|input message) is too long", "gateways"),
    (r"(?:prompt|输入|上下文)[^\n]{0,20}(?:超长|过长|超过|超出)", "Zhipu, Hunyuan, gateways"),
    (r"number of (?:input )?tokens in the prompt (?:cannot )?exceed", "Cohere"),
)  # fmt: skip

_SPENT: Final = (
    (r"insufficient (?:account |user )?(?:balance|credits?|funds)", "DeepSeek, z.ai, OpenRouter, MiniMax"),
    (r"(?:balance|credits?|funds) (?:is |are )?(?:too low|insufficient|not enough|exhausted|used up|depleted)", "Anthropic, SiliconFlow"),
    (r"(?:not enough|no|out of|run out of|ran out of|negative) (?:balance|credits|funds)\b", "Novita, Together, gateways"),
    (r"used all (?:of )?(?:your |its |the )?(?:available |included )*credits", "xAI, Hugging Face"),
    (r"(?:exceeded|depleted) your (?:monthly |available |included |prepaid )+credits", "Hugging Face"),
    (r"spending (?:limit|cap|quota)", "xAI, Fireworks, Gemini"),
    (r"overdue balance|overdue payment|account (?:is |has been )?(?:overdue|in arrears)|\barrearage\b", "Volcengine, DashScope, Qianfan"),
    (r"please (?:recharge|top[ -]?up)|add (?:more )?credits to your (?:account|balance)", "z.ai, gateways"),
    (r"make sure your account is in good standing", "DashScope"),
    (r"budget has been exceeded|\bexceededbudget\b|\bover budget\b", "LiteLLM"),
    (r"free (?:tier|quota|credits?|allocation)\b[^.\n]{0,40}\b(?:exhausted|used up)", "DashScope, gateways"),
    (r"used up your (?:daily |monthly )?free", "Cloudflare"),
    (r"(?:credit|key) limit exceeded|quota (?:is )?not enough|account balance is \$?0", "Together, OpenRouter, one-api, Chutes"),
    (r"reached your (?:specified )?(?:api |monthly )?usage limits?|monthly usage limit", "Anthropic, gateways"),
    (r"余额不足|额度不足|额度已用尽|额度失败|账户已?欠费|已欠费", "Zhipu, one-api, SiliconFlow"),
    (r"account (?:[\w-]+ )?(?:is |has been )?suspended[^.\n]{0,60}\b(?:billing|payment|invoice|balance|spending)", "Moonshot, Fireworks"),
)  # fmt: skip


def _any(table: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    return re.compile("|".join(wording for wording, _ in table), re.I)


_SAYS_TOO_LONG: Final = _any(_TOO_LONG)
_SAYS_SPENT: Final = _any(_SPENT)
_OF_A_PROMPT: Final = re.compile(r"\b(?:prompts?|inputs?|messages|conversation|context)\b", re.I)
_OF_TOKENS: Final = re.compile(r"\btokens?\b", re.I)
_OVER: Final = re.compile(
    r"\bexceed(?:s|ed|ing)?\b|\b(?:longer|larger|greater|more) than\b|\btoo (?:long|large|many|big)\b|"
    r"\bmust be (?:<=?|less|at most|no more)|\bno more than\b|\bonly supports? up to\b",
    re.I,
)  # fmt: skip
_OF_A_RATE: Final = re.compile(r"per[ -]?(?:second|minute|hour|day)|rate[ _-]?limit|\b[TRI]P[MD]\b", re.I)
_OF_THE_ANSWER: Final = re.compile(
    r"\bmax_(?:completion_|output_|new_)?tokens\b|\bmaxOutputTokens\b|\b(?:output|completion) tokens\b", re.I
)

_MEANT: Final = (
    ("rate_limited", re.compile(r"\brate[ _-]?limit|\btoo many requests\b|\bthrottl", re.I)),
    ("overloaded", re.compile(r"\boverloaded\b|\b(?:at|over) (?:full )?capacity\b", re.I)),
    ("authentication", re.compile(r"\b(?:invalid|incorrect|wrong|missing) api[ _-]?key\b|\bunauthori[sz]ed\b|\bnot authenticated\b", re.I)),
    ("not_found", re.compile(r"\bmodel\b[^.\n]{0,80}\b(?:not found|does not exist)\b", re.I)),
)
"""What a text alone tells, where an error has neither a status nor a word."""

_BAD_INPUT: Final = frozenset({None, 400, 413, 422})
_OVERFLOWS: Final = _BAD_INPUT | {429}
_NO_MONEY: Final = frozenset({None, 400, 401, 402, 403, 412, 429})
_LONGEST: Final = 4_000
"""Characters of a message that are read: it may quote the prompt."""


def is_too_long(status: int | None, message: str) -> bool:
    """Whether a host says that the prompt does not fit the model. A broken server (5xx) must say that a limit was exceeded, too."""
    text = message[:_LONGEST]
    if _SAYS_TOO_LONG.search(text):
        return status in _OVERFLOWS or (status is not None and status >= 500 and _OVER.search(text) is not None)
    return (
        status in _BAD_INPUT
        and all(said.search(text) for said in (_OF_A_PROMPT, _OF_TOKENS, _OVER))
        and not (_OF_A_RATE.search(text) or _OF_THE_ANSWER.search(text))
    )


def is_spent(status: int | None, message: str) -> bool:
    """Whether a host says that there is no money left: no wait of minutes mends it."""
    return status in _NO_MONEY and _SAYS_SPENT.search(message[:_LONGEST]) is not None


def meant(message: str) -> str | None:
    """The reason that the text alone tells of an error without a status and a word; None if it tells none."""
    text = message[:_LONGEST]
    return next((reason for reason, said in _MEANT if said.search(text)), None)
