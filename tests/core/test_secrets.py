"""Secrets of an engine: what stands in `keys`, in headers, in addresses is not shown, not quoted, not carried off."""

import copy
import functools
import gc
import os
import pickle
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from rich.pretty import pretty_repr

import allm
from allm.codec import to_json
from allm.masking import masked_address
from allm.mcp import Server

CANARY = "sk-canary-0123456789abcdef"
make: Any = allm.Engine


def lookup(key: str, provider: str, context: object) -> str:
    return key


def resolver(provider: str, context: object) -> str | None:
    return None


@dataclass
class Tenant:
    """A resolver that holds its key, and says so."""

    token: str

    def __call__(self, provider: str, context: object) -> str:
        return self.token

    def find(self, provider: str, context: object) -> str:
        return self.token


def closure(key: str) -> Callable[..., str]:
    def resolve(provider: str, context: object) -> str:
        return key

    return resolve


HOLDERS: dict[str, Any] = {
    "mapping": {"openai": CANARY},
    "mapping of bytes": {"openai": CANARY.encode()},
    "read-only mapping": types.MappingProxyType({"openai": CANARY}),
    "partial": functools.partial(lookup, CANARY),
    "object": Tenant(CANARY),
    "method": Tenant(CANARY).find,
    "closure": closure(CANARY),
    "text with a colon": f"tenant:{CANARY.replace('-', '_')}",
    "text with a module's name": f"os:{CANARY.replace('-', '_')}",
    "dotted text": f"no.such.package:{CANARY.replace('-', '_')}",
}
MISTAKES: dict[str, Any] = {
    "text": CANARY,
    "list": [CANARY],
    "tuple": (CANARY,),
    "set": {CANARY},
    "bytes": CANARY.encode(),
    "list of pairs": [("openai", CANARY)],
    "number": 7,
}
MARKS = (CANARY, CANARY.replace("-", "_"))


def clean(text: object) -> bool:
    return not any(mark in str(text) for mark in MARKS)


@pytest.mark.parametrize("kind", HOLDERS)
def test_what_stands_in_keys_is_shown_nowhere(kind: str) -> None:
    engine = allm.Engine("openai:m", keys=HOLDERS[kind])
    for shown in (repr(engine), str(engine), f"{engine}", pretty_repr(engine), pretty_repr({"locals": [engine]})):
        assert clean(shown), shown
    assert "keys='***'" in repr(engine)
    if isinstance(HOLDERS[kind], Mapping):
        assert clean(repr(engine.keys))
        assert clean(pretty_repr(engine.keys))


@pytest.mark.parametrize("kind", HOLDERS)
def test_what_stands_in_keys_is_not_carried_off_nor_quoted_in_the_refusal(kind: str) -> None:
    engine = allm.Engine("openai:m", keys=HOLDERS[kind])
    for send in (to_json, pickle.dumps):
        with pytest.raises(allm.EngineError) as caught:
            send(engine)
        assert caught.value.reason in ("holds_keys", "not_portable")
        assert clean(caught.value.info)
    if isinstance(engine.keys, Mapping | str):
        with pytest.raises(allm.EngineError) as caught:
            allm.handoff.dumps(engine)
        assert clean(caught.value.info)
    else:  # a closure travels by handoff, between trusted processes, as it is said there
        again = allm.handoff.loads(allm.handoff.dumps(engine))
        assert again.keys("openai", None) == CANARY


@pytest.mark.parametrize("kind", HOLDERS)
def test_the_frames_of_a_refusal_to_send_hold_no_key(kind: str) -> None:
    engine = allm.Engine("openai:m", keys=HOLDERS[kind])
    for send in (to_json, pickle.dumps, msgspec.json.encode, msgspec.to_builtins):
        try:
            sent: Any = send(engine)
        except Exception as error:
            places = [clean(local) for local in locals_of_ours(error)]
            assert places, "the error comes from the library"
            assert all(places)
        else:  # msgspec knows no refusal of ours, and text with a colon is the name of a resolver
            assert clean(sent) or isinstance(engine.keys, str)


