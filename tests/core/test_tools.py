"""Tools: schemas from signatures and docstrings, arguments bound as the annotated types, errors that a model can use."""

import asyncio
import copy
import dataclasses
import enum
import functools
import gc
import importlib
import pickle
import sys
import types
import uuid
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, assert_type

import msgspec
import pydantic
import pytest

import allm
from allm import Engine, Tool, ToolContext, ToolError, ToolSpec, ValidationError, ask_user, halt
from allm.callables import resolve_callable
from allm.codec import from_json, to_json
from allm.docstrings import parse_docstring
from allm.engine import merge_tools
from allm.freezing import freeze
from allm.tools import as_tool, bind

if TYPE_CHECKING:
    from allm.tools import ToolContext as Unseen


@allm.tool
def get_weather(city: str, days: int = 1) -> dict[str, Any]:
    """Return the forecast for a city.

    Args:
        city: Which city.
        days (int): How many days,
            today included.

    Returns:
        The forecast.
    """
    return {"city": city, "days": days}


WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Which city."},
        "days": {"type": "integer", "description": "How many days, today included.", "default": 1},
    },
    "required": ["city"],
    "additionalProperties": False,
}


def spec(function: Any) -> ToolSpec:
    made = as_tool(function)
    return made.spec if isinstance(made, Tool) else made


def properties(function: Any) -> dict[str, Any]:
    found: dict[str, Any] = spec(function).schema["properties"]
    return found


def call(function: Any, arguments: dict[str, Any], **context: Any) -> Any:
    made = as_tool(function)
    assert isinstance(made, Tool)
    args, kwargs = bind(made, arguments, ToolContext(**context))
    return resolve_callable(made.handler, "handler")(*args, **kwargs)


def refused(function: Any, arguments: Any) -> str:
    made = as_tool(function)
    assert isinstance(made, Tool)
    with pytest.raises(ToolError) as caught:
        bind(made, arguments, ToolContext())
    assert caught.value.reason == "invalid_arguments"
    return caught.value.message.removeprefix(f"the arguments of {made.name} are wrong: ")


# Declaration


def test_a_decorated_function_stays_itself_and_is_a_tool() -> None:
    assert get_weather("Paris") == {"city": "Paris", "days": 1}
    assert isinstance(get_weather, types.FunctionType)
    assert pickle.loads(pickle.dumps(get_weather)) is get_weather
    assert spec(get_weather) == ToolSpec("get_weather", "Return the forecast for a city.", WEATHER)


def test_the_decorator_keeps_the_type_of_the_function() -> None:
    @allm.tool(manual=True)
    def plain(x: int) -> str:
        return str(x)

    assert_type(plain(1), str)
    assert_type(get_weather("Paris"), dict[str, Any])


def test_keywords_override_what_the_function_says() -> None:
    @allm.tool(
        name="forecast", description="Tells it.", schema={"type": "object"}, manual=True, timeout=2, isolation="process", on_crash="retry",
        max_result=9,
    )  # fmt: skip
    def plain(*anything: Any) -> None: ...

    expected = Tool(
        name="forecast", description="Tells it.", schema={"type": "object"}, handler=plain, manual=True, timeout=2, isolation="process",
        on_crash="retry", max_result=9,
    )  # fmt: skip
    assert as_tool(plain) == expected


