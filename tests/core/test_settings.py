"""Deadlines and the way HTTP is done."""

import math
from typing import Any

import pytest

from allm import Http, Timeouts, ValidationError

PHASES = ("connect", "first_event", "idle", "total", "tool")


def test_the_defaults_are_the_contracts() -> None:
    assert [getattr(Timeouts(), name) for name in PHASES] == [10, 120, 60, 600, 30]
    assert Http() == Http(
        proxy=None, verify=True, cert=None, headers={}, max_connections=None, transport="auto"
    )  # fmt: skip


@pytest.mark.parametrize("name", PHASES)
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, True, "5", 10**400])
def test_a_deadline_is_a_positive_number_of_seconds(name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Timeouts(**{name: value})
    assert caught.value.metadata == {"path": f"timeouts.{name}"}


@pytest.mark.parametrize("name", PHASES)
def test_none_is_no_deadline(name: str) -> None:
    none: dict[str, Any] = {name: None}
    assert getattr(Timeouts(**none), name) is None


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"headers": {"x-a": 5}}, "http.headers.x-a"),
        ({"headers": {5: "x"}}, "http.headers.5"),
        ({"headers": {"x-a": "a\r\nx-b: b"}}, "http.headers.x-a"),
        ({"headers": {"x\n": "a"}}, "http.headers.x\n"),
        ({"headers": {"x-a": "a\0"}}, "http.headers.x-a"),
        ({"headers": {"x-a": "é"}}, "http.headers.x-a"),
        ({"headers": {"é": "a"}}, "http.headers.é"),
        ({"headers": [("x-a", "b")]}, "http.headers"),
        ({"headers": None}, "http.headers"),
        ({"max_connections": 0}, "http.max_connections"),
        ({"max_connections": 2.5}, "http.max_connections"),
        ({"max_connections": True}, "http.max_connections"),
        ({"max_connections": "9"}, "http.max_connections"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused_with_their_path(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Http(**fields)
    assert caught.value.metadata == {"path": path}


@pytest.mark.parametrize(
    ("http", "kind"),
    [
        (Http(), "aiohttp"),
        (Http(headers={"x-a": "b"}, max_connections=1, verify=False), "aiohttp"),
        (Http(proxy="http://127.0.0.1:8080"), "httpx"),
        (Http(cert="client.pem"), "httpx"),
        (Http(cert=("client.pem", "client.key")), "httpx"),
        (Http(transport="httpx"), "httpx"),
        (Http(transport="aiohttp", proxy="http://127.0.0.1:8080"), "aiohttp"),
        (Http(transport="my.module:factory"), "my.module:factory"),
    ],
)
def test_auto_is_stock_httpx_only_where_a_proxy_or_certificate_asks_for_it(http: Http, kind: str) -> None:
    assert http.kind == kind
