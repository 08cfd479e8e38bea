"""Server-sent events: bytes to frames, in any chunking."""

import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allm import sse, wire_json
from allm.limits import Limits, limits, set_limits
from allm.sse import BARE, Frame, FrameTooLarge, SseDecoder

BOM = b"\xef\xbb\xbf"


def decode(*chunks: bytes) -> list[Frame]:
    decoder = SseDecoder()
    frames = [frame for chunk in chunks for frame in decoder.feed(chunk)]
    return frames + decoder.close()


def by_the_letter(data: bytes) -> list[Frame]:
    """The standard's algorithm, line by line over the whole text; only the last event is given without its blank line too."""
    frames: list[Frame] = []
    event, lines = b"", list[bytes]()
    text = data.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for line in [*text.split(b"\n"), b""]:
        if not line:
            if lines:
                frames.append(Frame(event, b"\n".join(lines)))
            event, lines = b"", []
            continue
        name, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if name == b"data":
            lines.append(value)
        elif name == b"event":
            event = value
    return frames


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(ends)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_lines_end_with_lf_crlf_or_cr(end: bytes) -> None:
    text = end.join([b"event: add", b"data: 1", b"", b"data: 2", b"", b""])
    assert decode(text) == [Frame(b"add", b"1"), Frame(b"", b"2")]


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (BOM + b"data: 1\n\n", [b"1"]),
        (b"data: 1\n\n" + BOM + b"data: 2\n\n", [b"1"]),
        (b": OPENROUTER PROCESSING\n\ndata: 1\n\n: again\n", [b"1"]),
        (b"data: {\ndata:  1\ndata: }\n\n", [b"{\n 1\n}"]),
        (b"data: 1\n\ndata: 2", [b"1", b"2"]),
        (b"data: 1\n\ndata: 2\n", [b"1", b"2"]),
        (b"data: 1\r", [b"1"]),
        (b"data:\n\n", [b""]),
        (b"data\n\n", [b""]),
        (b"data:1\n\n", [b"1"]),
        (b"data:  1\n\n", [b" 1"]),
        (b"data: a: b\n\n", [b"a: b"]),
        (b"id: 7\nretry: 10\nunknown\ndata: 1\n\n", [b"1"]),
        (b"Data: 1\n\n data: 2\n\n", []),
        (b"\n\n\n", []),
        (b"", []),
    ],
)
def test_frames_are_what_the_standard_says(data: bytes, frames: list[bytes]) -> None:
    assert [frame.data for frame in decode(data)] == frames


def test_the_event_name_belongs_to_one_event() -> None:
    assert decode(b"event: error\ndata: 1\n\ndata: 2\n\n") == [Frame(b"error", b"1"), Frame(b"", b"2")]


def test_an_event_name_without_data_is_no_frame_and_is_forgotten() -> None:
    assert decode(b"event: ping\n\ndata: 1\n\n") == [Frame(b"", b"1")]


def test_a_frame_is_given_as_soon_as_its_blank_line_is_there() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: 1\n") == []
    assert decoder.feed(b"\n") == [Frame(b"", b"1")]


@pytest.mark.parametrize("line", [b"data: ", b"data:"], ids=["with space", "without"])
@pytest.mark.parametrize("size", [40, 1, 3], ids=["whole", "by bytes", "in threes"])
def test_an_event_may_grow_to_the_limit_and_no_further(line: bytes, size: int) -> None:
    def feed(data: bytes) -> list[Frame]:
        decoder = SseDecoder(limit=20)
        return [frame for i in range(0, len(data), size) for frame in decoder.feed(data[i : i + size])]

    within = line + b"x" * (20 - len(line)) + b"\n\n"
    assert feed(within * 3) == [Frame(b"", b"x" * (20 - len(line)))] * 3
    with pytest.raises(FrameTooLarge):
        feed(line + b"x" * (21 - len(line)) + b"\n\n")
    with pytest.raises(FrameTooLarge):
        feed((line + b"x" * 3 + b"\n") * 3)
    with pytest.raises(FrameTooLarge):
        feed(b"x" * 21)


_pieces = st.sampled_from([
    b"data: ", b"data:", b"data", b"event: ", b"event:e", b": c", b"id: 1", b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\r", b"x",
    b" ", b"\xc3\xa9", b"\x00", BOM, b"\xef", b"\xbb",
])  # fmt: skip
_streams = st.lists(_pieces, max_size=20).map(b"".join) | st.binary(max_size=40)


@settings(deadline=None, max_examples=300)
@given(_streams, st.lists(st.integers(0, 200), max_size=8))
def test_any_chunking_of_any_bytes_gives_the_frames_of_the_standard(data: bytes, places: list[int]) -> None:
    expected = by_the_letter(data)
    assert decode(data) == expected
    assert decode(*cut(data, places)) == expected
    assert decode(*(data[i : i + 1] for i in range(len(data)))) == expected


