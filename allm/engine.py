"""The engine: which model, over which wire, with what defaults. Frozen, plain data, and it never holds a key that could travel."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from msgspec import StructMeta, convert, to_builtins
from msgspec.structs import asdict, force_setattr, replace

from allm.callables import path_of
from allm.errors import EngineError, ValidationError
from allm.freezing import freeze_dict
from allm.history import KeepLast, TokenBudget
from allm.plain import Value
from allm.requests import ToolSpec
from allm.retry import Retry
from allm.settings import Http, Timeouts
from allm.structured import as_format
from allm.tools import Tool, as_tool, source_of

__all__ = ["BUILT_IN", "Engine", "merge_tools", "split_model"]

BUILT_IN = ("openai", "openai.chat", "openai.responses", "anthropic", "gemini", "fake", "sim")
"""Adapters that come with the library. Others register by the entry-point group `allm.adapters`, or as `"package.module:Class"`."""

_AT = re.compile(r"(.+)@([a-z][\w.]*)")
_PATH = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")
_CALLABLES = ("instructions", "history", "keys", "tool_executor", "tool_result_encoder")


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


class _Named(StructMeta):
    """Lets an engine be made from `"adapter:model"`; decoding and `replace` do not come this way."""

    def __call__(cls, name: str | None = None, **fields: Any) -> Any:
        if name is not None:
            if "adapter" in fields or "model" in fields:
                raise TypeError("an engine is named by 'adapter:model', or by adapter= and model=, not both")
            fields["adapter"], fields["model"] = split_model(name)
        elif not fields.get("adapter"):
            raise ValidationError.at("engine", "which adapter? Expected Engine('adapter:model') or Engine(adapter=..., model=...)")
        _known(fields.get("params"))
        return super().__call__(**fields)


_PARAMS = frozenset({
    "model", "tool_choice", "temperature", "top_p", "max_tokens", "stop", "seed", "reasoning", "response_format", "prompt_cache", "options",
    "max_turns", "mode", "on_tool_error", "halt_when", "structured_finalize", "structured_finalize_nudge", "max_reasks", "wire",
})  # fmt: skip
_SECRETS = frozenset({"api_key", "key", "keys"})


def _known(params: Any) -> None:
    if isinstance(params, Mapping) and (unknown := {str(name) for name in cast("Mapping[Any, Any]", params)} - _PARAMS):
        raise TypeError(f"unknown params {sorted(unknown)}; what only the provider knows goes into params={{'options': {{...}}}}")


class Engine(Value, frozen=True, kw_only=True, metaclass=_Named):
    """`Engine("openai.chat:gpt-4.1-mini")`, or `Engine(adapter="openai.chat", model="gpt-4.1-mini")`, and defaults for its calls.

    JSON when its callables are importable; with literal keys in `keys` it refuses to be serialised, and `repr` shows `***`.
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

    if TYPE_CHECKING:  # what `_Named` makes of it

        def __init__(
            self,
            name: str | None = None,
            *,
            adapter: str | None = None,
            model: str = "",
            instructions: str | Callable[..., str] | None = None,
            base_url: str | None = None,
            tools: Sequence[Tool | ToolSpec | Callable[..., Any]] = (),
            params: Mapping[str, Any] = ...,
            context: Mapping[str, Any] = ...,
            retry: Retry = ...,
            timeouts: Timeouts = ...,
            http: Http = ...,
            history: Any = None,
            keys: Mapping[str, str] | Callable[..., str | None] | str | None = None,
            tool_executor: Any = None,
            tool_result_encoder: Any = None,
            image_adapter: str | None = None,
            embed_adapter: str | None = None,
            moderation_adapter: str | None = None,
            adapter_opts: Mapping[str, Any] = ...,
            metadata: Mapping[str, Any] = ...,
            id: str | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        if self.id is None:
            force_setattr(self, "id", f"engine-{os.urandom(8).hex()}")
        force_setattr(self, "tools", tuple(as_tool(tool, f"engine.tools[{i}]") for i, tool in enumerate(self.tools)))
        address: Any = self.base_url
        if address is not None and (not isinstance(address, str) or not address.strip()):
            raise ValidationError.at("engine.base_url", f"expected an address, got {address!r}")
        if isinstance(self.keys, str) and not _PATH.fullmatch(self.keys):
            raise ValidationError.at("engine.keys", "expected a mapping, a callable or 'module:object'")  # and never shown: it may be a key
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

    def with_model(self, model: str) -> "Engine":
        """The same engine with another model (of the same adapter)."""
        return replace(self, model=model)

    def put_tool(self, tool: Any) -> "Engine":
        """With one tool more; a namesake is replaced."""
        return self.put_tools([tool])

    def put_tools(self, tools: Sequence[Any]) -> "Engine":
        """With these tools more; namesakes are replaced."""
        return replace(self, tools=merge_tools(self.tools, tools))

    def put_param(self, key: str, value: Any) -> "Engine":
        """With one default request parameter more."""
        _known({key: value})
        return replace(self, params={**self.params, key: value})

    def put_context(self, key: str, value: Any) -> "Engine":
        """With one entry more in the context that tool handlers get."""
        return replace(self, context={**self.context, key: value})

    def merge_opts(self, **opts: Any) -> "Engine":
        """With these entries more in `adapter_opts`."""
        return replace(self, adapter_opts={**self.adapter_opts, **opts})

    def to_plain(self) -> dict[str, Any]:
        """The engine as data, callables by name. Raises EngineError("holds_keys") or ("not_portable")."""
        self._refuse_keys()
        fields = asdict(self)
        for name in _CALLABLES:
            if name == "keys" and fields[name] is None:
                continue
            if fields[name] is not None and not isinstance(fields[name], str | KeepLast | TokenBudget):
                fields[name] = path_of(fields[name], f"engine.{name}")
        fields["tools"] = [_portable(tool) for tool in self.tools]
        return fields

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> "Engine":
        """The engine that `to_plain` gave. Callables stay names until they are used: reading imports nothing."""
        fields = {name: value for name, value in data.items() if name in cls.__struct_fields__ and name != "tools"}
        for name, kind in (("retry", Retry), ("timeouts", Timeouts), ("http", Http)):
            if name in fields:
                fields[name] = convert(fields[name], kind)
        if isinstance(policy := fields.get("history"), Mapping):
            fields["history"] = convert(policy, KeepLast | TokenBudget)
        tools = [convert(tool, Tool | ToolSpec) for tool in data.get("tools", ())]
        return cls(tools=tools, **fields)

    def _refuse_keys(self) -> None:
        if isinstance(self.keys, Mapping):
            raise EngineError(
                "holds_keys",
                "this engine holds keys; give keys= a 'module:object' resolver, or use allm.keys, to send it away",
            )

    def __reduce__(self) -> Any:
        self._refuse_keys()
        return _rebuild, (asdict(self),)

    def __repr__(self) -> str:
        shown = {name: value for name, value in asdict(self).items() if value not in (None, (), {}, Retry(), Timeouts(), Http())}
        if "keys" in shown and not isinstance(shown["keys"], str):
            shown["keys"] = "***"
        return f"Engine({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def _portable(tool: Any) -> Any:
    if isinstance(tool, Tool) and tool.handler is not None:
        return replace(tool, handler=path_of(tool.handler, f"engine.tools.{tool.name}.handler"))
    return tool


def _rebuild(fields: dict[str, Any]) -> Engine:
    return Engine(**fields)
