"""The JSON codec: what is written is read back equal, by newer and older readers, and nothing read can do harm."""

import copy
import json
import math
import pickle
import random
import time
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from allm import codec
from allm.codec import from_json, register_decoder, register_encoder, to_json
from allm.errors import EngineError, ErrorInfo, ValidationError
from allm.events import ErrorOccurred, Event, PartCompleted, RetryScheduled, TextDelta, TextStarted, ToolHalt
from allm.images import Image
from allm.messages import ImagePart, Message, Part, TextPart, Thread, Unknown, user
from allm.plain import MAX_DEPTH, Value
from allm.requests import Request
from allm.responses import ChatResult, Response
from allm.usage import Usage
from tests.golden.examples import EXAMPLES
from tests.golden.write import golden
from tests.strategies import data_types, objects, tag, unknowns, value_of, values

generous = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
HOLOGRAM = {"type": "hologram_part", "depth": 3, "inner": {"type": "text_part", "text": 7}}


def refusal(data: Any, *args: Any, **options: Any) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        from_json(data, *args, **options)
    assert caught.value.message
    return caught.value


def unwritable(value: Any) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        to_json(value)
    return caught.value


# Both ways


@pytest.mark.parametrize("cls", data_types(), ids=lambda cls: cls.__name__)
@settings(generous, max_examples=50)
@given(data=st.data())
def test_every_value_is_read_back_equal(cls: type[msgspec.Struct], data: st.DataObject) -> None:
    value = data.draw(value_of(cls))
    document = to_json(value)
    assert document.startswith(b'{"v":1,"type":')
    assert from_json(document, trusted=True) == value
    assert from_json(document.decode(), cls, trusted=True) == value
    assert pickle.loads(pickle.dumps(value)) == value


@settings(generous, max_examples=50)
@given(unknowns())
def test_an_unknown_value_is_read_back_equal(value: Unknown) -> None:
    assert from_json(to_json(value)) == value
    assert pickle.loads(pickle.dumps(value)) == value


def test_every_field_of_every_document_is_json_by_its_own_name() -> None:
    for value in EXAMPLES:
        assert json.loads(to_json(value))["type"] == tag(value)


def test_nested_values_and_plain_ones_share_a_field() -> None:
    part = PartCompleted("b", ImagePart(Image(url="https://example.org/a.png")))
    assert from_json(to_json(part), PartCompleted) == part
    for reasoning in ("low", 100, None):
        assert from_json(to_json(Request((), reasoning=reasoning)), Request).reasoning == reasoning


# Golden documents


@pytest.mark.parametrize("version", range(1, codec.VERSION + 1))
def test_golden_documents_still_read_equal(version: int) -> None:
    expected = {tag(value): value for value in reversed(EXAMPLES)}
    for name, document in golden(version).items():
        assert from_json(json.dumps(document), trusted=True) == expected[name], name


def test_every_type_has_a_golden_document() -> None:
    missing = {tag(cls) for cls in data_types()} - golden(codec.VERSION).keys()
    assert not missing, f"add {missing} to tests/golden/examples.py and run `python -m tests.golden.write`"


def test_every_tag_belongs_to_one_class_and_no_field_is_called_v() -> None:
    classes = data_types()
    assert len({tag(cls) for cls in classes}) == len(classes)
    assert all("v" not in cls.__struct_encode_fields__ for cls in classes)


def test_golden_documents_have_every_field() -> None:
    """A new field is told by a new example; the old document stays."""
    told: dict[str, set[str]] = {}
    for value in EXAMPLES:
        told.setdefault(tag(value), set()).update(json.loads(to_json(value)))
    for cls in data_types():
        assert set(cls.__struct_encode_fields__) <= told[tag(cls)], cls


# Versions and unknown things


def test_the_version_comes_first_and_may_be_missing() -> None:
    assert to_json(TextDelta("b", "x")) == b'{"v":1,"type":"text_delta","id":"b","delta":"x"}'
    assert from_json(b'{"type":"text_delta","id":"b","delta":"x"}') == TextDelta("b", "x")


def test_unknown_fields_are_ignored() -> None:
    document = b'{"v":1,"type":"message","role":"user","content":[{"type":"text_part","text":"a","new":{"type":9}}],"new":[]}'
    assert from_json(document) == Message("user", (TextPart("a"),))


