"""The fake that makes images: scripts for tests of bots, played through real calls."""

import asyncio
from typing import Any

import pytest

import allm
from allm import Event, Image, ImageAdapterError, ImageRequest, ValidationError
from allm.providers.fake_images import ONE_PIXEL
from allm.testing import Fake, FakeImages

PNG = Image.from_binary(ONE_PIXEL)
OTHER = Image.from_binary(b"\x89PNG\r\n\x1a\nother")
SWIFT = allm.Retry(base_delay=0.001)


def test_without_a_script_each_call_gets_as_many_images_as_it_asks_for() -> None:
    fake = FakeImages()
    assert allm.generate_image(fake.engine, "a fox").images == (PNG,)
    assert allm.generate_image(fake.engine, "a fox", n=3).images == (PNG,) * 3
    assert allm.edit_image(fake.engine, PNG, "a hat").images == (PNG,)
    assert allm.image_variations(fake.engine, PNG, n=2).images == (PNG, PNG)
    assert fake.calls == 4


def test_a_script_says_what_is_made_and_what_it_cost() -> None:
    url = Image.from_url("https://images.example/1.png")
    script = [("text", "Here."), ("image", OTHER), ("delay", 0), ("image", ONE_PIXEL), ("image", url), ("usage", {"input_tokens": 3})]
    got = allm.generate_image(FakeImages(script).engine, "a fox")
    assert got.images == (OTHER, PNG, url)
    assert (got.usage.input_tokens, got.usage.images, got.metadata) == (3, 3, {"text": "Here."})


def test_scripts_are_played_in_turn_and_then_there_is_none() -> None:
    fake = FakeImages(scripts=[[("image", PNG)], [("image", OTHER)]])
    assert [allm.generate_image(fake.engine, "a fox").images for _ in range(2)] == [(PNG,), (OTHER,)]
    with pytest.raises(ImageAdapterError) as caught:
        allm.generate_image(fake.engine, "a fox")
    assert caught.value.reason == "no_scripted_response"


def test_the_requests_are_kept_as_they_were_sent() -> None:
    fake = FakeImages()
    allm.edit_image(fake.engine, [PNG, OTHER], "a hat", mask=PNG, size="auto", options={"seed": 3}, metadata={"a": 1})
    assert fake.requests == (
        ImageRequest(
            operation="edit",
            prompt="a hat",
            images=(PNG, OTHER),
            mask=PNG,
            model="any",
            size="auto",
            options={"seed": 3},
            metadata={"a": 1},
        ),
    )


def test_a_failure_is_retried_as_the_engine_says() -> None:
    fake = FakeImages(retry_until_call=3, retry=SWIFT)
    seen: list[Event] = []
    allm.generate_image(fake.engine, "a fox", on_event=seen.append)
    assert sum(isinstance(event, allm.RetryScheduled) for event in seen) == 2
    assert fake.calls == 1


def test_an_error_of_the_script_is_an_image_error_with_its_details() -> None:
    fake = FakeImages([("error", "rate_limited", {"status": 429, "retry_after": 0.5})], retry=allm.Retry.none())
    with pytest.raises(ImageAdapterError) as caught:
        allm.generate_image(fake.engine, "a fox")
    assert (caught.value.reason, caught.value.status, caught.value.retry_after) == ("rate_limited", 429, 0.5)


def test_an_image_before_a_failure_is_no_answer() -> None:
    fake = FakeImages([("image", PNG), ("error", "server_error")], retry=SWIFT)
    with pytest.raises(ImageAdapterError) as caught:
        allm.generate_image(fake.engine, "a fox")
    assert caught.value.reason == "server_error"


def test_the_coroutines_do_the_same() -> None:
    async def go() -> list[int]:
        fake = FakeImages()
        made = [
            await allm.aio.generate_image(fake.engine, "a fox", n=2),
            await allm.aio.edit_image(fake.engine, PNG, "a hat"),
            await allm.aio.image_variations(fake.engine, PNG),
        ]
        return [len(each.images) for each in made]

    assert asyncio.run(go()) == [2, 1, 1]


def test_an_engine_of_the_fake_for_texts_makes_images_too() -> None:
    assert allm.generate_image(Fake([("text", "Hi"), ("finish", "stop")]).engine, "a fox").images == (PNG,)


WRONG: list[Any] = [
    [("draw", "x")], [("image",)], [("image", 3)], [("usage", "x")], [("delay", True)], [("error", "no_such_reason")], [("text", "a", "b")],
    [("image", "ftp://a")], [3],
]  # fmt: skip


@pytest.mark.parametrize("script", WRONG)
def test_a_script_that_is_none_is_refused_before_it_is_played(script: Any) -> None:
    with pytest.raises(ValidationError, match=r"adapter_opts\.image_script|image\.url"):
        allm.generate_image(FakeImages(script).engine, "a fox")
