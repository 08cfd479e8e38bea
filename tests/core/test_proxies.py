"""Proxies of the environment: which one goes for an address, and what is wrong with one that somebody set."""

import pytest

from allm import EngineError, Http, ValidationError
from allm.environment import Environment
from allm.proxies import Proxy, bypassed, proxy_for, proxy_problem
from allm.urls import host_of, problem_of, shown


def named(variables: dict[str, str], scheme: str = "https", host: str = "api.openai.com", port: int = 443) -> Proxy | None:
    return proxy_for(scheme, host, port, variables)


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"HTTPS_PROXY": "http://p:3128"}, ("http://p:3128", "HTTPS_PROXY")),
        ({"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:1"}, ("http://low:1", "https_proxy")),
        ({"ALL_PROXY": "socks5://p:1080"}, ("socks5://p:1080", "ALL_PROXY")),
        ({"HTTPS_PROXY": "127.0.0.1:3128"}, ("http://127.0.0.1:3128", "HTTPS_PROXY")),
        ({"all_proxy": "p:3128", "HTTPS_PROXY": ""}, ("http://p:3128", "all_proxy")),
        ({"https_proxy": "", "HTTPS_PROXY": "http://up:1"}, None),
        ({"HTTP_PROXY": "http://p:1"}, None),
        ({}, None),
    ],
)
def test_the_variable_of_the_scheme_comes_before_the_one_for_all_and_needs_no_scheme_itself(
    variables: dict[str, str], found: tuple[str, str] | None
) -> None:
    assert named(variables) == found


def test_a_cgi_script_does_not_take_its_proxy_from_a_header_of_the_request() -> None:
    variables = {"HTTP_PROXY": "http://evil:1", "REQUEST_METHOD": "GET"}
    assert named(variables, "http", "a.b", 80) is None
    assert named({**variables, "http_proxy": "http://p:1"}, "http", "a.b", 80) == ("http://p:1", "http_proxy")


@pytest.mark.parametrize(
    ("host", "port", "no_proxy", "passed"),
    [
        ("a.b", 443, "*", True),
        ("a.b", 443, "x.y,*", True),
        ("a.b", 443, "x.y a.b", True),
        ("a.b", 443, " x.y ,\ta.b ", True),
        ("c.a.b", 443, "a.b", True),
        ("c.a.b", 443, ".a.b", True),
        ("a.b", 443, ".a.b", True),
        ("a.b", 443, "*.a.b", True),
        ("A.B.", 443, "a.B", True),
        ("xa.b", 443, "a.b", False),
        ("127.0.0.1", 8000, "127.0.0.1:8000", True),
        ("127.0.0.1", 8001, "127.0.0.1:8000", False),
        ("a.b", 8000, "a.b:8000", True),
        ("a.b", 443, "a.b:8000", False),
        ("127.9.0.1", 80, "127.0.0.0/8", True),
        ("128.0.0.1", 80, "127.0.0.0/8", False),
        ("10.1.2.3", 80, "10.1.2.3/8", True),
        ("a.b", 80, "10.0.0.0/8", False),
        ("::1", 80, "::1", True),
        ("[::1]", 80, "[::1]:80", True),
        ("::1", 81, "[::1]:80", False),
        ("fd00::7", 80, "fd00::/8", True),
        ("a.b", 443, "https://a.b", True),
        ("a.b", 443, "http://a.b", False),
        ("a.b", 443, "all://a.b", True),
        ("a.b", 443, "", False),
        ("a.b", 443, ",, .", False),
    ],
)
def test_no_proxy_knows_names_ports_networks_and_everything(host: str, port: int, no_proxy: str, passed: bool) -> None:
    assert bypassed("https", host, port, no_proxy) is passed
    variables = {"ALL_PROXY": "http://p:1", "NO_PROXY": no_proxy}
    assert (named(variables, "https", host, port) is None) is passed


@pytest.mark.parametrize("url", ["http://p:3128", "https://p", "socks5://u:pw@p:1080", "socks5h://p", "HTTP://[::1]:1"])
def test_what_can_be_a_proxy(url: str) -> None:
    assert proxy_problem(url) is None
    assert Http(proxy=url).proxy == url


@pytest.mark.parametrize(
    "url", ["", " ", "host:1", "ftp://x", "socks://x", "socks4://x", "http://", "http://p:99999", "http://p\n", "http://a b", '"http://p"']
)
def test_what_can_be_none_is_refused_where_the_settings_are_made_and_nothing_of_it_is_shown(url: str) -> None:
    with pytest.raises(ValidationError, match=r"^http\.proxy: ") as caught:
        Http(proxy=url)
    assert caught.value.metadata == {"path": "http.proxy"}
    assert "p:99999" not in str(caught.value)
    with pytest.raises(ValidationError, match=r"^http\.proxy: expected text"):
        Http(proxy=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# base URLs


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("https://a.b/v1\n", "a line end or a blank"),
        (" https://a.b/v1", "a line end or a blank"),
        ("'https://a.b/v1'", "quotes"),
        ('"https://a.b/v1"', "quotes"),
        ("a.b/v1", "no scheme"),
        ("ftp://a.b/v1", "its scheme is none of http, https"),
        ("https://a b/v1", "a blank or a control character"),
        ("https://a.b\\.evil.test/v1", "a backslash"),
        ("https://me@a.b/v1", "without user name"),
        ("https:///v1", "no host"),
        ("https://a.b:99999/v1", "its host or its port"),
        ("https://[::1/v1", "its host or its port"),
        ("  ", "it is empty"),
    ],
)
def test_a_variable_that_is_no_base_url_is_named_with_what_is_wrong(value: str, told: str) -> None:
    with pytest.raises(EngineError, match=told) as caught:
        Environment({"OPENAI_BASE_URL": value}).base_url("openai")
    assert caught.value.reason == "bad_base_url"
    assert "OPENAI_BASE_URL" in str(caught.value)
    assert problem_of(value) is not None


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://A.b/v1", "https://a.b:443"),
        ("http://u:p@a.b:8080", "http://a.b:8080"),
        ("http://gateway.internal\\.evil.test/v1", None),
        ("https://api.openai.com\\@evil.test", None),
        ("https://api.open\nai.com", None),
        ("//a.b", None),
        ("https://a.b:x", None),
    ],
)
def test_the_host_of_an_address_is_the_one_that_a_client_would_ask(url: str, host: str | None) -> None:
    assert host_of(url) == host


def test_the_key_of_a_gateway_goes_to_no_host_behind_a_backslash() -> None:
    env = Environment({"OPENAI_BASE_URL": "http://gateway.internal/v1", "OPENAI_API_KEY": "sk-1"})
    assert env.key("openai", "http://gateway.internal/v1") == "sk-1"
    assert env.key("openai", "http://gateway.internal\\.evil.test:80/v1") is None
    assert Environment({"OPENAI_BASE_URL": "\\", "OPENAI_API_KEY": "sk-1"}).key("openai", "\\") is None


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("https://u:p@b.c/x?key=1#f", "https://b.c/x"),
        ("/v2/", "http://a.b:81/v2/"),
        ("//c.d:99/y", "http://c.d:99/y"),
        ("https://[::1]:5/z", "https://[::1]:5/z"),
        ("javascript:alert(1)", None),
        ("https://[", None),
        ("https://a.b/\x1b[2J", None),
    ],
)
def test_where_a_redirect_leads_is_shown_without_what_may_be_secret(location: str, told: str | None) -> None:
    assert shown(location, "http://a.b:81/v1") == told
