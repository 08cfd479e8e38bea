"""The ways to ask for an answer by a schema, which `Engine.structured` names, and how a host says that it does not have one.

    schema   the wire's own way: `json_schema` on OpenAI's wires, what the model's version has on the others
    json     JSON mode, with the schema told in a system message
    tool     a tool whose arguments are the answer; it never runs, and its call is text in the response

`auto` takes the wire's own way. A host that refuses it is asked again in the next one, in the order of `WAYS`: JSON mode comes before the
tool because nearly all hosts without `json_schema` have it (DeepSeek, llama-cpp-python, Moonshot, Groq's older models), and it leaves the
request's own tools as they are; a tool can be forced on fewer of them (not on reasoning models of DeepSeek and Qwen, not without a tool
parser), but is what is left where JSON mode is refused (LM Studio; Groq beside tools).
"""

import re
from typing import Final

import msgspec
from msgspec.structs import replace

from allm.errors import ErrorInfo, ValidationError
from allm.messages import system
from allm.providers.openai_chat_hosts import host_of, is_vendor
from allm.requests import JsonSchema, Request, ToolSpec

__all__ = ["ANSWER_TOOL", "WAYS", "by_a_tool", "recast", "refuses", "ways_at"]

WAYS: Final = ("schema", "json", "tool")

ANSWER_TOOL: Final = "allm_answer"
"""The tool whose arguments are the answer."""

_TOLD: Final = (
    "Give your answer as JSON that fits the JSON Schema below, and write nothing else: no words around it and no code fence.\n\n"
    "JSON Schema of the answer ({name}):\n{schema}"
)


def ways_at(base_url: str) -> tuple[str, ...]:
    """The ways that are worth trying at this address of an OpenAI wire. The vendor's own refusals are about the schema or the model."""
    return WAYS[:1] if is_vendor(host_of(base_url)) else WAYS


def by_a_tool(request: Request, way: str) -> bool:
    """Whether the answer of this request is asked for as the arguments of a tool."""
    return way == "tool" and type(request.response_format) is JsonSchema


def recast(request: Request, way: str) -> Request:
    """The request as it asks for an answer by a schema in this way; itself where it asks for none, or in the wire's own way."""
    form = request.response_format
    if way not in ("json", "tool") or not isinstance(form, JsonSchema):
        return request
    return _as_json(request, form) if way == "json" else _as_tool(request, form)


def _as_json(request: Request, form: JsonSchema) -> Request:
    """JSON mode. The schema is told behind the instructions, where it is the same in each request of a conversation (prompt caches)."""
    messages = request.messages
    place = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    told = system(_TOLD.format(name=form.name, schema=msgspec.json.encode(form.schema).decode()))
    return replace(request, response_format="json", messages=(*messages[:place], told, *messages[place:]))


def _as_tool(request: Request, form: JsonSchema) -> Request:
    """The answer's tool beside the others. The model must call it, or one of them where it may."""
    for i, tool in enumerate(request.tools):
        if tool.name == ANSWER_TOOL:
            raise ValidationError.at(f"tools[{i}].name", f"{tool.name!r} is the tool by which answers are given; choose another name")
    tool = ToolSpec(ANSWER_TOOL, f"Gives the final answer ({form.name}).", form.schema)
    choice = request.tool_choice
    if not request.tools or choice == "none":
        choice = ANSWER_TOOL
    elif choice in (None, "auto"):
        choice = "required"
    return replace(request, response_format=None, tools=(*request.tools, tool), tool_choice=choice)


# Refusals

_STATUSES: Final = frozenset({None, 400, 404, 415, 422, 500, 501})
_REASONS: Final = frozenset({"invalid_request", "not_found", "server_error"})
"""A refusal is one of these; what has a reason of its own (a spent quota, a prompt too long) is about something else."""

_NAMES: Final = (
    r"response[ _.-]?formats?|json[ _-]schemas?|json[ _-]?objects?|json[ _-]mode|structured[ _-](?:outputs?|generation|decoding)|"
    r"guided[ _-](?:json|decoding|generation)|constrained[ _-](?:outputs?|decoding|generation)|\bgrammars?\b|text\.format|"
    r"requested parameters"
)
_OF_TOOLS: Final = r"\btools?\b|tool_choice|function[ _-]call(?:s|ing)?"
_NO: Final = (
    r"\b(?:un|not )(?:yet )?(?:support(?:ed|s)?|available|implemented|allowed|permitted|enabled|recogni[sz]ed|known|expected|compatible)\b|"
    r"\b(?:does|do|is|are|can)(?:n't| not)\b|\bcannot\b|\binvalid\b|\bno support\b|\bonly supports?\b|"
    r"\b(?:must|should) be\b|\bexpected\b|\bextra (?:inputs|fields)\b|\bnot (?:a )?valid\b|\bunknown\b|\bunrecogni[sz]ed\b|\brequires?\b|"
    r"\bno (?:endpoints?|models?|providers?)\b"
)
_NEAR: Final = 100
"""Characters at most between what is refused and the word that refuses it."""
_LONGEST: Final = 4_000
"""Characters of a message that are read: it may quote the request."""

_QUOTED: Final = re.compile(r"[\"']input[\"']\s*:|\binput_value=")
"""What follows is the request, as FastAPI and Pydantic quote it."""
_OF_THE_SCHEMA: Final = re.compile(
    r"invalid (?:json )?schema\b|invalid_json_schema|schema conversion|unrecognized schema|(?:parse|compile|convert)\w* (?:the )?"
    r"(?:grammar|json schema|schema)|additionalproperties",
    re.I,
)
"""The host has the way, and this schema is what is wrong."""


def _refusal(names: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{names})[\s\S]{{0,{_NEAR}}}?(?:{_NO})|(?:{_NO})[\s\S]{{0,{_NEAR}}}?(?:{names})", re.I)


_REFUSES: Final = _refusal(_NAMES)
_REFUSES_TOOLS: Final = _refusal(f"{_NAMES}|{_OF_TOOLS}")


def refuses(error: ErrorInfo, way: str) -> bool:
    """Whether a host says that it cannot be asked for an answer in this way. A schema that it finds wrong is another matter."""
    if error.status not in _STATUSES or error.reason not in _REASONS:
        return False
    param, relayed, code = (str(error.metadata.get(name) or "") for name in ("param", "relayed", "code"))
    said = f"{_unquoted(error.message)}\n{_unquoted(relayed)}"
    if _OF_THE_SCHEMA.search(f"{said}\n{code}\n{param}"):
        return False
    if param.startswith(("response_format", "text.format")) or (way == "tool" and param.startswith("tool")):
        return True
    return (_REFUSES_TOOLS if way == "tool" else _REFUSES).search(said) is not None


def _unquoted(text: str) -> str:
    """What the host says itself."""
    return _QUOTED.split(text[:_LONGEST], maxsplit=1)[0]