def test_a_newer_version_is_read_as_far_as_it_is_known() -> None:
    assert from_json('{"v":7,"type":"text_delta","id":"b","delta":"x"}') == TextDelta("b", "x")


def test_an_unknown_document_encodes_back_unchanged() -> None:
    document = {"v": 1, "zeta": [1, {"type": "text_part"}], "type": "hologram", "alpha": None}
    value = from_json(json.dumps(document))
    assert value == Unknown("hologram", {"zeta": (1, {"type": "text_part"}), "type": "hologram", "alpha": None})
    assert to_json(value) == json.dumps(document, separators=(",", ":")).encode()


def test_an_unknown_document_of_a_newer_version_keeps_its_version() -> None:
    document = b'{"v":9,"type":"hologram","a":1}'
    assert to_json(from_json(document)) == document


def test_unknown_parts_and_events_encode_back_unchanged() -> None:
    message = {"type": "message", "role": "user", "content": [HOLOGRAM, {"type": "text_part", "text": "$unknown"}]}
    for document in (
        {"v": 1, **message},
        {"v": 1, "type": "thread", "messages": [message, message]},
        {"v": 1, "type": "part_completed", "id": "b", "part": HOLOGRAM},
        {"v": 1, "type": "envelope", "session_id": "s", "turn": None, "epoch": 1, "seq": 2, "sub": 0, "at": 0.5,
         "event": {"zz": 1, "type": "teleported"}},
    ):  # fmt: skip
        value = from_json(json.dumps(document))
        assert json.dumps(json.loads(to_json(value))) == json.dumps(document)
        assert pickle.loads(pickle.dumps(value)) == value


def test_payloads_with_a_type_are_never_looked_into() -> None:
    payload = {"type": "hologram", "parts": [{"type": "text_part"}, {"type": "$unknown"}, {"type": 1}]}
    document = {"type": "tool_call_part", "id": "c", "name": "n", "arguments": payload}
    value = from_json(json.dumps({"type": "message", "role": "assistant", "content": [document]}))
    assert json.loads(to_json(value.tool_calls[0]))["arguments"] == payload
    assert not isinstance(value.content[0], Unknown)


def test_the_inner_tag_of_unknown_means_nothing_in_a_document() -> None:
    document = b'{"v":1,"type":"$unknown","tag":"text_part","data":{"type":"text_part","text":"x"}}'
    value = from_json(document)
    assert type(value) is Unknown
    assert value.tag == "$unknown"
    assert to_json(value) == document


def test_text_that_looks_like_an_unknown_tag_is_text() -> None:
    assert from_json(to_json(user('"$unknown"'))) == user('"$unknown"')


def test_an_unknown_tag_where_one_type_stands_is_refused() -> None:
    error = refusal('{"type":"image_part","image":{"type":"hologram","data":"aa"}}')
    assert error.metadata["path"] == "image.type"


