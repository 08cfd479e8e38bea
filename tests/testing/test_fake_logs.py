"""What fakes remember of their calls: as long as somebody can ask, and not for the rest of the process."""

import gc
import weakref
from collections.abc import Iterator

import pytest

import allm
from allm.providers import fake_log
from allm.providers.fake_log import keep_requests, log_of
from allm.testing import Fake, FakeEmbeddings, FakeImages

HI = [("text", "hi"), ("finish", "stop")]


@pytest.fixture
def runtime() -> Iterator[allm.Runtime]:
    with allm.Runtime() as started:
        yield started


def remembered() -> int:
    """The lists of requests that are alive."""
    gc.collect()
    return sum(isinstance(thing, fake_log.Requests) for thing in gc.get_objects())


def test_the_requests_of_a_fake_go_with_it(runtime: allm.Runtime) -> None:
    before = remembered()
    fake = Fake(HI)
    for _ in range(20):
        fake = Fake(HI)
        allm.generate(fake.engine, "hello", runtime=runtime)
        assert [request.messages[-1].text for request in fake.requests] == ["hello"]
    allm.embed(FakeEmbeddings().engine, ["a"], runtime=runtime)
    allm.generate_image(FakeImages().engine, "a fox", runtime=runtime)
    assert remembered() <= before + 3  # the last fake, and two engines that were asked without one
    listed = weakref.ref(keep_requests(fake.engine))
    del fake
    gc.collect()
    assert listed() is None


def test_a_fake_keeps_all_of_its_requests(runtime: allm.Runtime) -> None:
    fake, others = Fake(HI), [Fake(HI) for _ in range(fake_log._RECENT + 20)]  # pyright: ignore[reportPrivateUsage]
    for number in range(3):
        allm.generate(fake.engine, str(number), runtime=runtime)
    for other in others:
        log_of(other.engine).next("asked", record=True)
    assert [request.messages[-1].text for request in fake.requests] == ["0", "1", "2"]
    assert all(len(other.requests) == 1 for other in others)


def test_the_cursor_of_an_engine_outlives_the_fake_that_made_it(runtime: allm.Runtime) -> None:
    engine = Fake(scripts=[[("text", word), ("finish", "stop")] for word in ("one", "two", "three")]).engine
    told = [allm.generate(engine, "hi", runtime=runtime).text]
    engine = engine.put_param("seed", 1)
    gc.collect()
    told += [allm.generate(engine, "hi", runtime=runtime).text for _ in range(2)]
    assert told == ["one", "two", "three"]


def test_without_a_fake_the_requests_of_the_engines_asked_last_are_kept() -> None:
    most = fake_log._RECENT  # pyright: ignore[reportPrivateUsage]
    engines = [allm.Engine("fake:x", adapter_opts={"record": True}) for _ in range(most + 5)]
    before = remembered()
    for engine in engines:
        log_of(engine).next("asked", record=True)
    assert remembered() <= before + most
    assert log_of(engines[-1]).requests == ["asked"]
    assert [log_of(engine).calls for engine in engines] == [1] * len(engines)


def test_counts_are_bounded() -> None:
    most = fake_log._MOST  # pyright: ignore[reportPrivateUsage]
    engine = allm.Engine("fake:x")
    for number in range(most + 10):
        log_of(engine, f"service {number}").next(None, record=False)
    assert len(fake_log._logs) <= most  # pyright: ignore[reportPrivateUsage]
    assert log_of(engine, f"service {most + 9}").calls == 1
