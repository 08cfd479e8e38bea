"""How to test a bot: give it a `Fake` in place of its engine. No key, no network, no waiting.

python -m pytest examples/test_my_bot.py
"""

import pytest

import allm
from allm.testing import Fake


def summarise(engine: allm.Engine, text: str) -> str:
    """The bot under test."""
    response = allm.generate(engine, [allm.system("Summarise in one sentence."), allm.user(text)], max_tokens=60)
    if response.finish_reason == "length":
        return response.text + " …"
    return response.text


def test_it_gives_the_models_summary() -> None:
    fake = Fake([("text", "A heron "), ("text", "waits."), ("finish", "stop")])
    assert summarise(fake.engine, "A heron stands in the river, and stands.") == "A heron waits."


def test_it_asks_for_one_sentence_and_hands_the_text_on() -> None:
    fake = Fake([("text", "Short."), ("finish", "stop")])
    summarise(fake.engine, "Long, long text.")
    (request,) = fake.requests
    assert [message.role for message in request.messages] == ["system", "user"]
    assert request.messages[-1].text == "Long, long text."
    assert request.max_tokens == 60


def test_it_marks_a_summary_that_was_cut_short() -> None:
    fake = Fake([("text", "A heron"), ("finish", "length")])
    assert summarise(fake.engine, "...") == "A heron …"


def test_it_does_not_notice_that_an_attempt_failed() -> None:
    fake = Fake([("text", "Short."), ("finish", "stop")], retry_until_call=2, retry=allm.Retry(base_delay=0.01))
    assert summarise(fake.engine, "...") == "Short."
    assert fake.calls == 1  # one call, two attempts


def test_a_model_that_refuses_us_is_an_error_with_a_reason() -> None:
    fake = Fake([("error", "authentication")])
    with pytest.raises(allm.AdapterError) as caught:
        summarise(fake.engine, "...")
    assert caught.value.reason == "authentication"