def test_a_plain_function_is_a_tool_as_it_is() -> None:
    def plain(city: str) -> str:
        """Tells it."""
        return city

    assert as_tool(plain) == Tool(
        name="plain",
        description="Tells it.",
        schema={"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False, "required": ["city"]},
        handler=plain,
    )


@pytest.mark.parametrize("given", [Tool(name="a"), ToolSpec("a")])
def test_tools_and_specs_stay_as_they_are(given: Any) -> None:
    assert as_tool(given) is given


@pytest.mark.parametrize("given", ["weather", 3, None, dict, {"name": "a"}])
def test_what_is_no_tool_is_refused_with_its_place(given: Any) -> None:
    with pytest.raises(ValidationError, match=r"tools\[2\]"):
        as_tool(given, "tools[2]")


class Shop:
    """Has methods that are tools."""

    def __init__(self, name: str) -> None:
        self.name = name

    @allm.tool(name="look_up", timeout=3)
    def find(self, item: str, ctx: ToolContext) -> str:
        """Look it up."""
        return f"{item} at {self.name} for {ctx.session_id}"

    def count(self, n: int = 1) -> int:
        return n

    @staticmethod
    @allm.tool
    def greet(who: str) -> str:
        return f"Hello {who}"

    def __call__(self, item: str) -> str:
        """Buy it."""
        return f"bought {item} at {self.name}"


def test_bound_methods_are_tools_of_their_object() -> None:
    made = as_tool(Shop("A").find)
    assert isinstance(made, Tool)
    assert (made.name, made.timeout, made.description) == ("look_up", 3, "Look it up.")
    assert list(made.schema["properties"]) == ["item"]
    assert call(Shop("A").find, {"item": "tea"}, session_id="s") == "tea at A for s"
    assert call(Shop("B").find, {"item": "tea"}, session_id="s") == "tea at B for s"
    assert call(Shop("A").count, {"n": 3}) == 3
    assert call(Shop.greet, {"who": "you"}) == "Hello you"


def test_a_method_without_its_object_is_refused() -> None:
    for method in (Shop.find, Shop.count):
        with pytest.raises(ValidationError, match="without its object"):
            as_tool(method)


def test_callable_objects_partials_and_wrappers_are_tools() -> None:
    assert spec(Shop("A")).name == "Shop"
    assert spec(Shop("A")).description == "Buy it."
    assert call(Shop("A"), {"item": "tea"}) == "bought tea at A"

    half = functools.partial(get_weather, days=3)
    assert spec(half).name == "get_weather"
    assert call(half, {"city": "Paris"}) == {"city": "Paris", "days": 3}

    @functools.wraps(get_weather)
    def loud(*args: Any, **kwargs: Any) -> Any:
        return {"loud": get_weather(*args, **kwargs)}

    assert call(loud, {"city": "Paris"}) == {"loud": {"city": "Paris", "days": 1}}
    assert call(functools.lru_cache(spellable), {"word": "a"}) == "a"


def spellable(word: str) -> str:
    return word


def test_coroutine_functions_are_tools() -> None:
    @allm.tool
    async def later(n: int) -> int:
        return n + 1

    assert asyncio.run(call(later, {"n": 1})) == 2


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(ValidationError, match="no name"):
        as_tool(lambda: 3)


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_the_decorator_goes_below_those_that_make_another_object(kind: Any) -> None:
    with pytest.raises(ValidationError, match=f"put @{kind.__name__} above"):
        allm.tool(kind(get_weather))


# Schemas


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Movie(TypedDict):
    title: str


class Struct(msgspec.Struct):
    n: int


class Tone(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Model(pydantic.BaseModel):
    size: int = pydantic.Field(ge=1)


INTEGER = {"type": "integer"}


@pytest.mark.parametrize(
    ("hint", "schema", "given", "made"),
    [
        (int, INTEGER, 3, 3),
        (int, INTEGER, 3.0, 3),
        (float, {"type": "number"}, 3, 3.0),
        (bool, {"type": "boolean"}, True, True),
        (Any, {}, [1, {"a": [2]}], [1, {"a": [2]}]),
        (object, {}, [1], [1]),
        (Literal["a", "b"], {"enum": ["a", "b"], "type": "string"}, "a", "a"),
        (int | None, {"anyOf": [INTEGER, {"type": "null"}]}, None, None),
        (int | str, {"anyOf": [INTEGER, {"type": "string"}]}, "3", "3"),
        (list[int], {"type": "array", "items": INTEGER}, [1, 2.0], [1, 2]),
        (tuple[int, ...], {"type": "array", "items": INTEGER}, [1], (1,)),
        (set[int], {"type": "array", "items": INTEGER, "uniqueItems": True}, [1], {1}),
        (dict[str, int], {"type": "object", "additionalProperties": INTEGER}, {"a": 1}, {"a": 1}),
        (dict, {"type": "object"}, {"a": [1]}, {"a": [1]}),
        (Tone, {"enum": ["high", "low"], "type": "string"}, "low", Tone.LOW),
        (uuid.UUID, {"type": "string", "format": "uuid"}, str(uuid.UUID(int=1)), uuid.UUID(int=1)),
        (Point, None, {"x": 1}, Point(1)),
        (list[Point], None, [{"x": 1, "y": 2}], [Point(1, 2)]),
        (Movie, None, {"title": "M"}, {"title": "M"}),
        (Struct, None, {"n": 1.0}, Struct(1)),
        (Model, None, {"size": 2}, Model(size=2)),
        (list[Model] | None, None, [{"size": 2}], [Model(size=2)]),
        (Annotated[int, msgspec.Meta(ge=1, description="how many")], {**INTEGER, "minimum": 1, "description": "how many"}, 1, 1),
        (Annotated[int, "how many"], {**INTEGER, "description": "how many"}, 1, 1),
        (Annotated[int, pydantic.Field(description="how many")], {**INTEGER, "description": "how many"}, 1, 1),
    ],
    ids=str,
)
def test_an_annotation_makes_a_schema_and_the_argument_comes_as_it(hint: Any, schema: Any, given: Any, made: Any) -> None:
    def take(it: Any) -> Any:
        return it

    take.__annotations__["it"] = hint
    if schema is not None:
        assert properties(take) == {"it": schema}
    got = call(take, {"it": freeze(given)})
    assert (got, type(got)) == (made, type(made))


def test_arguments_are_the_handlers_own_to_change() -> None:
    def take(it: Any, more: dict[str, Any], some: list[Any]) -> Any:
        it.append(1)
        more["a"].append(2)
        some[0]["b"] = 3
        return it, more, some

    made = as_tool(take)
    for tool in (made, Tool(name="explicit", schema={"type": "object"}, handler=take)):
        arguments = freeze({"it": [], "more": {"a": []}, "some": [{}]})
        before = copy.deepcopy(arguments)
        assert call(tool, arguments) == ([1], {"a": [2]}, [{"b": 3}])
        assert arguments == before


def test_keyword_only_and_unannotated_parameters_and_odd_defaults() -> None:
    def take(anything, *, first=object(), second: Tone = Tone.LOW, third: tuple[int, ...] = (1,)):  # type: ignore[no-untyped-def] # noqa: B008
        return anything, second, third  # pyright: ignore[reportUnknownVariableType]

    assert properties(take) == {
        "anything": {},
        "first": {},
        "second": {"enum": ["high", "low"], "type": "string", "default": "low"},
        "third": {"type": "array", "items": INTEGER, "default": [1]},
    }
    assert spec(take).schema["required"] == ["anything"]
    assert call(take, {"anything": 1}) == (1, Tone.LOW, (1,))


def positional(city: str, /) -> None: ...
def rest(city: str, *others: str) -> None: ...
def keywords(city: str, **others: str) -> None: ...
def unreadable(city: complex) -> None: ...
def unknown(city: "NoSuchType") -> None: ...  # type: ignore[name-defined] # noqa: F821 # pyright: ignore[reportUndefinedVariable]
def ambiguous(city: Point | Struct | dict[str, int]) -> None: ...


@pytest.mark.parametrize(
    ("function", "name"),
    [
        *((function, "city") for function in (positional, unreadable, unknown, ambiguous)),  # pyright: ignore
        *((function, "others") for function in (rest, keywords)),
    ],
)
def test_a_parameter_that_no_model_can_fill_in_is_named(function: Callable[..., None], name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        allm.tool(function)
    assert caught.value.metadata == {"path": name}


def test_types_of_an_enclosing_function_are_found_under_string_annotations() -> None:
    @dataclasses.dataclass
    class Local:
        n: int

    def take(it: "Local") -> "Local":
        return Local(it.n + 1)

    assert call(take, {"it": {"n": 1}}) == Local(2)


# Docstrings


@pytest.mark.parametrize(
    "text",
    [
        """Find it.

        All of it.

        Args:
            city (str): Which
                city.
            *days: How many: 1 to 9.

        Returns:
            int: It.
        """,
        """Find it.

        All of it.

        Parameters
        ----------
        city : str
            Which
            city.
        days : int, optional
            How many: 1 to 9.

        Returns
        -------
        int
            It.
        """,
        """Find it.

        All of it.

        :param str city: Which
            city.
        :param days: How many: 1 to 9.
        :type days: int
        :returns: It.
        """,
    ],
    ids=["google", "numpy", "sphinx"],
)
def test_docstrings_of_three_styles_say_the_same(text: str) -> None:
    assert parse_docstring(text) == ("Find it.\n\nAll of it.", {"city": "Which city.", "days": "How many: 1 to 9."})


@pytest.mark.parametrize("text", [None, "", "   ", "Args:", "Parameters\n-----", ":param", "Args:\n    no colon here"])
def test_docstrings_that_say_nothing_are_no_error(text: str | None) -> None:
    assert parse_docstring(text)[1] == {}


# Context


def test_the_context_is_left_out_of_the_schema_and_filled_in() -> None:
    @allm.tool
    def ask(q: str, ctx: ToolContext) -> Any:
        return q, ctx.context["user"], bool(ctx.cancelled), ctx.cancelled.is_set()

    assert list(properties(ask)) == ["q"]
    assert call(ask, {"q": "a"}, context={"user": "u"}) == ("a", "u", False, False)


def test_the_context_is_known_by_name_where_only_the_type_checker_imports_it() -> None:
    def by_string(q: str, ctx: "allm.ToolContext") -> str:
        return str(ctx.session_id)

    def optional(q: str, ctx: "ToolContext | None" = None) -> str:
        return str(ctx and ctx.session_id)

    def absent(q: str, ctx: "elsewhere.ToolContext") -> str:  # type: ignore[name-defined] # noqa: F821 # pyright: ignore
        return str(ctx.session_id)  # pyright: ignore

    for function in (by_string, optional, absent):  # pyright: ignore[reportUnknownVariableType]
        assert list(properties(function)) == ["q"]
        assert call(function, {"q": "a"}, session_id="s") == "s"

    def aliased(q: str, ctx: "Unseen") -> None: ...

    with pytest.raises(ValidationError, match="cannot be resolved"):
        as_tool(aliased)


def test_a_module_with_postponed_annotations_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "postponed_tools.py").write_text(
        "from __future__ import annotations\nimport allm\n"
        "@allm.tool\ndef look(n: int | None, ctx: allm.ToolContext) -> str:\n    return f'{n} {ctx.session_id}'\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    try:
        look = importlib.import_module("postponed_tools").look
        assert properties(look) == {"n": {"anyOf": [INTEGER, {"type": "null"}]}}
        assert call(look, {"n": None}, session_id="s") == "None s"
    finally:
        sys.modules.pop("postponed_tools", None)


# Binding


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "city: it is required, but missing"),
        ({"city": 3}, "city: expected string, got 3"),
        ({"city": "a", "days": "three"}, 'days: expected integer, got "three"'),
        ({"city": "a", "day": 1}, "day: there is no such field (there are: city, days)"),
        (["a"], "expected an object"),
    ],
)
def test_wrong_arguments_are_told_in_words_for_the_model(arguments: Any, message: str) -> None:
    assert refused(get_weather, arguments) == message


