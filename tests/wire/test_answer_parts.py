"""Text beside an answer that the wire takes as the arguments of a tool: it stays in the message, and is none of the answer."""

import json
from typing import Any

import allm
from allm.blocks import CallContext
from allm.events import MessageCompleted
from allm.providers.anthropic import Anthropic
from allm.providers.gemini import GeminiDecoder
from tests.wire.anthropic import begin, block, delta, finish, start, stop, streamed, text
from tests.wire.chat import checked

ANSWER = '{"n": 10}'


def anthropic(*blocks: bytes) -> allm.Response:
    done = streamed(begin(), *blocks, finish("tool_use"), b'event: message_stop\ndata: {"type": "message_stop"}\n\n')[-1]
    assert isinstance(done, MessageCompleted)
    return done.response


def tool(index: int, arguments: str = ANSWER, name: str = "allm_answer") -> bytes:
    return block(index, "tool_use", ("input_json_delta", {"partial_json": arguments}), id=f"t{index}", name=name, input={})


def gemini(*parts: dict[str, Any]) -> allm.Response:
    decoder = GeminiDecoder(CallContext(request_id="req"))
    chunk = {"candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP", "index": 0}]}
    done = checked(decoder.feed(f"data: {json.dumps(chunk)}\n\n".encode()) + decoder.end())[-1]
    assert isinstance(done, MessageCompleted)
    return done.response


def called(**arguments: Any) -> dict[str, Any]:
    return {"functionCall": {"name": "allm_answer", "args": arguments}}


def test_text_before_and_after_the_answer_stays_and_is_none_of_it() -> None:
    for response in (
        anthropic(text(0, "Let me ", "see {1}.\n"), tool(1), text(2, "That is [all].")),
        gemini({"text": "Let me see {1}.\n"}, called(n=10), {"text": "That is [all]."}),
    ):
        assert [part.text for part in response.message.parts if isinstance(part, allm.TextPart)][::2] == [
            "Let me see {1}.\n",
            "That is [all].",
        ]
        assert response.parsed == {"n": 10}
        assert response.metadata["answer_part"] == 1
        assert allm.from_json(allm.to_json(response), allm.Response).parsed == {"n": 10}


def test_an_answer_alone_is_plain_text_without_a_mark() -> None:
    for response in (anthropic(tool(0)), gemini(called(n=10))):
        assert isinstance(response.message.content, str)
        assert "answer_part" not in response.metadata
        assert response.parsed == {"n": 10}


def test_reasoning_and_calls_beside_the_answer_do_not_move_the_mark() -> None:
    thought = block(0, "thinking", ("thinking_delta", {"thinking": "Hm."}), thinking="")
    response = anthropic(thought, text(1, "So: "), tool(2, "{}", "look"), tool(3))
    assert (response.metadata["answer_part"], response.parsed) == (3, {"n": 10})
    assert [call.name for call in response.tool_calls] == ["look"]


def test_of_two_answers_the_last_one_is_read() -> None:
    assert anthropic(tool(0), tool(1, '{"n": 11}')).parsed == {"n": 11}
    assert gemini(called(n=10), called(n=11)).parsed == {"n": 11}


def test_a_text_that_is_marked_by_someone_else_is_read_whole() -> None:
    for place in (7, -1, "0", None):
        response = allm.Response(message=allm.assistant(ANSWER), finish_reason="stop", metadata={"answer_part": place})
        assert response.parsed == {"n": 10}


def test_citations_of_interleaved_texts_go_back_with_their_own_text() -> None:
    cited = [
        {"type": "char_location", "cited_text": word, "document_index": 0, "start_char_index": 0, "end_char_index": 1} for word in "ab"
    ]
    events = streamed(
        begin(),
        start(0, "text", text=""),
        start(1, "text", text=""),
        delta(1, "text_delta", text="second"),
        delta(0, "text_delta", text="first"),
        delta(0, "citations_delta", citation=cited[0]),
        delta(1, "citations_delta", citation=cited[1]),
        stop(0),
        stop(1),
        finish(),
    )
    last = checked(events)[-1]
    assert isinstance(last, MessageCompleted)
    request = allm.Request((allm.user("Hi"), last.response.message, allm.user("And?")))
    sent = Anthropic().request(allm.Engine("anthropic:m"), request, "https://api.anthropic.com", False)
    blocks = json.loads(sent.body)["messages"][1]["content"]
    assert {block["text"]: [each["cited_text"] for each in block["citations"]] for block in blocks} == {"first": ["a"], "second": ["b"]}
