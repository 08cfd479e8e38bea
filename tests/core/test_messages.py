"""Messages, their parts and threads."""

from pathlib import Path
from typing import Any

import pytest

import allm
from allm import FilePart, Image, ImagePart, Message, ProviderPart, ReasoningPart, TextPart, Thread, ToolCall, ToolCallPart, ValidationError
from allm.codec import from_json, to_json

PICTURE = ImagePart(Image.from_url("https://example.org/a.png"))
CALL = ToolCallPart("c1", "weather", {"city": "Oslo"})
MIXED = Message("assistant", (ReasoningPart("hm, "), TextPart("Hel"), PICTURE, ReasoningPart("so"), CALL, TextPart("lo")))


def test_text_calls_images_and_reasoning_are_derived_in_order() -> None:
    assert MIXED.text == "Hello"
    assert MIXED.reasoning_text == "hm, so"
    assert MIXED.tool_calls == (CALL,)
    assert MIXED.images == (PICTURE,)
    assert len(MIXED.parts) == 6


def test_a_message_of_plain_text_has_one_part_or_none() -> None:
    assert Message("user", "hi").parts == (TextPart("hi"),)
    assert Message("user").parts == ()
    assert (Message("user", "hi").tool_calls, Message("user", "hi").reasoning_text) == ((), "")


def test_a_list_of_parts_becomes_a_tuple() -> None:
    parts: Any = [TextPart("a")]
    assert Message("user", parts).content == (TextPart("a"),)


def test_the_makers_of_messages_give_each_role() -> None:
    assert allm.system("a") == Message("system", "a")
    assert allm.user("a") == Message("user", "a")
    assert allm.assistant("a") == Message("assistant", "a")
    assert allm.assistant(["a"]) == Message("assistant", (TextPart("a"),))
    assert allm.tool_result("c1", "22") == Message("tool", "22", tool_call_id="c1")


def test_texts_and_images_among_parts_become_parts() -> None:
    image = PICTURE.image
    assert allm.user(["Look:", image, PICTURE]).content == (TextPart("Look:"), PICTURE, PICTURE)
    assert allm.user(image).content == (PICTURE,)
    assert allm.user(PICTURE).content == (PICTURE,)


def test_what_is_no_part_is_refused_with_its_place() -> None:
    bad: Any = ["a", 5]
    with pytest.raises(ValidationError, match=r"content\[1\]: expected text, a part or an image, got int"):
        allm.user(bad)


def test_a_tool_call_is_a_tool_call_part() -> None:
    assert ToolCall is ToolCallPart


def test_messages_are_values() -> None:
    message: Any = Message("user", "hi")
    assert message == Message("user", "hi")
    with pytest.raises(AttributeError):
        message.content = "changed"


def test_a_provider_part_keeps_its_makers_word_apart_from_the_tag() -> None:
    part = ProviderPart("openai", "web_search_call", {"n": [1]})
    assert part.type == "web_search_call"
    assert b'"part_type":"web_search_call"' in to_json(part)
    assert from_json(to_json(part), ProviderPart) == part


# Threads


def test_a_thread_grows_by_giving_a_new_one() -> None:
    empty = Thread(metadata={"topic": "x"})
    thread = empty.add_system("s").add_user("u").add_assistant("a").add_message(allm.tool_result("c", "r"))
    thread = thread.add_messages([allm.user("v"), allm.user(["w"])])
    assert [message.role for message in thread.messages] == ["system", "user", "assistant", "tool", "user", "user"]
    assert thread.last_message == allm.user(["w"])
    assert thread.metadata == {"topic": "x"}
    assert (empty.messages, empty.last_message) == ((), None)


def test_a_thread_takes_a_list() -> None:
    messages: Any = [allm.user("a")]
    assert Thread(messages).messages == (allm.user("a"),)


# Files


def test_a_file_is_read_at_once_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"first")
    part = FilePart(path=file, mime="text/plain")
    file.write_bytes(b"second")
    assert part == FilePart(data=b"first", mime="text/plain", name="a.txt")
    assert FilePart(path=str(file), name="b").name == "b"


@pytest.mark.parametrize("path", ["missing.txt", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValidationError, match=r"^file: .*cannot be read"):
        FilePart(path=f"{tmp_path}/{path}")


def test_no_document_can_name_a_file_to_be_read(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"secret")
    document = b'{"v":1,"type":"file_part","path":"%s","url":"https://example.org/a"}' % str(file).encode()
    part = from_json(document, FilePart)
    assert (part.data, part.url) == (None, "https://example.org/a")
    assert from_json(document.replace(b',"url":"https://example.org/a"', b""), FilePart).data is None
