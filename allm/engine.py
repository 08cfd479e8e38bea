"""The engine: which model, over which wire, with what defaults. Frozen, plain data, and it never holds a key that could travel."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from msgspec import convert, to_builtins
from msgspec.structs import asdict, force_setattr, replace

from allm.callables import Importable, as_importable, described, is_findable, path_of
from allm.errors import EngineError, ValidationError
from allm.freezing import freeze_dict
from allm.history import KeepLast, TokenBudget
from allm.masking import MASK, Guarded, KeyRing, masked_address, shown_fields, unseen
from allm.plain import Value
from allm.requests import ToolSpec
from allm.retry import Retry
from allm.settings import Http, Timeouts
from allm.structured import as_format
from allm.tools import Tool, as_tool, source_of
from allm.trust import is_untrusted, named_code, reading

__all__ = ["BUILT_IN", "Engine", "merge_tools", "split_model"]

BUILT_IN = ("openai", "openai.chat", "openai.responses", "anthropic", "gemini", "fake", "sim")
"""Adapters that come with the library. Others register by the entry-point group `allm.adapters`, or as `"package.module:Class"`."""

_AT = re.compile(r"(.+)@([a-z][\w.]*)")
_PATH = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")
_NAMED = ("history", "keys", "tool_executor", "tool_result_encoder")
_CALLABLES = ("instructions", *_NAMED)
_ADAPTERS = ("image_adapter", "embed_adapter", "moderation_adapter")
_FUNCTIONS = ("halt_when", "on_tool_error")
_POLICIES = ("continue", "halt")
_STRUCTURED = ("auto", "schema", "tool", "json")
_UNSAID = ("structured", "auto")


def split_model(text: str) -> tuple[str, str]:
    """(adapter, model) of `adapter:model` or `model@adapter`. Raises ValidationError."""
    head, colon, model = text.partition(":")
    at = _AT.fullmatch(text)
    if at and head.split(".")[0] not in {name.split(".")[0] for name in BUILT_IN}:
        return at[2], at[1]
    if not colon or not head:
        raise ValidationError.at("engine", f"expected 'adapter:model' or 'model@adapter', got {text!r}")
    return head, model


def merge_tools(first: Sequence[Any], second: Sequence[Any]) -> tuple[Tool | ToolSpec, ...]:
    """Both, in order, functions made tools; one of `second` replaces its namesake of `first`.

    Raises ValidationError where a tool that a server offers has the name of one that is not that server's: whoever runs the server would
    take the place of a tool that the user trusts.
    """
    found: dict[str, Tool | ToolSpec] = {}
    for tool in map(as_tool, (*first, *second)):
        source = source_of(tool)
        if source is not None and tool.name in found and source_of(found[tool.name]) != source:
            raise ValidationError.at(
                f"tools.{tool.name}",
                f"{source.told} offers a tool of this name, and there is another one already: "
                "give the server a prefix, as in allm.mcp.Server.stdio(..., prefix='x_'), or leave its tool out",
            )
        found[tool.name] = tool
    return tuple(found.values())


class _Named(Guarded):
    """Lets an engine be made from `"adapter:model"`; decoding and `replace` do not come this way."""

    def _made(cls, args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
        if len(args) > 1:
            raise TypeError("an engine is made of its name, 'adapter:model', and keywords")
        name = fields.pop("name", None) if not args else args[0]
        if name is not None:
            if "adapter" in fields or "model" in fields:
                raise TypeError("an engine is named by 'adapter:model', or by adapter= and model=, not both")
            fields["adapter"], fields["model"] = split_model(name)
        elif not fields.get("adapter"):
            raise ValidationError.at("engine", "which adapter? Expected Engine('adapter:model') or Engine(adapter=..., model=...)")
        _known(fields.get("params"))
        return super()._made((), fields)


_PARAMS = frozenset({
    "model", "tool_choice", "temperature", "top_p", "max_tokens", "stop", "seed", "reasoning", "response_format", "prompt_cache", "options",
    "max_turns", "mode", "on_tool_error", "halt_when", "structured_finalize", "structured_finalize_nudge", "max_reasks", "wire",
})  # fmt: skip
_SECRETS = frozenset({"api_key", "key", "keys"})
_ENCODED = ("__dataclass_fields__", "__struct_fields__", "__attrs_attrs__")
"""What the classes have whose objects msgspec encodes."""


def _known(params: Any) -> None:
    if isinstance(params, Mapping) and (unknown := {str(name) for name in cast("Mapping[Any, Any]", params)} - _PARAMS):
        raise TypeError(f"unknown params {sorted(unknown)}; what only the provider knows goes into params={{'options': {{...}}}}")


class Engine(Value, frozen=True, kw_only=True, metaclass=_Named):
    """`Engine("openai.chat:gpt-4.1-mini")`, or `Engine(adapter="openai.chat", model="gpt-4.1-mini")`, and defaults for its calls.

    JSON when its callables are importable; with keys in `keys`, or credentials in `http`, it refuses to be serialised, and `repr` shows
    `***`. A pickle is for trusted processes: whoever can write one runs code in whoever reads it. `msgspec.json.encode` and its like
    know nothing of all this; they refuse the mapping in `keys`, and show the headers of `http`.

    `structured` is the way to ask for an answer by a schema (`response_format`): `schema`, the wire's own (`json_schema` on OpenAI's);
    `json`, JSON mode with the schema told in a system message; `tool`, a tool that the model must call and whose arguments are the
    answer, shown as text and never as a call. `auto` is the wire's own way; a host other than api.openai.com that speaks an OpenAI wire
    and refuses it is asked again at once in JSON mode, then by the tool, and the way that worked is taken from then on for this adapter,
    address and model by the runtime. If all are refused, the first refusal is the error.
    """

    adapter: str
    model: str = ""
    instructions: Any = None
    base_url: str | None = None
    tools: tuple[Any, ...] = ()
    params: dict[str, Any] = {}
    context: dict[str, Any] = {}
    retry: Retry = Retry()
    timeouts: Timeouts = Timeouts()
    http: Http = Http()
    history: Any = None
    keys: Any = None
    tool_executor: Any = None
    tool_result_encoder: Any = None
    image_adapter: str | None = None
    embed_adapter: str | None = None
    moderation_adapter: str | None = None
    adapter_opts: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    id: str | None = None
    structured: str = "auto"

    if TYPE_CHECKING:  # what `_Named` makes of it

        def __init__(
            self,
            name: str | None = None,
            *,
            adapter: str | None = None,
            model: str = "",
            instructions: str | Callable[..., str] | Importable | None = None,
            base_url: str | None = None,
            tools: Sequence[Tool | ToolSpec | Callable[..., Any]] = (),
            params: Mapping[str, Any] = ...,
            context: Mapping[str, Any] = ...,
            retry: Retry = ...,
            timeouts: Timeouts = ...,
            http: Http = ...,
            history: Any = None,
            keys: Mapping[str, str] | Callable[..., str | None] | str | Importable | None = None,
            tool_executor: Any = None,
            tool_result_encoder: Any = None,
            image_adapter: str | None = None,
            embed_adapter: str | None = None,
            moderation_adapter: str | None = None,
            adapter_opts: Mapping[str, Any] = ...,
            metadata: Mapping[str, Any] = ...,
            id: str | None = None,
            structured: Literal["auto", "schema", "tool", "json"] = "auto",
        ) -> None: ...

    @unseen
    def __post_init__(self) -> None:
        if self.id is None:
            force_setattr(self, "id", f"engine-{os.urandom(8).hex()}")
        force_setattr(self, "tools", tuple(as_tool(tool, f"engine.tools[{i}]") for i, tool in enumerate(self.tools)))
        self._settle_callables()
        for name in ("adapter", "model", *_ADAPTERS):
            if not isinstance(value := getattr(self, name), str) and (value is not None or name in ("adapter", "model")):
                raise ValidationError.at(f"engine.{name}", f"expected text, got {type(value).__name__}")
        address: Any = self.base_url
        if address is not None and (not isinstance(address, str) or not address.strip()):
            raise ValidationError.at("engine.base_url", f"expected an address, got {address!r}")
        if self.structured not in _STRUCTURED:
            raise ValidationError.at("engine.structured", f"expected {', '.join(_STRUCTURED[:-1])} or json, got {self.structured!r}")
        names = [tool.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise ValidationError.at("engine.tools", f"two tools have one name: {sorted(names)}")
        if isinstance(self.adapter_opts, Mapping) and not _SECRETS.isdisjoint(self.adapter_opts):
            raise ValidationError.at("engine.adapter_opts", "no place for a key: it would be shown and stored; use keys=")
        if isinstance(self.params, Mapping) and self.params.get("response_format") is not None:
            form = to_builtins(as_format(self.params["response_format"]))
            force_setattr(self, "params", {**self.params, "response_format": form})
        for name in ("params", "context", "adapter_opts", "metadata"):
            force_setattr(self, name, freeze_dict(getattr(self, name), f"engine.{name}"))
        for name, cls in (("retry", Retry), ("timeouts", Timeouts), ("http", Http)):
            if not isinstance(getattr(self, name), cls):
                raise ValidationError.at(f"engine.{name}", f"expected allm.{cls.__name__}(...)")
        self._refuse_code()

    def _settle_callables(self) -> None:
        """Names of callables become text, but for `instructions`, where text is text; keys become a KeyRing."""
        for name in _NAMED:
            if isinstance(value := getattr(self, name), Importable):
                force_setattr(self, name, value.path)
        if isinstance(self.params, Mapping) and any(isinstance(self.params.get(name), Importable) for name in _FUNCTIONS):
            params = {name: value.path if isinstance(value, Importable) else value for name, value in self.params.items()}
            force_setattr(self, "params", params)
        for name in ("history", "tool_executor", "tool_result_encoder"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str | KeepLast | TokenBudget) and not callable(value):
                raise ValidationError.at(f"engine.{name}", f"expected a function or 'module:function', got {described(value)}")
        told: Any = self.instructions
        if told is not None and not isinstance(told, str | Importable) and not callable(told):
            raise ValidationError.at("engine.instructions", f"expected text, a function or allm.importable(...), got {described(told)}")
        keys: Any = self.keys
        if isinstance(keys, Mapping):
            force_setattr(self, "keys", keys if isinstance(keys, KeyRing) else KeyRing(cast("Mapping[str, Any]", keys)))
        elif keys is not None and not (_PATH.fullmatch(keys) if isinstance(keys, str) else callable(keys)):
            kind = type(keys).__name__  # and never the thing itself: it may be a key
            raise ValidationError.at("engine.keys", f"expected a mapping, a callable or 'module:object', got {kind}")
        elif any(hasattr(cast("Any", type(keys)), fields) for fields in _ENCODED):
            force_setattr(self, "keys", cast("Any", keys).__call__)  # msgspec would encode the object and its fields; it takes no method

    def _refuse_code(self) -> None:
        """Raises ValidationError where an untrusted document names code. Tools, `http` and an Importable ask for themselves."""
        if not is_untrusted():
            return
        if ":" in self.adapter:
            named_code(self.adapter, "engine.adapter")
        for name in _ADAPTERS:
            if (value := getattr(self, name)) and (path := _path_in(value)):
                named_code(path, f"engine.{name}")
        for name in _NAMED:
            if isinstance(value := getattr(self, name), str):
                named_code(value, f"engine.{name}", secret=name == "keys")
        for name in _FUNCTIONS:
            if isinstance(value := self.params.get(name), str) and value not in _POLICIES:
                named_code(value, f"engine.params.{name}")

    def with_model(self, model: str) -> "Engine":
        """The same engine with another model (of the same adapter)."""
        return replace(self, model=model)

    def put_tool(self, tool: Any) -> "Engine":
        """With one tool more; a namesake is replaced."""
        return self.put_tools([tool])

    def put_tools(self, tools: Sequence[Any]) -> "Engine":
        """With these tools more; namesakes are replaced."""
        return replace(self, tools=merge_tools(self.tools, tools))

    @unseen
    def put_param(self, key: str, value: Any) -> "Engine":
        """With one default request parameter more."""
        _known({key: value})
        return replace(self, params={**self.params, key: value})

    def put_context(self, key: str, value: Any) -> "Engine":
        """With one entry more in the context that tool handlers get."""
        return replace(self, context={**self.context, key: value})

    @unseen
    def merge_opts(self, **opts: Any) -> "Engine":
        """With these entries more in `adapter_opts`."""
        return replace(self, adapter_opts={**self.adapter_opts, **opts})

    def without_secrets(self) -> "Engine":
        """The same engine without keys (the name of a resolver is none) and without the credentials in `http`."""
        return replace(self, keys=self.keys if isinstance(self.keys, str) else None, http=self.http.without_credentials())

    def to_plain(self) -> dict[str, Any]:
        """The engine as data, callables by name. Raises EngineError("holds_keys") or ("not_portable")."""
        self._refuse_secrets()
        if callable(self.keys):
            path_of(self.keys, "engine.keys")  # before they stand in a frame
        fields = asdict(self)
        for name in _CALLABLES:
            value = fields[name]
            if value is not None and not isinstance(value, str | Importable | KeepLast | TokenBudget):
                path = path_of(value, f"engine.{name}")
                fields[name] = Importable(path) if name == "instructions" else path
        fields["tools"] = [_portable(tool) for tool in self.tools]
        return fields

    @classmethod
    def from_plain(cls, data: dict[str, Any], trusted: bool | None = None) -> "Engine":
        """The engine that `to_plain` gave. Callables stay names until they are used: reading imports nothing.

        Raises ValidationError for data that name code, unless `trusted`; None says what the document says that this is part of.
        """
        fields = {name: value for name, value in data.items() if name in cls.__struct_fields__ and name != "tools"}
        with reading(trusted):
            for name, kind in (("retry", Retry), ("timeouts", Timeouts), ("http", Http)):
                if name in fields:
                    fields[name] = convert(fields[name], kind)
            for name in _CALLABLES:
                fields[name] = as_importable(fields.get(name))
            if isinstance(policy := fields["history"], Mapping):
                fields["history"] = convert(policy, KeepLast | TokenBudget)
            tools = [convert(tool, Tool | ToolSpec) for tool in data.get("tools", ())]
            return cls(tools=tools, **fields)

    def _refuse_secrets(self) -> None:
        """Raises EngineError("holds_keys") where something is, or may be, a secret. Nothing of it is quoted."""
        self.http.refuse_credentials()
        if isinstance(self.keys, Mapping):
            raise EngineError(
                "holds_keys",
                "this engine holds keys; give keys= a 'module:object' resolver, or use allm.keys, to send it away",
            )
        if isinstance(self.keys, str) and not is_findable(self.keys):
            raise EngineError("holds_keys", "engine.keys names nothing that can be imported here, and may be a key; give 'module:object'")

    def _refuse_to_pickle(self) -> None:
        """Raises EngineError("holds_keys") for a resolver that is no module-level function, too: it may hold a key, as a partial does."""
        self._refuse_secrets()
        if self.keys is not None and not isinstance(self.keys, str):
            try:
                path_of(self.keys, "engine.keys")
            except EngineError:
                what = described(self.keys)
                raise EngineError(
                    "holds_keys",
                    f"engine.keys is {what}, which may hold a key; give a module-level function or 'module:object' to send the engine away",
                ) from None

    def handed_on(self) -> Any:
        """What `allm.handoff` makes a pickle of: as `__reduce__` says it, and with resolvers of any kind."""
        self._refuse_secrets()
        return _rebuild, (asdict(self),)

    def __reduce__(self) -> Any:
        self._refuse_to_pickle()
        return _rebuild, (asdict(self),)

    def __copy__(self) -> "Engine":
        return self

    def __deepcopy__(self, memo: Any) -> "Engine":
        return self

    def __repr__(self) -> str:
        return shown_fields("Engine", self.__rich_repr__())

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = {
            name: MASK if name == "keys" else value
            for name, value in asdict(self).items()
            if value is not None and (name == "keys" or value not in ((), {}, Retry(), Timeouts(), Http())) and (name, value) != _UNSAID
        }
        if "base_url" in shown:
            shown["base_url"] = masked_address(shown["base_url"])
        return list(shown.items())


def _portable(tool: Any) -> Any:
    if isinstance(tool, Tool) and tool.handler is not None:
        return replace(tool, handler=path_of(tool.handler, f"engine.tools.{tool.name}.handler"))
    return tool


def _path_in(adapter: str) -> str | None:
    """The `"module:Class"` in the name of an adapter for images and the like."""
    from allm.providers.registry import adapter_and_model

    name, _ = adapter_and_model(adapter)
    return name if ":" in name else None


def _rebuild(fields: dict[str, Any]) -> Engine:
    return Engine(**fields)
