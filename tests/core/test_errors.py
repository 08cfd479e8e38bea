"""Errors: exceptions with a closed reason, and the plain data that tells the same."""

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allm
from allm.codec import from_json, to_json
from allm.errors import (
    ADAPTER_REASONS,
    AdapterError,
    AllmError,
    EmbeddingAdapterError,
    EngineError,
    ErrorInfo,
    ImageAdapterError,
    ModerationAdapterError,
    SessionError,
    StreamError,
    ToolError,
    ValidationError,
    error_from,
)

CLASSES = [
    AllmError, ValidationError, EngineError, SessionError, ToolError, StreamError, AdapterError, ImageAdapterError,
    EmbeddingAdapterError, ModerationAdapterError,
]  # fmt: skip
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
_infos = st.builds(
    ErrorInfo,
    kind=st.sampled_from([cls.kind for cls in CLASSES]),
    reason=_text,
    message=_text,
    status=st.none() | st.integers(100, 599),
    retry_after=st.none() | st.floats(0, 1e9),
    request_id=st.none() | _text,
    provider=st.none() | _text,
    metadata=st.dictionaries(_text, _text | st.lists(st.integers(0, 9), max_size=2), max_size=2),
)


def full(cls: type[AllmError]) -> AllmError:
    return cls("rate_limited", "slow down", status=429, retry_after=1.5, request_id="req", provider="openai", metadata={"limits": [1, 2]})


@every_class
def test_an_error_tells_everything_that_its_info_does(cls: type[AllmError]) -> None:
    error = full(cls)
    told = (error.reason, error.message, error.status, error.retry_after, error.request_id, error.provider)
    assert told == ("rate_limited", "slow down", 429, 1.5, "req", "openai")
    assert error.metadata == {"limits": [1, 2]}
    assert error.info == ErrorInfo(cls.kind, *told, {"limits": (1, 2)})


@every_class
def test_an_error_pickles_and_copies_without_loss(cls: type[AllmError]) -> None:
    for again in (pickle.loads(pickle.dumps(full(cls))), copy.copy(full(cls)), copy.deepcopy(full(cls))):
        assert type(again) is cls
        assert again.info == full(cls).info
        assert (str(again), again.args) == (str(full(cls)), full(cls).args)


@settings(deadline=None)
@given(_infos)
def test_an_error_is_made_from_its_info_and_back_without_loss(info: ErrorInfo) -> None:
    error = info.exception()
    assert error.info == info
    assert type(error).kind == info.kind
    assert pickle.loads(pickle.dumps(info)) == info
    assert from_json(to_json(info), ErrorInfo) == info


def test_an_unknown_kind_of_a_newer_writer_is_still_an_error() -> None:
    error = error_from(ErrorInfo("teleport", "lost", "gone"))
    assert type(error) is AllmError
    assert error.info.kind == "teleport"


@pytest.mark.parametrize("cls", CLASSES[6:])
def test_all_that_a_provider_does_is_an_adapter_error(cls: type[AllmError]) -> None:
    assert issubclass(cls, AdapterError)


@every_class
def test_every_error_is_public_and_an_allm_error(cls: type[AllmError]) -> None:
    assert getattr(allm, cls.__name__) is cls
    assert issubclass(cls, AllmError)


def test_the_text_of_an_error_names_reason_and_status() -> None:
    assert str(full(AdapterError)) == "slow down (rate_limited, HTTP 429)"
    assert str(AdapterError("timeout")) == "timeout (timeout)"


def test_a_validation_error_names_the_path() -> None:
    error = ValidationError.at("messages[2].content", "it is empty")
    assert (error.reason, error.message, error.metadata) == (
        "invalid",
        "messages[2].content: it is empty",
        {"path": "messages[2].content"},
    )


def test_the_closed_list_of_reasons_is_the_contracts() -> None:
    assert " ".join(sorted(ADAPTER_REASONS)) == (
        "authentication cancelled connection_closed consumed content_filter context_length_exceeded invalid_request malformed_response "
        "no_scripted_response not_found overloaded permission quota_exceeded rate_limited server_error service_unavailable timeout "
        "truncated unknown"
    )


def test_what_is_no_json_may_not_hide_in_an_error() -> None:
    with pytest.raises(ValidationError, match=r"error\.metadata\.response: object is not JSON"):
        AdapterError("unknown", metadata={"response": object()})
