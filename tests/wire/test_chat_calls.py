"""Tool calls of the Chat wire, told in the many ways of its hosts: each is one call, and none is lost."""

import json
from itertools import permutations
from typing import Any

import pytest

from allm.errors import AdapterError
from allm.events import ErrorOccurred
from allm.limits import Limits, limits, set_limits
from tests.wire import anthropic, gemini, responses
from tests.wire.chat import DONE, chunk, decoder, failure, frame, response, streamed, whole

A, B = '{"a": 1}', '{"b": {"c": 2}}'
END = chunk(finish="tool_calls") + DONE


def call(name: str | None = None, arguments: Any = None, **more: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {"type": "function", "function": function, **more}


def told(*chunks: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """(name, arguments) of the calls of a stream of these chunks."""
    answer = response(streamed(*[chunk({"tool_calls": each}) for each in chunks], END))
    ids = [each.id for each in answer.tool_calls]
    assert len(set(ids)) == len(ids)
    return [(each.name, each.arguments) for each in answer.tool_calls]


FG = [("f", {"a": 1}), ("g", {"b": {"c": 2}})]
FF = [("f", {"a": 1}), ("f", {"b": {"c": 2}})]


@pytest.mark.parametrize(
    "where", [{}, {"index": 0}, {"index": 0, "id": ""}, {"index": 0, "id": "same"}, {"id": "same"}, {"index": None}], ids=str
)
def test_whole_parallel_calls_are_told_apart_without_an_index_or_an_id_of_their_own(where: dict[str, Any]) -> None:
    f, g, again = call("f", A, **where), call("g", B, **where), call("f", B, **where)
    assert told([f, g]) == told([f], [g]) == FG
    assert told([f, again]) == told([f], [again]) == FF


@pytest.mark.parametrize("where", [{}, {"index": 0}], ids=str)
def test_parallel_calls_in_pieces_are_told_apart_by_the_name_that_begins_them(where: dict[str, Any]) -> None:
    pieces = [[call("f", "", **where)], [call(None, '{"a":', **where)], [call(None, " 1}", **where)]]
    more = [[call("f", "", **where)], [call(None, B[:5], **where)], [call(None, B[5:], **where)]]
    assert told(*pieces, *more) == FF


def test_pieces_that_name_their_call_by_its_id_may_interleave_at_one_index() -> None:
    start = [[call("f", "", index=0, id="c1")], [call("g", "", index=0, id="c2")]]
    rest = [[call(None, '{"a":', index=0, id="c1")], [call(None, B[:4], index=0, id="c2")]]
    assert told(*start, *rest, [call(None, " 1}", id="c1")], [call(None, B[4:], index=0, id="c2")]) == FG


@pytest.mark.parametrize("name", ["f", None, ""])
@pytest.mark.parametrize("where", [{"index": 0}, {}], ids=str)
def test_calls_of_one_tool_that_are_open_at_once_go_on_by_their_ids(name: str | None, where: dict[str, Any]) -> None:
    begun = [[call("f", '{"a":', id="c1", **where)], [call("f", '{"a":', id="c2", **where)]]
    rest = [[call(name, " 1}", id="c1", **where)], [call(name, " 2}", id="c2", **where)]]
    assert told(*begun, *rest) == [("f", {"a": 1}), ("f", {"a": 2})]
    empty = [[call("f", "", id="c1", **where)], [call("f", "", id="c2", **where)]]
    whole_ones = [[call(name, A, id="c1", **where)], [call(name, B, id="c2", **where)]]
    assert told(*empty, *whole_ones) == FF


@pytest.mark.parametrize("first", ["{}", {}], ids=repr)
@pytest.mark.parametrize("name", ["f", None])
def test_arguments_that_begin_with_an_empty_object_are_what_follows_it(first: Any, name: str | None) -> None:
    pieces = [[call("f", first, index=0, id="c1")], [call(name, A[:4], index=0, id="c1")], [call(None, A[4:], index=0)]]
    assert told(*pieces) == [("f", {"a": 1})]
    assert told([call("f", "{}{}", index=0, id="c1")]) == [("f", {})]


def test_a_whole_message_behind_its_deltas_is_told_once() -> None:
    message = {"role": "assistant", "content": "hi there", "reasoning": "hm", "tool_calls": [call("f", A)]}
    last = frame({"id": "x1", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    for deltas in ([{"content": "hi"}, {"tool_calls": [call("f", A, index=0)]}], [{"content": "hi there"}], [{"reasoning": "hm"}]):
        answer = response(streamed(*[chunk(each) for each in deltas], last, DONE))
        assert (answer.text, answer.reasoning_text) == ("hi there", "hm")
        assert [(each.name, each.arguments) for each in answer.tool_calls] == [("f", {"a": 1})]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("where", [{"index": 0}, {}], ids=str)
def test_an_id_that_changes_in_each_piece_makes_no_call(named: bool, where: dict[str, Any]) -> None:
    name = "g" if named else None
    assert told(*[[call(name if i else "g", B[i : i + 3], **where, id=f"c{i}")] for i in range(0, len(B), 3)]) == FG[1:]


def test_a_name_and_an_id_in_each_piece_make_no_call() -> None:
    for end in ("", " "):
        assert told(*[[call("g", B[i : i + 2], index=0, id="c")] for i in range(0, len(B), 2)], [call("g", end, index=0, id="c")]) == FG[1:]


def test_a_call_told_whole_once_more_is_one_call() -> None:
    pieces = [[call("g", B[:6], index=0, id="c")], [call(None, B[6:], index=0)]]
    assert told(*pieces, [call("g", B, index=0, id="c")]) == FG[1:]
    assert told([call("f", A, id="c1")], [call("g", B, id="c2")], [call("f", A, id="c1")]) == FG


def test_calls_that_are_alike_are_as_many_as_there_are_ids_or_entries() -> None:
    f = call("f", A)
    assert told([f, f]) == told([{**f, "id": "1"}], [{**f, "id": "2"}]) == told([f], [f]) == [FG[0]] * 2


def both(name: str, arguments: str) -> dict[str, Any]:
    return {"function_call": {"name": name, "arguments": arguments}, "tool_calls": [call(name, arguments, index=0, id="c")]}


def test_a_call_in_both_forms_is_one_call() -> None:
    split = response(streamed(chunk(both("f", A[:4])), chunk(both("f", A[4:])), END))
    body = whole({"id": "x", "choices": [{"index": 0, "message": both("f", A), "finish_reason": "tool_calls"}]})
    late = streamed(chunk({"function_call": {"name": "f", "arguments": A}}), chunk({"tool_calls": [call("f", A, index=0, id="c")]}), END)
    old = streamed(chunk({"function_call": {"name": "f", "arguments": A[:3]}}), chunk({"function_call": {"arguments": A[3:]}}), END)
    nowhere = streamed(chunk({"function_call": {"name": "f", "arguments": A}}), chunk({"tool_calls": [call("f", A)]}), END)
    pieces = [chunk({"tool_calls": [call("f", A[:4], index=0, id="c")]}), chunk({"tool_calls": [call(None, A[4:], index=0)]})]
    behind = streamed(chunk({"function_call": {"name": "f", "arguments": A}}), *pieces, END)
    turns = [
        chunk({"function_call": {"name": "f", "arguments": A[:4]}}),
        pieces[0],
        chunk({"function_call": {"arguments": A[4:]}}),
        pieces[1],
    ]
    for answer in (
        split,
        response(body),
        response(late),
        response(old),
        response(nowhere),
        response(behind),
        response(streamed(*turns, END)),
    ):
        assert [(each.name, each.arguments) for each in answer.tool_calls] == [("f", {"a": 1})]


@pytest.mark.parametrize("entries", list(permutations([None, 7, {}, call("f", A, id=7, index="0")], 4))[:6], ids=str)
def test_entries_that_are_no_calls_harm_none(entries: list[Any]) -> None:
    answer = response(streamed(chunk({"tool_calls": list(entries)}), END))
    assert [(each.id, each.name, each.arguments) for each in answer.tool_calls] == [("7", "f", {"a": 1})]


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        (json.dumps(A), {"a": 1}), (f"```json\n{A}\n```", {"a": 1}), (f" {A}\n", {"a": 1}), ({"a": 1}, {"a": 1}),
        (A + "}", {}), ("[1]", {}), ("null", {}), ('"x"', {}), ('"{', {}),
    ],
    ids=str,
)  # fmt: skip
def test_arguments_are_an_object_however_they_were_written(written: Any, arguments: Any) -> None:
    assert told([call("f", written, index=0, id="c")]) == [("f", arguments)]


def test_a_call_of_which_nothing_came_is_whole_only_where_nothing_was_cut() -> None:
    for finish, raw in (("tool_calls", "{}"), ("stop", "{}"), ("length", None)):
        answer = response(streamed(chunk({"tool_calls": [call("f", "", index=0, id="c")]}), chunk(finish=finish), DONE))
        assert [each.raw_arguments for each in answer.tool_calls] == [raw]


def test_a_call_of_which_nothing_came_is_cut_where_no_reason_is_told_for_the_end() -> None:
    def said(**choice: Any) -> dict[str, Any]:
        return {"id": "x", "choices": [{"index": 0, **choice}]}

    nothing, something = {"tool_calls": [call("f", "", index=0, id="c")]}, {"tool_calls": [call("f", A, index=0, id="c")]}
    for events in (
        streamed(frame(said(delta=nothing)), DONE),
        whole(said(message=nothing)),
        whole(said(message=nothing, finish_reason=None)),
    ):
        last = events[-1]
        assert isinstance(last, ErrorOccurred), last
        assert last.error.reason == "truncated"
    for events in (
        streamed(frame(said(delta=something)), DONE),
        whole(said(message=something)),
        whole(said(message=nothing, finish_reason="stop")),
    ):
        assert len(response(events).tool_calls) == 1


def test_a_name_that_comes_again_and_again_costs_no_more_than_its_bytes() -> None:
    # Each piece may be the end of the arguments: read anew each time, 4,000 of them would take some minutes.
    pieces = ['{"a": "'] + ["}" * 200] * 4000 + ['"}']
    answer = response(streamed(*[chunk({"tool_calls": [call("f", piece, index=0, id="c")]}) for piece in pieces], END))
    assert [len(each.arguments["a"]) for each in answer.tool_calls] == [800_000]


@pytest.fixture
def three_calls() -> Any:
    before = limits()
    set_limits(Limits(calls=3))
    yield
    set_limits(before)


def test_an_answer_has_a_bounded_number_of_calls_on_every_wire(three_calls: None) -> None:
    many = 5
    items = [responses.call(A, id=f"f{i}", call_id=f"c{i}") for i in range(many)]
    use = [anthropic.block(i, "tool_use", id=f"c{i}", name="f", input={}) for i in range(many)]
    answers = [
        streamed(*[chunk({"tool_calls": [call("f", A, index=i, id=f"c{i}")]}) for i in range(many)], END),
        responses.streamed(responses.CREATED, *[responses.done(item, i) for i, item in enumerate(items)]),
        anthropic.streamed(anthropic.begin(), *use),
        gemini.streamed(gemini.chunk(*[gemini.call("f", {}) for _ in range(many)])),
    ]
    wanted = ("malformed_response", "more than 3 tool calls in one answer")
    assert [failure(events) for events in answers] == [wanted] * 4
    with pytest.raises(AdapterError, match="more than 3 tool calls"):
        decoder().body(json.dumps({"choices": [{"message": {"tool_calls": [call("f", A)] * many}}]}).encode())


def test_a_call_keeps_its_place_among_text() -> None:
    answer = response(streamed(chunk({"content": "a"}), chunk({"tool_calls": [call("f", A)]}), chunk({"content": "b"}), END))
    assert [type(part).__name__ for part in answer.message.parts] == ["TextPart", "ToolCallPart", "TextPart"]
    assert frame({}) == b"data: {}\n\n"