# JSON without `data:`


def bare(*chunks: bytes, limit: int | None = None) -> list[Frame]:
    decoder = SseDecoder(limit, bare=True)
    frames = [frame for chunk in chunks for frame in decoder.feed(chunk)]
    return frames + decoder.close()


PRETTY = b'{\n  "error": {\n    "a": [\n      1\n    ]\n  }\n}'


@pytest.mark.parametrize("size", [1000, 1, 5], ids=["whole", "by bytes", "in fives"])
@pytest.mark.parametrize("document", [b'{"a": 1}', PRETTY, b"[" + PRETTY + b"\n,\n" + PRETTY + b"\n]", PRETTY.replace(b"\n", b"\r\n")])
def test_json_without_data_is_a_frame_in_its_place(document: bytes, size: int) -> None:
    stream = b"data: 1\n\n" + document + b"\n\n: ping\ndata: 2\n\n" + document
    told = bare(*[stream[i : i + size] for i in range(0, len(stream), size)])
    plain = document.replace(b"\r\n", b"\n")
    assert told == [Frame(b"", b"1"), Frame(BARE, plain), Frame(b"", b"2"), Frame(BARE, plain)]
    assert decode(stream) == [Frame(b"", b"1"), Frame(b"", b"2")]  # by the standard such lines say nothing


@pytest.mark.parametrize("junk", [b"{", b"[1,", b"{\n{\n}", b'"a": 1', b"}", b"nonsense {}", b"event {}", b"\t"])
def test_what_is_no_json_is_forgotten_when_an_event_follows(junk: bytes) -> None:
    assert bare(junk + b"\n\ndata: 1\n\n{}\n\n" + junk) == [Frame(b"", b"1"), Frame(BARE, b"{}")]


def test_json_without_data_is_given_as_soon_as_it_is_whole() -> None:
    decoder = SseDecoder(bare=True)
    assert decoder.feed(PRETTY) == []
    assert decoder.feed(b"\n") == [Frame(BARE, PRETTY)]


def test_a_document_of_many_lines_is_read_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counting(data: bytes) -> Any:
        read.append(len(data))
        return wire_json.decode(data)

    monkeypatch.setattr(sse, "decode", counting)
    lines = [b"[{}\n"] + [b",{}\n"] * 20_000 + [b"]\n"]
    size = sum(map(len, lines))
    assert [len(frame.data) for frame in bare(*lines)] == [size - 1]
    assert len(read) < 40
    assert sum(read) < 3 * size


def test_lines_without_data_are_held_within_the_limit() -> None:
    tracemalloc.start()
    try:
        decoder = SseDecoder(1 << 20, bare=True)
        refused = 0
        for _ in range(30):
            try:
                decoder.feed(b'{\n"\n' * 5000)
            except FrameTooLarge:
                refused += 1
        assert refused > 5
        plain = SseDecoder(1 << 20)
        for _ in range(30):
            plain.feed(b'{\n"\n' * 5000)  # nobody asked for them
        assert tracemalloc.get_traced_memory()[0] < 4 << 20
    finally:
        tracemalloc.stop()


def test_nothing_of_an_event_that_is_too_large_is_held() -> None:
    decoder = SseDecoder(10)
    with pytest.raises(FrameTooLarge):
        decoder.feed(b"data: " + b"x" * 20)
    assert decoder.feed(b"\n\ndata: 1\n\n") == [Frame(b"", b"1")]


def test_the_limit_is_that_of_the_process_where_none_is_given() -> None:
    before = limits()
    set_limits(Limits(frame=10))
    try:
        with pytest.raises(FrameTooLarge):
            SseDecoder().feed(b"data: " + b"x" * 20)
    finally:
        set_limits(before)


def test_a_line_in_pieces_of_two_bytes_is_put_together_and_takes_no_more_room_than_it_has_bytes() -> None:
    text = b"ab" * 300_000
    decoder = SseDecoder()
    decoder.feed(b"data: ")
    tracemalloc.start()
    try:
        for start in range(0, len(text), 2):
            assert decoder.feed(text[start : start + 2]) == []
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * len(text)
    assert most < 4 * len(text)
    assert decoder.feed(b"\n\n") == [Frame(b"", text)]


def test_a_read_of_one_event_may_end_with_crlf() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: a\n\n") == [Frame(b"", b"a")]
    for end in (b"\r\n\r\n", b"\r\r\n\n", b"\n\r\n\n"):
        assert decoder.feed(b"data: a" + end) + decoder.feed(b"data: b\r\n\r\n") == [Frame(b"", b"a"), Frame(b"", b"b")], end
    assert decoder.feed(b"event: x\r\n") + decoder.feed(b"data: c\r\n\r\n") == [Frame(b"x", b"c")]
    assert decoder.feed(b"data: d\r\n") + decoder.feed(b"data: e\r\n\r\n") == [Frame(b"", b"d\ne")]
