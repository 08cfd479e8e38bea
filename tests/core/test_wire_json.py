"""JSON as it goes over a wire: what providers write carelessly is read all the same."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allm.plain import FrozenList
from allm.wire_json import MalformedJson, decode, encode


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": [1, 2.5, null, true, "x"]}', {"a": [1, 2.5, None, True, "x"]}),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"a\\ud83d b"', "a\ufffd b"),
        (b'{"\\ude00": "\\ud83dx"}', {"\ufffd": "\ufffdx"}),
        (b'["\\ud83d", "\\ud83d\\ude00"]', ["\ufffd", "😀"]),
    ],
)
def test_a_lone_surrogate_becomes_a_replacement_character_and_nothing_else_changes(data: bytes, value: Any) -> None:
    assert decode(data) == value


@pytest.mark.parametrize("data", [b"", b"{", b"NaN", b'{"a": NaN}', b"[Infinity]", b"1e999", b"[" * 100_000, b"\xff", b"{'a': 1}"])
def test_what_is_no_json_is_malformed_and_the_error_carries_nothing_of_it(data: bytes) -> None:
    with pytest.raises(MalformedJson) as caught:
        decode(data)
    assert (caught.value.args, caught.value.__cause__) == ((), None)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_decode_or_are_malformed(data: bytes) -> None:
    with suppress(MalformedJson):
        decode(data)


@settings(deadline=None)
@given(st.text())
def test_text_goes_both_ways(text: str) -> None:
    assert decode(encode({"t": text})) == {"t": text}
    assert decode(json.dumps(text).encode()) == text


def test_frozen_lists_are_arrays() -> None:
    assert encode({"a": FrozenList((1, FrozenList((2,))))}) == b'{"a":[1,[2]]}'