def test_what_only_the_type_can_tell_is_told_with_its_path() -> None:
    class Even(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            if n % 2:
                raise ValueError("must be even")
            return n

    @dataclasses.dataclass
    class Positive:
        n: int

        def __post_init__(self) -> None:
            if self.n < 0:
                raise KeyError("negative")

    def take(ids: list[uuid.UUID], evens: list[Even] = [], n: Positive = Positive(0)) -> None: ...  # noqa: B006, B008

    assert refused(take, {"ids": ["x"]}) == "ids[0]: Invalid UUID"
    assert refused(take, {"ids": [], "evens": [{"n": 2}, {"n": 3}]}) == "evens[1]: n: Value error, must be even"
    assert refused(take, {"ids": [], "n": {"n": -1}}) == "n: KeyError: 'negative'"


def test_a_tool_with_a_schema_of_its_own_gets_the_arguments_as_they_are() -> None:
    def take(point: Point, **others: Any) -> Any:
        return point, others

    schema = {"type": "object", "properties": {"point": {"type": "object"}}, "required": ["point"]}
    assert call(Tool(name="take", schema=schema, handler=take), {"point": {"x": 1}, "z": 2}) == ({"x": 1}, {"z": 2})
    assert refused(Tool(name="take", schema=schema, handler=take), {}) == "point: it is required, but missing"

    def narrow(a: int, ctx: ToolContext) -> Any:
        return a, ctx.session_id

    assert call(Tool(name="narrow", handler=narrow), {"a": "as it is"}, session_id="s") == ("as it is", "s")
    assert "unexpected keyword argument 'b'" in refused(Tool(name="narrow", handler=narrow), {"a": 1, "b": 2})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""), ("name", 5), ("name", "\ud800"), ("description", None), ("description", "\ud800"), ("schema", [1]), ("schema", None),
        ("schema", {"a": object()}), ("handler", 5), ("handler", "no_path"), ("handler", "a b:c"), ("manual", "yes"), ("manual", 1),
        ("timeout", "5"), ("timeout", 0), ("timeout", -1), ("timeout", True), ("timeout", [1]), ("timeout", float("nan")),
        ("timeout", float("inf")), ("timeout", 10**400), ("isolation", "bogus"), ("isolation", []), ("on_crash", None),
        ("max_result", 0), ("max_result", 1.5), ("max_result", True), ("max_result", None),
    ],
)  # fmt: skip
def test_a_tool_that_makes_no_sense_is_refused_with_its_path(field: str, value: Any) -> None:
    make: Any = Tool
    with pytest.raises(ValidationError) as caught:
        make(**{"name": "f", field: value})
    place = caught.value.metadata["path"]
    assert place == "tool.name" if field == "name" else place.startswith(f"tools.f.{field}")


