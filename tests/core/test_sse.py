"""Server-sent events: bytes to frames, in any chunking."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allm.sse import Frame, FrameTooLarge, SseDecoder

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