def test_an_older_version_goes_through_every_migration(monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(document: dict[str, Any]) -> dict[str, Any]:
        return {"delta" if key == "chunk" else key: item for key, item in document.items()}

    monkeypatch.setattr(codec, "VERSION", 4)
    monkeypatch.setitem(codec.MIGRATIONS, 1, renamed)
    monkeypatch.setitem(codec.MIGRATIONS, 3, lambda document: {**document, "id": document["id"] + "!"})
    assert from_json('{"v":1,"type":"text_delta","id":"b","chunk":"x"}') == TextDelta("b!", "x")
    assert from_json('{"type":"text_delta","id":"b","chunk":"x"}') == TextDelta("b!", "x")
    assert from_json('{"v":4,"type":"text_delta","id":"b","delta":"x"}') == TextDelta("b", "x")
    assert to_json(TextDelta("b", "x")).startswith(b'{"v":4,')
    assert "version 3" in refusal('{"v":3,"type":"text_delta","delta":"x"}').message


# Types asked for


def test_a_type_asked_for_must_be_the_documents() -> None:
    document = to_json(TextDelta("b", "x"))
    for wanted in (TextDelta, Value, Event):
        assert from_json(document, wanted) == TextDelta("b", "x")
    assert "expected Message" in refusal(document, Message).message
    refusal(document, Part)
    refusal(b'{"type":"hologram"}', Message)
    assert from_json(b'{"type":"hologram"}', Event) == Unknown("hologram", {"type": "hologram"})


def test_a_class_with_hooks_has_its_own_form(monkeypatch: pytest.MonkeyPatch) -> None:
    class Robot:
        def __init__(self, name: str) -> None:
            self.name = name

    class Holder(Value, frozen=True, tag="test_holder"):
        robot: Any

    def build(plain: dict[str, Any]) -> Holder:
        return Holder(Robot(plain["name"]))

    monkeypatch.setattr(codec, "_encoders", {})
    monkeypatch.setattr(codec, "_decoders", {})
    register_encoder(Holder, lambda holder: {"name": holder.robot.name})
    register_decoder("test_holder", build)
    document = to_json(Holder(Robot("Marvin")))
    assert document == b'{"v":1,"type":"test_holder","name":"Marvin"}'
    assert from_json(document, Holder).robot.name == "Marvin"
    assert "cannot be read" in refusal('{"type":"test_holder"}').message
    refusal('{"type":"test_holder","name":1e999}')
    refusal(document, Message)


def test_a_class_with_a_plain_form_of_its_own_is_never_written_otherwise() -> None:
    class Secret(Value, frozen=True, tag="test_secret"):
        key: str

        def to_plain(self) -> dict[str, Any]:
            raise EngineError("holds_keys")

    with pytest.raises(EngineError):
        to_json(Secret("sk-1"))


def test_whatever_a_constructor_raises_is_a_refusal() -> None:
    class Fragile(Value, frozen=True, tag="test_fragile"):
        items: tuple[Any, ...]

        def __post_init__(self) -> None:
            _ = [item.name for item in self.items]

    refusal('{"type":"test_fragile","items":[{}]}')
    assert Fragile(()) == from_json('{"type":"test_fragile","items":[]}')


# What cannot be written


def test_what_is_no_value_is_refused() -> None:
    for value in (None, 1, "text", {"type": "text_part"}, (TextPart("a"),), ValueError("x"), Message):
        assert "is no value" in unwritable(value).message


def test_text_with_a_lone_surrogate_is_refused_with_its_path() -> None:
    error = unwritable(Thread((user("a"), user(["b", "c\ud800"]))))
    assert error.metadata["path"] == "thread.messages[1].content[1].text"
    assert "surrogate" in error.message


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1 << 64, -(1 << 63) - 1, 10**400])
def test_numbers_that_json_cannot_carry_are_refused_with_their_path(number: Any) -> None:
    error = ErrorInfo("adapter", "timeout", "late", retry_after=number)
    assert unwritable(RetryScheduled("r", 1, number, ErrorInfo("a", "b", "c"))).metadata["path"] == "retry_scheduled.delay"
    assert unwritable(ErrorOccurred(error)).metadata["path"] == "error.error.retry_after"
    response = Response(finish_reason="stop", usage=Usage(total_cost=number))
    result = ChatResult(Thread(), (), response, "completed")
    assert unwritable(result).metadata["path"] == "chat_result.final_response.usage.total_cost"


def test_live_objects_are_refused() -> None:
    unwritable(TextPart(object()))  # type: ignore[arg-type]
    unwritable(Message("user", (object(),)))  # type: ignore[arg-type]


def test_an_unknown_made_by_hand_must_carry_its_tag() -> None:
    assert Unknown("hologram", {"a": 1}).data == {"type": "hologram", "a": 1}
    with pytest.raises(ValidationError, match="tag"):
        Unknown("hologram", {"type": "other"})
    unwritable(Unknown("hologram", {"type": "hologram", "v": 1}))
    unwritable(Unknown("hologram", {"type": "hologram", "v": "x"}))


# What cannot be read


TEXT = b'{"type":"text_part","text":%s}'
USAGE = b'{"type":"usage","input_tokens":%s}'
COST = b'{"type":"usage","total_cost":%s}'
EXTRA = b'{"type":"usage","extra":{"a":[%s]}}'