def test_a_decorator_with_a_wrong_field_is_refused_where_it_stands() -> None:
    def f() -> None: ...

    with pytest.raises(ValidationError, match=r"^tools\.f\.timeout: expected a positive number of seconds or None, got '5'"):
        allm.tool(timeout="5")(f)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert Tool(name="f", timeout=1, handler=f"{__name__}:f").timeout == 1


def test_a_handler_given_by_name_is_found_when_it_is_called() -> None:
    made = as_tool(get_weather)
    assert isinstance(made, Tool)
    named = msgspec.structs.replace(made, handler=f"{__name__}:get_weather")
    assert bind(named, {"city": "a", "days": 2.0}, ToolContext()) == ((), {"city": "a", "days": 2})
    with pytest.raises(allm.EngineError, match="not_importable"):
        bind(Tool(name="gone", handler="no_such_module:fn"), {}, ToolContext())


def test_a_function_that_was_a_tool_is_not_kept_alive() -> None:
    def take(n: int) -> int:
        return n

    call(take, {"n": 1})
    gone = weakref.ref(take)
    del take
    gc.collect()
    assert gone() is None


# Engines


def test_an_engine_takes_functions_wherever_it_takes_tools() -> None:
    def other(n: int) -> int:
        return n

    engine = Engine("fake:any", tools=[get_weather, Tool(name="t")]).put_tools([other, ToolSpec("s")]).put_tool(get_weather)
    assert [tool.name for tool in engine.tools] == ["get_weather", "t", "other", "s"]
    assert all(isinstance(tool, Tool | ToolSpec) for tool in engine.tools)
    assert [tool.name for tool in merge_tools([other], [get_weather])] == ["other", "get_weather"]
    with pytest.raises(ValidationError, match=r"engine\.tools\[0\]"):
        Engine("fake:any", tools=["weather"])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]


