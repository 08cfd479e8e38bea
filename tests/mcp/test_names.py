"""Every name is one that all wires take, and no two are alike."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm.mcp.names import legal_names

LEGAL = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
NAMES = st.lists(st.text(max_size=80) | st.from_regex(r"[a-z./ -]{1,70}", fullmatch=True), unique=True, max_size=8)


@pytest.mark.parametrize(
    ("name", "prefix", "expected"),
    [
        ("echo", "", "echo"),
        ("get-sum", "everything_", "everything_get-sum"),
        ("files.read", "", "files_read"),
        ("a tool/of sorts", "", "a_tool_of_sorts"),
        ("2fast", "", "_2fast"),
        ("2fast", "x", "x2fast"),
        ("größe", "", "gr__e"),
        ("", "", "_"),
    ],
)
def test_what_a_name_becomes(name: str, prefix: str, expected: str) -> None:
    assert legal_names([name], prefix) == {name: expected}


def test_a_name_that_is_too_long_is_cut_and_ends_in_its_hash() -> None:
    long, other = "x" * 70 + "a", "x" * 70 + "b"
    found = legal_names([long, other])
    assert found[long] != found[other]
    assert all(len(name) == 64 and name.startswith("xxxx") for name in found.values())


def test_of_two_that_would_be_alike_the_one_that_is_legal_stays_as_it_is() -> None:
    found = legal_names(["files.read", "files_read", "files/read"])
    assert found["files_read"] == "files_read"
    assert len(set(found.values())) == 3


@given(NAMES, st.sampled_from(["", "p_", "9", "über.", "x" * 60]))
def test_names_are_legal_and_unlike_and_do_not_depend_on_their_order(names: list[str], prefix: str) -> None:
    found = legal_names(names, prefix)
    assert list(found) == names
    assert all(LEGAL.fullmatch(name) for name in found.values())
    assert len(set(found.values())) == len(names)
    assert legal_names(reversed(names), prefix) == found
    assert all(found[name] == prefix + name for name in names if LEGAL.fullmatch(prefix + name))