@pytest.mark.parametrize(
    "document",
    [
        b"", b" ", b"{", b"null", b"[]", b"1", b'"x"', b"{}", b"\xef\xbb\xbf{}", b'{"type":null}', b'{"type":[]}',
        b'{"type":{}}', b'{"type":1}', b'{"type":"text_part"}', b'{"type":"text_part","text":"a"} x', TEXT % b"1",
        TEXT % b'"\\ud800"', TEXT % b'"\\udc00\\ud800"', TEXT % b'"\xff"', TEXT % b'"\xed\xa0\x80"', TEXT % b"null",
        USAGE % b"1.5", USAGE % b"true", USAGE % b'"1"', USAGE % b"18446744073709551616", USAGE % (b"1" * 400),
        USAGE % (b"1" * 5000), COST % b"NaN", COST % b"Infinity", COST % b"-Infinity", COST % b"1e999",
        COST % (b"1" * 400), EXTRA % b"NaN", EXTRA % b"1e999", EXTRA % (b"9" * 400), EXTRA % b"-9223372036854775809",
        EXTRA % b'"\\udfff"', b'{"type":"usage","extra":[]}', b'{"type":"usage","extra":null}',
        b'{"type":"message","role":"boss"}', b'{"type":"message","role":"user","content":7}',
        b'{"type":"message","role":"user","content":[{}]}', b'{"type":"message","role":"user","content":[null]}',
        b'{"type":"message","role":"user","content":[{"type":null}]}',
        b'{"type":"message","role":"user","content":[{"type":["text_part"]}]}',
        b'{"type":"message","role":"user","content":{"type":"text_part","text":"a"}}',
        b'{"type":"image"}', b'{"type":"image","data":"!"}', b'{"type":"image","data":""}',
        b'{"type":"image","data":"aaaa"}',
        b'{"type":"image","data":"iVBORw0KGgo=","url":"x"}', b'{"type":"retry","max_attempts":0}',
        b'{"v":0,"type":"give_up"}', b'{"v":-1,"type":"give_up"}', b'{"v":"1","type":"give_up"}',
        b'{"v":null,"type":"give_up"}',
        b'{"v":true,"type":"give_up"}', b'{"v":1.0,"type":"give_up"}', b'{"v":99999999999999999999,"type":"give_up"}',
    ],
)  # fmt: skip
def test_hostile_documents_are_refused(document: bytes) -> None:
    refusal(document)


@pytest.mark.parametrize("data", [None, 7, [1], {"type": "text_part"}, "\ud800", '{"type":"text_part","text":"\ud800"}'])
def test_what_is_no_text_is_refused(data: Any) -> None:
    refusal(data)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ('{"type":"thread","messages":[{"role":"user"},{"type":"message","role":1}]}', "messages[1].role"),
        ('{"type":"raw_chunk","chunk":{"a":[0,1e999]}}', "document"),
        ('{"type":"chat_completed","result":7}', "result"),
        (
            '{"type":"message","role":"user","content":[{"type":"provider_part","provider":"p","part_type":"t",'
            '"data":{"a":[0,99999999999999999999]}}]}',
            "data.a[1]",
        ),
        ('{"type":"message_completed","response":{"usage":{"total_tokens":99999999999999999999}}}',
         "response.usage.total_tokens"),
    ],
)  # fmt: skip
def test_the_error_names_the_path(document: str, path: str) -> None:
    assert refusal(document).metadata["path"] == path