def test_an_engine_with_decorated_tools_travels_and_they_still_take_their_types() -> None:
    engine = from_json(to_json(Engine("fake:any", tools=[get_weather])), Engine, trusted=True)
    [made] = engine.tools
    assert made.handler == f"{__name__}:get_weather"
    assert bind(made, freeze({"city": "a", "days": 2.0}), ToolContext()) == ((), {"city": "a", "days": 2})


# What handlers may give


def test_asking_and_halting_are_plain_data() -> None:
    asked = ask_user("Which?", choices=["a", "b"])
    assert (asked.question, asked.options) == ("Which?", {"choices": ["a", "b"]})
    assert from_json(to_json(asked)) == asked
    stopped = halt("handed_over", {"to": "sales"})
    assert from_json(to_json(stopped)) == stopped


def test_text_that_cannot_be_encoded_is_refused_where_it_is_given() -> None:
    for make, path in (
        (lambda: ask_user("\ud800?"), "question"),
        (lambda: ask_user("Which?", a=["\ud800"]), r"options\.a\[0\]"),
        (lambda: halt("\ud800"), "reason"),
        (lambda: halt("sold", "\ud800"), "result"),
    ):
        with pytest.raises(ValidationError, match=rf"^{path}: text with a lone surrogate"):
            make()
    with pytest.raises(ValidationError, match=r"^question: expected text, got int"):
        ask_user(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("reason", ["completed", "error", "", None])
def test_reserved_words_are_no_reason_to_halt(reason: Any) -> None:
    with pytest.raises(ValidationError, match="reason"):
        halt(reason)


def test_mappings_of_any_kind_are_arguments() -> None:
    arguments: Mapping[str, Any] = types.MappingProxyType({"city": "a"})
    made = as_tool(get_weather)
    assert isinstance(made, Tool)
    assert bind(made, arguments, ToolContext())[1] == {"city": "a"}
