"""Our adapters pass the suite that third parties subclass; and a broken adapter fails it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

import allm
from allm.adapters import BaseDecoder, CallContext
from allm.providers.openai_chat import OpenAIChat
from allm.testing import AdapterConformance, OwnWire, Reply, Simulator
from allm.testing.wires.contract import Ask, Frames, sse
from tests.testing import broken


class TestChat(AdapterConformance):
    adapter = "openai.chat"
    wire = "chat"
    unknown = (
        sse(b'{"id": "c", "object": "chat.completion.moderation", "results": []}'),
        sse(b'{"id": "c", "choices": [{"index": 0, "delta": {"hologram": {"x": 1}}}]}'),
        sse(b'{"id": "c", "choices": [{"index": 3, "delta": {"content": "of another choice"}}]}'),
        sse(b'{"new": true}', event="weather"),
        b": comment\n\n",
    )


class TestResponses(AdapterConformance):
    adapter = "openai.responses"
    wire = "responses"
    length = "incomplete:max_output_tokens"
    unknown = (
        sse(b'{"type": "response.hologram.delta", "delta": "x", "sequence_number": 50}', event="response.hologram.delta"),
        sse(
            b'{"type": "response.output_item.added", "output_index": 90, "item": {"id": "h", "type": "hologram"}}'
            b'\n\ndata: {"type": "response.output_item.done", "output_index": 90, "item": {"id": "h", "type": "hologram"}}'
        ),
        b": comment\n\n",
    )


class TestAnthropic(AdapterConformance):
    adapter = "anthropic"
    wire = "messages"
    length = "max_tokens"
    unknown = (
        sse(b'{"type": "hologram", "x": 1}', event="hologram"),
        sse(b'{"type": "content_block_start", "index": 90, "content_block": {"type": "hologram"}}')
        + sse(b'{"type": "content_block_delta", "index": 90, "delta": {"type": "hologram_delta", "x": 1}}')
        + sse(b'{"type": "content_block_stop", "index": 90}'),
        sse(b'{"type": "ping"}', event="ping"),
    )


class TestGemini(AdapterConformance):
    adapter = "gemini"
    wire = "gemini"
    length = "MAX_TOKENS"
    unknown = (
        sse(b'{"hologram": {"x": 1}}'),
        sse(b'{"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"hologram": {"x": 1}}]}}]}'),
        sse(b'{"usageMetadata": {"hologramTokenCount": 3}}'),
    )


class TestFake(AdapterConformance):
    adapter = "fake"

    def engine(self, base_url: str, replies: Sequence[Reply]) -> allm.Engine:
        return allm.Engine("fake:any", adapter_opts={"scripts": [_script(reply) for reply in replies]}, retry=allm.Retry.none())


class TestWithoutTools(AdapterConformance):
    """A wire that has no tools, no reasoning and no word for its end, and in which a seed has no place."""

    adapter = "tests.testing.broken_requests:Plain"
    wire = "chat"
    tools = reasoning = usage = False
    length = None


def _script(reply: Reply) -> list[tuple[Any, ...]]:
    return [
        *(("reasoning", piece) for piece in reply.reasoning_pieces()),
        *(("text", piece) for piece in reply.text_pieces()),
        *(("tool_call", *call) for call in reply.tool_calls),
        ("usage", {"input_tokens": reply.input_tokens, "output_tokens": reply.told_tokens()}),
        ("finish", reply.finish or ("tool_calls" if reply.tool_calls else "stop")),
    ]


BUGS = {
    "test_the_events_of_an_answer_come_in_legal_order_and_say_all_of_it": "never_closes",
    "test_one_body_says_the_same_as_the_stream": "other_body",
    "test_any_cutting_of_the_stream_into_pieces_folds_alike": "forgets",
    "test_block_ids_are_unique_never_empty_and_not_used_again_by_the_next_attempt": "same_ids",
    "test_tool_calls_have_ids_of_their_own_also_beside_those_of_the_thread": "same_ids",
    "test_a_stream_that_is_cut_anywhere_before_its_end_marker_is_no_success": "hasty",
    "test_what_is_cut_at_the_end_marker_is_whole_or_no_success": "hasty",
    "test_a_body_that_is_cut_is_no_success": "hasty",
    "test_what_came_is_kept_when_the_stream_breaks_off": "loses_the_partial",
    "test_a_partial_answer_carries_its_error": "loses_the_partial",
    "test_nothing_comes_after_the_terminal_event": "never_ends",
    "test_events_of_an_unknown_kind_are_not_fatal": "strict",
    "test_fields_of_an_unknown_name_are_not_fatal": "strict",
    "test_a_malformed_chunk_fails_the_attempt": "lenient",
    "test_an_error_that_the_provider_tells_inside_the_stream_ends_it": "lenient",
    "test_raw_chunks_change_nothing_else": "raw_only",
    "test_every_event_survives_json_and_pickle": "no_data",
    "test_the_adapter_has_a_name_and_a_provider": "Nameless",
    "test_every_neutral_request_is_sent_or_refused_with_its_path": "NoSystem",
    "test_tool_results_are_sent": "NoResults",
    "test_the_same_request_is_sent_alike_each_time": "Numbers",
    "test_options_go_into_the_body_unchanged": "NoOptions",
    "test_what_another_provider_signed_is_not_sent": "TellsAll",
    "test_the_key_is_in_nothing_that_the_adapter_makes": "SendsTheKey",
    "test_error_statuses_become_the_closed_reasons": "Vague",
    "test_any_error_body_is_understood": "Vague",
    "test_every_way_to_make_a_call_gives_the_same": "other_body",
    "test_tool_calls_and_their_results_go_there_and_back": "NoResults",
    "test_cancelling_keeps_what_came_and_closes_upstream": "loses_the_partial",
    "test_a_stream_that_ends_too_early_is_truncated_and_keeps_what_came": "hasty",
    "test_a_connection_that_breaks_is_no_success": "hasty",
    "test_an_error_answer_is_raised_with_its_reason_status_and_wait": "Vague",
    "test_the_key_is_sent_and_stays_nowhere": "babbles",
    "test_every_field_of_a_request_is_sent_refused_or_told_to_be_left_out": (
        "no_temperature no_top_p no_limit no_seed no_stops no_effort no_format no_choice no_tools lost_images one_of_the_images "
        "lost_arguments lost_names lost_zeros mixes_results_up calls_anyway calls_any ForgetsTheAsker RefusesNamelessly SaysItLeavesOut"
    ),
    "test_the_model_of_a_request_wins_over_that_of_the_engine": "EngineDecides OneModel",
    "test_a_stream_is_asked_for_only_where_one_is_wanted": "AlwaysStreams NeverStreams",
    "test_it_is_told_why_an_answer_ended": "only_stops no_word",
    "test_it_is_told_what_an_answer_used": "uncounted",
    "test_errors_are_told_of_the_provider_and_of_no_other": "OthersFail others_break",
}
"""A test of the suite: the adapters in `broken.py` and `broken_requests.py` that it must fail."""

REFUSALS = "test_bad_requests_are_refused_before_anything_is_sent"  # no adapter can break it: the library refuses


def test_there_is_a_bug_for_every_test_of_the_suite() -> None:
    assert {*BUGS, REFUSALS} == {name for name in dir(AdapterConformance) if name.startswith("test_")}


@pytest.mark.parametrize(("name", "bug"), [(name, bug) for name, bugs in BUGS.items() for bug in bugs.split()])
def test_the_suite_finds(name: str, bug: str) -> None:
    suite = TestChat()
    suite.adapter = f"tests.testing.{'broken' if hasattr(broken, bug) else 'broken_requests'}:{bug}"
    with pytest.raises(AssertionError, match=r"\w"):
        getattr(suite, name)()


def test_the_suite_finds_that_a_bad_request_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allm.actors.request_plan.validate", _takes_anything)
    with pytest.raises(AssertionError, match="this is no success"):
        getattr(TestFake(), REFUSALS)()


def _takes_anything(request: allm.Request) -> None:
    pass


def test_nothing_of_the_suite_is_skipped_for_an_adapter_with_a_wire() -> None:
    assert all(suite.wire is not None and suite.tools and suite.reasoning for suite in (TestChat, TestResponses, TestAnthropic, TestGemini))


def test_the_suite_needs_no_test_runner() -> None:
    program = "import sys, allm.testing; allm.testing.AdapterConformance; print('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=50).stdout == "False\n"


def test_a_server_without_a_stream_of_events_may_stream_lines_of_json() -> None:
    """The content type says that it comes piece by piece; what a piece is, the decoder knows."""
    with Simulator(wires=[_Lines()], replies=[Reply(text="one two", delay=0.2)]) as sim, allm.Runtime() as runtime:
        engine = allm.Engine(adapter=f"{__name__}:LinesAdapter", model="m", base_url=sim.url)
        for event in allm.stream_generate(engine, "Hi", runtime=runtime):
            if isinstance(event, allm.TextDelta):
                assert sim.active_requests == 1, "the whole answer was read before any of it was told"
                break


class _Lines(OwnWire):
    def stream(self, ask: Ask, reply: Reply, number: int) -> Frames:
        lines = tuple(f'{{"text": "{piece}"}}\n'.encode() for piece in reply.text_pieces())
        return Frames((), lines, (b'{"done": true}\n',), "application/x-ndjson")


class LinesDecoder(BaseDecoder):
    def feed(self, data: bytes) -> list[allm.Event]:
        if not self.build.started:
            self.build.start(None, None)
        for line in data.splitlines():
            self.build.text(json.loads(line).get("text", ""))
        return self.build.take()

    def end(self) -> list[allm.Event]:
        return self.build.take()

    def body(self, data: bytes) -> list[allm.Event]:
        return self.feed(data)


class LinesAdapter(OpenAIChat):
    def decoder(self, engine: allm.Engine, context: CallContext) -> Any:
        return LinesDecoder(context)