def test_of_duplicate_keys_the_last_wins() -> None:
    assert from_json('{"type":"text_part","text":"a","text":"b"}') == TextPart("b")


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"type":"raw_chunk","chunk":[', b'{"type":"hologram","x":'])
@pytest.mark.parametrize("levels", [1_000_000, 2_000, 200])
def test_deep_documents_are_refused_at_once(opening: bytes, levels: int) -> None:
    begun = time.perf_counter()
    refusal(opening * levels)
    closing = b"]" if opening == b"[" else b"}"
    refusal(opening * min(levels, 300) + b"1" + closing * min(levels, 300))
    assert time.perf_counter() - begun < 5


def test_a_payload_may_be_as_deep_as_the_limit_and_no_deeper() -> None:
    def chunk(levels: int) -> str:
        return '{"type":"raw_chunk","chunk":' + "[" * levels + "]" * levels + "}"

    value = from_json(chunk(MAX_DEPTH))
    assert from_json(to_json(value)) == value
    assert f"deeper than {MAX_DEPTH}" in refusal(chunk(MAX_DEPTH + 1)).message


def test_a_field_that_is_ignored_is_limited_in_depth_too() -> None:
    def document(levels: int) -> str:
        return '{"type":"text_started","id":"b","wide":[' + "[]," * 200 + '0],"new":' + "[" * levels + "]" * levels + "}"

    assert from_json(document(100)) == TextStarted("b")
    assert "deeper than" in refusal(document(150)).message


def test_large_documents_are_refused_unless_allowed() -> None:
    document = to_json(TextPart("é" * 1000))
    refusal(document, max_bytes=len(document) - 1)
    refusal(document.decode(), max_bytes=len(document) - 1)
    assert from_json(document, max_bytes=len(document)) == TextPart("é" * 1000)
    refusal(b" " * (codec.MAX_BYTES + 1))


def test_a_document_names_no_file_to_be_read(tmp_path: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    value = from_json(json.dumps({"type": "file_part", "path": str(secret)}))
    assert value.data is None


# Anything at all


def read_or_refused(data: bytes) -> None:
    """What can be read can be written, and is the same when it is read again."""
    try:
        value = from_json(data)
    except ValidationError:
        return
    assert from_json(to_json(value)) == value


@settings(generous, max_examples=300)
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_random_bytes_are_read_or_refused(data: bytes) -> None:
    read_or_refused(data)


HOSTILE: tuple[Any, ...] = (
    None, True, -1, 1 << 64, 10**30, 0.5, 1e308, float("nan"), float("inf"), "", "text_part", "\ud800", "$unknown", [],
    [[]], {}, {"type": "hologram"}, {"type": []}, {"type": "message", "role": "user"}, {"v": 2}, [{"type": "$unknown"}],
)  # fmt: skip


def spots(node: Any) -> list[tuple[Any, Any]]:
    """Every (holder, key) in a document."""
    kind: Any = node.__class__
    pairs: list[Any] = [*node.items()] if kind is dict else [*zip(range(len(node)), node, strict=True)] if kind is list else []
    return [(node, key) for key, _ in pairs] + [spot for _, child in pairs for spot in spots(child)]


@settings(generous, max_examples=600)
@given(st.sampled_from(EXAMPLES), st.randoms(use_true_random=False), st.integers(1, 3))
def test_documents_with_hostile_values_are_read_or_refused(value: Any, chance: random.Random, times: int) -> None:
    document = json.loads(to_json(value))
    for _ in range(times):
        if not (found := spots(document)):
            break
        holder, key = chance.choice(found)
        if holder.__class__ is dict and chance.random() < 0.3:
            holder[chance.choice(["type", "v", "data", "x\ud800", "new"])] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(chance.choice(HOSTILE))
    read_or_refused(json.dumps(document).encode())


@settings(generous, max_examples=400)
@given(st.sampled_from(EXAMPLES), st.randoms(use_true_random=False))
def test_documents_with_damaged_bytes_are_read_or_refused(value: Any, chance: random.Random) -> None:
    data = bytearray(to_json(value))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        junk = chance.choice([b"", b"9" * 400, b'"', b"\\", b"{", b"]", b"\xff", b"\\ud800", b"e99", b"null", bytes([data[at]]) * 2])
        data[at : at + chance.choice([0, 1, 5])] = junk
        if not data:
            return
    read_or_refused(bytes(data))


@settings(generous, max_examples=100)
@given(values())
def test_any_value_survives_a_reader_that_knows_no_part_of_it(value: Any) -> None:
    """An older version, which takes the document for an unknown one, hands it on unchanged."""
    document = json.loads(to_json(value))
    document["type"] = "new_" + document["type"]
    del document["v"]
    try:
        stranger = from_json(json.dumps(document))
    except ValidationError:  # its payload is at the depth limit, and for this reader all of it is one payload
        reject()
    assert json.loads(to_json(stranger)) == {"v": 1, **document}


@settings(generous, max_examples=50)
@given(objects())
def test_payloads_are_frozen_alike_when_made_and_when_read(payload: dict[str, Any]) -> None:
    assert from_json(to_json(ToolHalt("c", "r", payload))).result == payload


def test_the_plan_of_every_class_is_made_of_what_the_walk_understands() -> None:
    """A struct in a dict, or in a tuple of several types, would not be looked into."""
    for cls in data_types():
        for field in msgspec.structs.fields(cls):
            assert "dict[str, allm" not in str(field.type), (cls, field.name)
