"""Gemini generateContent: a neutral request -> the path and the body.

What depends on the model's generation is decided here, by its name; a name that tells none is taken for a recent one.
"""

import re
from typing import Any, Final
from urllib.parse import quote

from allm.engine import Engine
from allm.errors import ValidationError
from allm.providers.answer_ways import ANSWER_TOOL, recast
from allm.providers.gemini_contents import contents_of
from allm.providers.ids import dotted_name, wire_names
from allm.providers.tool_schemas import plain_object
from allm.requests import JsonSchema, Reasoning, Request, ToolSpec
from allm.wire_json import is_object

__all__ = ["gemini_body", "gemini_path", "generation"]

RECENT: Final = 99.0
_MOST_STOPS = 5

_BUDGETS = {"low": 1024, "medium": 8192, "high": 24576}  # tokens, as the vendor's own compatible endpoint takes these words
_NO_SCHEMA_BESIDE_TOOLS_BEFORE = 3.0
_LEVELS_FROM = 3.0
_THINKS_FROM = 2.5


def generation(model: str) -> float:
    """2.5 for `gemini-2.5-flash`; RECENT for a name that does not tell (`gemini-flash-latest`, a tuned model)."""
    match = re.search(r"gemini-([0-9]{1,2}(?:\.[0-9]{1,2})?)(?![0-9])", model)
    return float(match[1]) if match else RECENT


def gemini_path(model: str, base_url: str, stream: bool) -> str:
    """What follows the base URL, with a version unless that ends with one. Raises ValidationError for a model that is no name."""
    whole = model.startswith(("models/", "tunedModels/", "publishers/", "projects/"))
    segments = model.split("/") if whole else ["models", model]
    if any(segment.strip(".") == "" for segment in segments):
        raise ValidationError.at("model", f"expected the name of a model, got {model!r}")
    path = "/".join(quote(segment, safe="", errors="replace") for segment in segments)
    version = "" if re.search(r"/v[0-9]+[a-z0-9]*$", base_url) else "/v1beta"
    return f"{version}/{path}:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}"


def gemini_body(engine: Engine, request: Request) -> dict[str, Any]:
    """The body. Raises ValidationError for what the wire cannot carry. `prompt_cache` needs nothing: this provider caches by itself."""
    by_tool = engine.structured == "tool"  # a way of this wire's own
    request = request if by_tool else recast(request, engine.structured)
    model = request.model or engine.model
    age = generation(model)
    names = wire_names((tool.name for tool in request.tools), allowed=dotted_name)
    system, contents = contents_of(request.messages, model, age, names)
    body: dict[str, Any] = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    answer = _answer_tool(request, age, by_tool)
    if request.tools or answer:
        body["tools"] = [{"functionDeclarations": [_tool(tool, names.get(tool.name, tool.name)) for tool in (*request.tools, *answer)]}]
        if choice := _tool_choice(request, bool(answer), names):
            body["toolConfig"] = {"functionCallingConfig": choice}
    config = _config(request, model, age)
    if not answer:
        config |= _response_format(request.response_format)
    if config:
        body["generationConfig"] = config
    return body | {name: _joined(body.get(name), value) for name, value in request.options.items()}


def _joined(ours: Any, given: Any) -> Any:
    """An option that is an object (`generationConfig`, `toolConfig`) is joined with what the request says there."""
    return {**ours, **given} if is_object(ours) and is_object(given) else given


def _config(request: Request, model: str, age: float) -> dict[str, Any]:
    names = {"temperature": "temperature", "top_p": "topP", "max_tokens": "maxOutputTokens", "seed": "seed"}
    config = {told: value for name, told in names.items() if (value := getattr(request, name)) is not None}
    if len(request.stop) > _MOST_STOPS:
        raise ValidationError.at("stop", f"this wire takes at most {_MOST_STOPS}, got {len(request.stop)}")
    if request.stop:
        config["stopSequences"] = request.stop
    if request.reasoning is not None and (thinking := _thinking(request.reasoning, model, age)):
        config["thinkingConfig"] = thinking
    return config


def _thinking(reasoning: Reasoning, model: str, age: float) -> dict[str, Any]:
    """Levels from Gemini 3 on, budgets before; a number is a budget for all. The Pro models always think, as little as they can."""
    pro = "-pro" in model
    if isinstance(reasoning, int):
        return {"thinkingBudget": reasoning, **({"includeThoughts": True} if reasoning else {})}
    if reasoning == "none":
        if age >= _LEVELS_FROM:
            return {"thinkingLevel": "low" if pro else "minimal"}
        return {"thinkingBudget": 128 if pro else 0} if age >= _THINKS_FROM else {}
    if age < _LEVELS_FROM:
        return {"thinkingBudget": _BUDGETS[reasoning], "includeThoughts": True}
    if reasoning == "medium" and re.search(r"gemini-3-pro", model):
        reasoning = "high"  # the first of them knows low and high only
    return {"thinkingLevel": reasoning, "includeThoughts": True}


def _tool(tool: ToolSpec, name: str) -> dict[str, Any]:
    """Without parameters where the tool has none: an object without properties is refused."""
    declaration: dict[str, Any] = {"name": name}
    if tool.description:
        declaration["description"] = tool.description
    if tool.schema:
        declaration["parametersJsonSchema"] = plain_object(tool.schema)
    return declaration


def _tool_choice(request: Request, answers: bool, wired: dict[str, str]) -> dict[str, Any] | None:
    """With a tool for the answer every turn is a call: of that one, or of those that the request allows."""
    choice, names = request.tool_choice, list(wired.values())
    match choice:
        case None | "auto":
            return {"mode": "ANY"} if answers else None if choice is None else {"mode": "AUTO"}
        case "none":
            return {"mode": "ANY", "allowedFunctionNames": [ANSWER_TOOL]} if answers else {"mode": "NONE"}
        case "required":
            return {"mode": "ANY", "allowedFunctionNames": names or [ANSWER_TOOL]} if answers else {"mode": "ANY"}
        case _:
            return {"mode": "ANY", "allowedFunctionNames": [wired.get(choice, choice)]}


def _answer_tool(request: Request, age: float, by_tool: bool) -> tuple[ToolSpec, ...]:
    """Older models refuse a schema for the answer while there are tools."""
    form = request.response_format
    if not isinstance(form, JsonSchema):
        return ()
    if not by_tool and (not request.tools or age >= _NO_SCHEMA_BESIDE_TOOLS_BEFORE):
        return ()
    return (ToolSpec(ANSWER_TOOL, f"Gives the final answer ({form.name}). Call it once, when no other tool is needed.", form.schema),)


def _response_format(form: Any) -> dict[str, Any]:
    if isinstance(form, JsonSchema):
        return {"responseMimeType": "application/json", "responseJsonSchema": form.schema}
    return {"responseMimeType": "application/json"} if form == "json" else {}