def locals_of_ours(error: BaseException | None) -> Iterator[object]:
    """What the frames of the library hold, along the chain of an error."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            yield "a frame"
            if f"{os.sep}allm{os.sep}" in frame.f_code.co_filename:
                yield from map(repr, frame.f_locals.values())
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins], ids=lambda one: one.__name__)
def test_msgspec_does_not_encode_the_mapping_in_keys(encode: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError) as caught:
        encode(allm.Engine("openai:m", keys={"openai": CANARY}))
    assert clean(caught.value)


@pytest.mark.parametrize("kind", MISTAKES)
def test_what_cannot_be_keys_is_refused_at_once_and_not_quoted(kind: str) -> None:
    with pytest.raises(allm.ValidationError) as caught:
        make("openai:m", keys=MISTAKES[kind])
    assert caught.value.metadata == {"path": "engine.keys"}
    assert clean(caught.value.info)


@pytest.mark.parametrize("kind", ["text with a colon", "text with a module's name", "dotted text", "mapping of bytes"])
def test_a_call_with_keys_that_are_none_says_so_without_them(kind: str) -> None:
    engine = allm.Engine("openai.chat:m", base_url="http://127.0.0.1:9/v1", keys=HOLDERS[kind])
    with pytest.raises(allm.EngineError) as caught:
        allm.generate(engine, "hi")
    assert caught.value.reason in ("not_importable", "bad_key")
    assert clean(caught.value.info)
    assert clean(repr(caught.value))


def test_resolvers_that_are_functions_or_their_names_travel() -> None:
    for keys in (resolver, f"{__name__}:resolver", "json:dumps", None):
        engine = allm.Engine("openai:m", keys=keys)
        assert pickle.loads(pickle.dumps(engine)) == engine
        assert to_json(engine)
        assert allm.handoff.loads(allm.handoff.dumps(engine)) == engine


def test_an_engine_with_keys_is_its_own_copy() -> None:
    engine = allm.Engine("openai:m", keys={"openai": CANARY})
    assert copy.copy(engine) is engine
    assert copy.deepcopy({"engine": engine})["engine"] is engine


def test_the_mapping_in_keys_is_read_as_one_and_is_the_engines_own() -> None:
    given = {"openai": "a", "gemini": "b"}
    engine = allm.Engine("openai:m", keys=given)
    given["openai"] = "c"
    assert engine.keys == {"openai": "a", "gemini": "b"}
    assert (engine.keys["gemini"], len(engine.keys), sorted(engine.keys)) == ("b", 2, ["gemini", "openai"])
    assert engine.with_model("x").keys == engine.keys
    with pytest.raises(allm.EngineError):
        pickle.dumps(engine.keys)


# Frames


def frames_of(error: BaseException) -> Iterator[types.FrameType]:
    """Every frame that an error keeps: of its traceback, of its causes and contexts, and of their callers up to this module."""
    seen: set[int] = set()
    while error.__cause__ or error.__context__ or error.__traceback__:
        trace = error.__traceback__
        while trace is not None:
            frame: types.FrameType | None = trace.tb_frame
            while frame is not None and id(frame) not in seen:
                seen.add(id(frame))
                if frame.f_code.co_filename == __file__:
                    break
                yield frame
                frame = frame.f_back
            trace = trace.tb_next
        error = error.__cause__ or error.__context__ or BaseException()


def reaches_a_secret(root: object) -> bool:
    todo, known = [root], set[int]()
    while todo and len(known) < 20_000:
        thing = todo.pop()
        if id(thing) in known or isinstance(thing, type | types.ModuleType | types.FunctionType | types.FrameType):
            continue
        known.add(id(thing))
        if isinstance(thing, str | bytes) and not clean(thing if isinstance(thing, str) else thing.decode("latin-1")):
            return True
        todo += gc.get_referents(thing)
    return False


WRONG: dict[str, Callable[[], object]] = {
    "an unknown param": lambda: make("openai:m", keys={"openai": CANARY}, params={"nope": 1}),
    "an unknown field": lambda: make("openai:m", keys={"openai": CANARY}, nope=1),
    "a param that is no JSON": lambda: make("openai:m", keys={"openai": CANARY}, params={"seed": float("nan")}),
    "a name and an adapter": lambda: make("openai:m", adapter="openai", keys={"openai": CANARY}),
    "no adapter": lambda: make(keys={"openai": CANARY}),
    "a name without a colon": lambda: make("openai", keys={"openai": CANARY}),
    "two arguments": lambda: make("openai:m", {"openai": CANARY}),
    "a tool that is none": lambda: make("openai:m", keys={"openai": CANARY}, tools=[7]),
    "keys that are a text": lambda: make("openai:m", keys=CANARY),
    "keys that are a list": lambda: make("openai:m", keys=[CANARY]),
    "a resolver": lambda: make("openai:m", keys=functools.partial(lookup, CANARY), retry=3),
    "api_key": lambda: make("openai:m", api_key=CANARY),
    "a wrong header": lambda: allm.Http(headers={"authorization": f"Bearer {CANARY}\n"}),
    "an engine with headers": lambda: make("openai:m", http=allm.Http(headers={"authorization": CANARY}), retry=3),
    "configure": lambda: allm.configure(keys=[CANARY]),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "configure, and something else that is wrong": lambda: allm.configure(keys={"openai": CANARY}, limits=make),
    "configure, and a file that is none": lambda: allm.configure(keys={"openai": CANARY}, load_dotenv=make),
    "put_param": lambda: make("openai:m").put_param("api_key", CANARY),
    "merge_opts": lambda: make("openai:m").merge_opts(api_key=CANARY),
    "keys that are a text, in place of others": lambda: replace(make("openai:m"), keys=CANARY),
    "keys, in place of others": lambda: replace(make("openai:m"), keys={"openai": CANARY}, retry=3),
    "headers, in place of others": lambda: replace(allm.Http(), headers={"authorization": f"{CANARY}\n"}),
    "a certificate": lambda: allm.Http(cert=("cert.pem", "key.pem", CANARY, "more")),
    "an MCP server's environment": lambda: Server.stdio("server", env={"TOKEN": CANARY, "LEVEL": make}),
    "an MCP server's headers": lambda: Server.http("ftp://127.0.0.1", headers={"authorization": CANARY}),
    "a proxy": lambda: allm.Http(proxy=f"http://me:{CANARY}@127.0.0.1:1", max_connections=0),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_frames_of_a_failed_constructor_hold_no_key(case: str) -> None:
    with pytest.raises((TypeError, allm.ValidationError)) as caught:
        WRONG[case]()
    assert clean(caught.value)
    for frame in frames_of(caught.value):
        assert not reaches_a_secret(dict(frame.f_locals)), f"in the locals of {frame.f_code.co_name}"


# Headers, proxies, addresses

ADDRESSES = {
    "https://api.openai.com/v1": "https://api.openai.com/v1",
    "http://127.0.0.1:8080": "http://127.0.0.1:8080",
    "https://generativelanguage.googleapis.com/v1beta/openai": "https://generativelanguage.googleapis.com/v1beta/openai",
    f"https://gateway.test/{CANARY}/v1": "https://gateway.test/***/v1",
    f"https://gateway.test/v1?key={CANARY}": "https://gateway.test/v1?***",
    f"https://gateway.test/v1#{CANARY}": "https://gateway.test/v1#***",
    f"https://me:{CANARY}@gateway.test:444/v1": "https://***@gateway.test:444/v1",
    f"me:{CANARY}@127.0.0.1:3128": "***@127.0.0.1:3128",
    f"http://me:a@b{CANARY}@127.0.0.1:3128": "http://***@127.0.0.1:3128",
    f"socks5h://{CANARY}@127.0.0.1:1": "socks5h://***@127.0.0.1:1",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_shown_without_what_may_be_a_secret(address: str) -> None:
    assert masked_address(address) == ADDRESSES[address]


def test_headers_proxies_and_addresses_are_shown_with_stars() -> None:
    http = allm.Http(
        headers={"Authorization": f"Bearer {CANARY}", "x-team": CANARY}, proxy=f"http://me:{CANARY}@127.0.0.1:1", verify="ca.pem"
    )
    engine = allm.Engine("openai:m", http=http, base_url=f"http://127.0.0.1:9/{CANARY}/v1?key={CANARY}")
    for shown in (repr(http), pretty_repr(http), repr(engine), pretty_repr(engine), pretty_repr([engine, http])):
        assert clean(shown), shown
    assert repr(http) == "Http(proxy='http://***@127.0.0.1:1', verify='ca.pem', headers={'Authorization': '***', 'x-team': '***'})"
    assert repr(allm.Http()) == "Http()"


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "Cookie", "Proxy-Authorization", "X-Gateway-Token", "Helicone-Auth"])
def test_an_engine_with_a_credential_in_a_header_does_not_travel(name: str) -> None:
    engine = allm.Engine("openai:m", http=allm.Http(headers={name: CANARY, "x-team": "a"}))
    for send in (to_json, pickle.dumps, allm.handoff.dumps):
        with pytest.raises(allm.EngineError, match=name) as caught:
            send(engine)
        assert caught.value.reason == "holds_keys"
        assert clean(caught.value.info)
    with pytest.raises(allm.EngineError):
        to_json(engine.http)
    bare = engine.without_secrets()
    assert bare.http.headers == {"x-team": "a"}
    assert to_json(bare)


def test_an_engine_with_a_proxys_password_does_not_travel() -> None:
    engine = allm.Engine("openai:m", http=allm.Http(proxy=f"http://me:{CANARY}@127.0.0.1:1"))
    with pytest.raises(allm.EngineError) as caught:
        to_json(engine)
    assert clean(caught.value.info)
    plain = allm.Engine("openai:m", http=allm.Http(proxy="http://127.0.0.1:1", headers={"x-team": "a"}))
    assert allm.from_json(to_json(plain), trusted=True) == plain


CREDENTIALS: dict[str, allm.Http] = {
    "the password of a key": allm.Http(cert=("cert.pem", "key.pem", CANARY)),
    "a header": allm.Http(headers={"authorization": CANARY}),
    "a header with a name of its own": allm.Http(headers={"x-team": f"Bearer {CANARY}"}),
    "the password of a proxy": allm.Http(proxy=f"http://me:{CANARY}@127.0.0.1:1"),
}


@pytest.mark.parametrize("where", CREDENTIALS)
def test_a_credential_in_http_is_not_shown_and_goes_nowhere_alone_or_with_its_engine(where: str) -> None:
    http = CREDENTIALS[where]
    engine = allm.Engine("openai:m", http=http)
    for value in (http, engine):
        senders: list[Callable[[Any], object]] = [to_json, pickle.dumps, *([allm.handoff.dumps] if value is engine else [])]
        for send in senders:
            with pytest.raises(allm.EngineError) as caught:
                send(value)
            assert caught.value.reason == "holds_keys"
            assert clean(caught.value.info)
        assert clean(repr(value))
        assert clean(pretty_repr(value))
        assert copy.deepcopy(value) == copy.copy(value) == value
    assert clean(to_json(engine.without_secrets()))


def test_http_without_credentials_is_pickled_whole() -> None:
    plain: Any = allm.Http(cert=["cert.pem", "key.pem"], verify="ca.pem", headers={"x-team": "a"}, max_connections=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert pickle.loads(pickle.dumps(plain)) == plain
    assert plain.cert == ("cert.pem", "key.pem")


def test_the_tree_and_the_counts_show_no_secret_of_an_address() -> None:
    paths = [f"/{CANARY}/v1", f"/other-{CANARY}/v1"]
    with allm.Runtime() as runtime:
        for path in paths:
            engine = allm.Engine("openai.chat:m", base_url=f"http://127.0.0.1:9{path}", keys={"openai": "k"}, retry=allm.Retry.none())
            with pytest.raises(allm.AllmError):
                allm.generate(engine, "hi", runtime=runtime)
        tree, stats = repr(runtime.tree()), runtime.stats()
    assert clean(tree)
    assert clean(stats)
    names = list(stats["engines"])
    assert len(names) == 2, "two addresses are two engines, also where they are shown alike"
    assert all(name.startswith("openai.chat http://127.0.0.1:9/***/v1 ") for name in names)
