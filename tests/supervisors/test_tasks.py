"""M. Tasks and partitions."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pykka import ActorRef

from allm.supervisors import (
    ActorExited,
    CallTimeout,
    ChildSpec,
    Exit,
    Ok,
    Partitioned,
    PartitionSupervisor,
    SpecError,
    SupervisorError,
    TaskSupervisor,
    async_,
    async_nolink,
    async_stream,
    await_many,
    call,
    callers,
    count_children,
    count_partitions,
    partition_for,
    resize_partitions,
    which_children,
)
from allm.supervisors.dispatch import Dispatcher, PoolDispatcher
from allm.supervisors.monitors import Down
from tests.supervisors.conftest import Start
from tests.supervisors.support import WAIT, Journal, Probe, ask, raised, tell, wait_ended


@pytest.fixture
def tasks(begin: Start, threads: Dispatcher) -> ActorRef[Any]:
    return begin(TaskSupervisor, on=threads)


@pytest.fixture
def caller(begin: Start, threads: Dispatcher, journal: Journal) -> ActorRef[Any]:
    return begin(Probe, journal, "caller", on=threads)


def fail(error: BaseException) -> None:
    raise error


def nothing_left(tasks: ActorRef[Any]) -> None:
    for info in which_children(tasks):
        if info.ref is not None:
            wait_ended(info.ref)
    assert count_children(tasks).specs == 0


def test_TASK_01_a_task_gives_its_result(tasks: ActorRef[Any]) -> None:
    task = async_(tasks, pow, 2, 10)
    assert task.result() == 1024
    with pytest.raises(ValueError, match="no") as error:
        async_(tasks, fail, ValueError("no")).result()
    assert error.value.__cause__ is None
    nothing_left(tasks)


def test_TASK_01b_a_linked_caller_dies_with_its_task(tasks: ActorRef[Any], caller: ActorRef[Any]) -> None:
    tell(caller, lambda _: async_(tasks, fail, ValueError("no")))
    assert wait_ended(caller).kind in ("error", "noproc")


def test_TASK_01c_a_linked_task_dies_with_its_caller(tasks: ActorRef[Any], caller: ActorRef[Any]) -> None:
    gate = threading.Event()
    task = ask(caller, lambda _: async_(tasks, gate.wait, WAIT))
    raised(caller, Exit("shutdown"))
    gate.set()
    wait_ended(task.ref)
    nothing_left(tasks)


def test_TASK_01d_without_a_link_the_caller_gets_a_down(tasks: ActorRef[Any], caller: ActorRef[Any], journal: Journal) -> None:
    task = ask(caller, lambda _: async_nolink(tasks, fail, ValueError("no")))
    journal.wait(lambda seen: any(entry[0] == "message" for entry in seen))
    name, down = journal.of("message")[0]
    assert name == "caller"
    assert isinstance(down, Down)
    assert (down.ref, down.exit.kind, down.exit.detail["message"]) == (task.ref, "error", "no")


def test_TASK_02_await_times_out_kills_a_linked_task_and_leaves_no_message(
    tasks: ActorRef[Any], caller: ActorRef[Any], journal: Journal
) -> None:
    gate = threading.Event()

    def wait_too_short(_: Probe) -> Any:
        task = async_(tasks, gate.wait, WAIT)
        with pytest.raises(CallTimeout):
            task.result(timeout=0.01)
        return task

    task = ask(caller, wait_too_short)
    wait_ended(task.ref)
    gate.set()
    assert ask(caller, "last") == "last"
    assert journal.of("message") == [("caller", "last")]


def test_TASK_02b_only_the_owner_may_wait(tasks: ActorRef[Any], caller: ActorRef[Any]) -> None:
    task = ask(caller, lambda _: async_nolink(tasks, pow, 2, 2))
    for wait in (task.result, task.poll, task.shutdown):
        with pytest.raises(RuntimeError, match="only Probe"):
            wait()
    assert ask(caller, lambda _: task.result()) == 4


def test_TASK_03_poll_gives_none_until_done_and_shutdown_ends_it(tasks: ActorRef[Any]) -> None:
    gate = threading.Event()
    task = async_nolink(tasks, gate.wait, WAIT)
    assert task.poll() is None
    assert task.poll(0.01) is None
    gate.set()
    assert task.poll(WAIT) == Ok(True)
    assert task.shutdown() == Ok(True)
    failed = async_nolink(tasks, fail, ValueError("no")).poll(WAIT)
    assert isinstance(failed, Exit)
    assert failed.kind == "error"


def test_TASK_03b_shutdown_kills_what_does_not_obey(tasks: ActorRef[Any], caller: ActorRef[Any]) -> None:
    gate = threading.Event()

    def shut(_: Probe) -> Any:
        task = async_(tasks, gate.wait, WAIT)
        assert task.shutdown(0.01) is None
        return task

    task = ask(caller, shut)
    assert not task.ref.is_alive()
    assert ask(caller, "who") == "caller"  # no longer linked
    gate.set()
    nothing_left(tasks)


def test_TASK_04_await_many_fails_at_once_with_the_first_failure(tasks: ActorRef[Any]) -> None:
    assert await_many([async_(tasks, pow, 2, n) for n in range(5)]) == [1, 2, 4, 8, 16]
    assert await_many([]) == []
    gate = threading.Event()
    slow = async_(tasks, gate.wait, WAIT)
    with pytest.raises(ValueError, match="no"):
        await_many([slow, async_(tasks, fail, ValueError("no"))], timeout=WAIT)
    gate.set()
    assert slow.result() is True


def test_TASK_05_a_stream_bounds_concurrency_and_keeps_order(begin: Start) -> None:
    tasks = begin(TaskSupervisor, on=PoolDispatcher(8, idle=0.05))
    lock, running, most = threading.Lock(), [0], [0]
    last = threading.Event()

    def work(number: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        if number == 0:
            last.wait(WAIT)  # the first is the slowest
        elif number == 2:
            last.set()
        with lock:
            running[0] -= 1
        return number * number

    stream = async_stream(tasks, work, range(20), max_concurrency=3)
    assert list(stream) == [Ok(number * number) for number in range(20)]
    assert most[0] <= 3
    nothing_left(tasks)


def test_TASK_05b_a_stream_that_is_left_early_stops_its_tasks(begin: Start) -> None:
    tasks = begin(TaskSupervisor, on=PoolDispatcher(8, idle=0.05))
    gate = threading.Event()

    def work(number: int) -> int:
        return number if number == 0 else int(gate.wait(WAIT))

    stream = async_stream(tasks, work, range(100), max_concurrency=4)
    assert next(stream) == Ok(0)
    stream.close()
    gate.set()
    nothing_left(tasks)


def test_TASK_05c_a_stream_may_come_as_it_is_ready_with_failures_and_timeouts(begin: Start) -> None:
    tasks = begin(TaskSupervisor, on=PoolDispatcher(8, idle=0.05))
    gate = threading.Event()

    def work(number: int) -> Any:
        if number == 1:
            raise ValueError("no")
        return gate.wait(WAIT) if number == 2 else number

    options: Any = {"max_concurrency": 2, "timeout": 0.2, "on_timeout": "kill"}
    seen = list(async_stream(tasks, work, range(4), ordered=False, **options))
    assert {item.value for item in seen if isinstance(item, Ok)} == {0, 3}
    assert sorted(item.kind for item in seen if isinstance(item, Exit)) == ["error", "timeout"]
    with pytest.raises(CallTimeout, match="item 2"):
        list(async_stream(tasks, work, range(4), max_concurrency=2, timeout=0.05))
    gate.set()
    nothing_left(tasks)


def test_TASK_06_max_children_surfaces_and_the_stream_ends_clean(begin: Start) -> None:
    tasks = begin(TaskSupervisor, max_children=2, on=PoolDispatcher(8, idle=0.05))
    gate = threading.Event()
    first = async_(tasks, gate.wait, WAIT)
    second = async_(tasks, gate.wait, WAIT)
    with pytest.raises(SupervisorError, match="max_children"):
        async_(tasks, gate.wait, WAIT)
    gate.set()
    assert await_many([first, second]) == [True, True]
    nothing_left(tasks)
    gate.clear()
    with pytest.raises(SupervisorError, match="max_children"):
        list(async_stream(tasks, gate.wait, [WAIT] * 5, max_concurrency=4))
    gate.set()
    nothing_left(tasks)


def test_TASK_07_tasks_know_who_asked_for_them(tasks: ActorRef[Any], caller: ActorRef[Any]) -> None:
    assert callers() == ()

    def outer() -> Any:
        return async_(tasks, callers).result(), callers()

    inner, own = ask(caller, lambda _: async_(tasks, outer).result())
    assert own[0].startswith("Probe#")
    assert inner[0].startswith("TaskActor#")
    assert inner[1:] == own


def with_index(args: tuple[Any, ...], index: int) -> tuple[Any, ...]:
    return (*args, f"share {index}")


@pytest.fixture
def shares(begin: Start, dispatch: Dispatcher, journal: Journal) -> ActorRef[Any]:
    return begin(PartitionSupervisor, ChildSpec("p", (Probe, (journal, "p"))), partitions=3, on=dispatch)


def test_PART_01_a_key_always_reaches_the_same_partition(
    shares: ActorRef[Any], begin: Start, dispatch: Dispatcher, journal: Journal
) -> None:
    assert count_partitions(shares) == 3
    refs = [partition_for(shares, number) for number in range(3)]
    assert len(set(refs)) == 3
    assert [partition_for(shares, number) for number in range(3, 6)] == refs
    assert {partition_for(shares, f"user {number}") for number in range(100)} == set(refs)
    assert all(partition_for(shares, "user 7") is partition_for(shares, "user 7") for _ in range(10))
    own = begin(
        PartitionSupervisor,
        ChildSpec("p", (Probe, (journal,))),
        partitions=2,
        with_arguments=with_index,
        on=dispatch,
    )
    assert call(Partitioned(own, 1), "who") == "share 1"
    with pytest.raises(SpecError, match="invalid_partitions"):
        PartitionSupervisor(ChildSpec("p", (Probe, ())), partitions=0)


def test_PART_02_resizing_stops_and_starts_partitions(shares: ActorRef[Any], journal: Journal) -> None:
    assert resize_partitions(shares, 1) == 3
    assert {partition_for(shares, number) for number in range(9)} == {partition_for(shares, 0)}
    assert count_children(shares).active == 1
    with pytest.raises(ValueError, match="between 0 and the initial"):
        resize_partitions(shares, 4)
    assert resize_partitions(shares, 0) == 1
    with pytest.raises(ValueError, match="no partitions"):
        partition_for(shares, 1)
    assert resize_partitions(shares, 3) == 0
    assert len({partition_for(shares, number) for number in range(9)}) == 3
    assert len(journal.of("start")) == 6


def test_a_partition_that_is_down_or_no_partition_supervisor_is_noproc(
    shares: ActorRef[Any], begin: Start, dispatch: Dispatcher, journal: Journal
) -> None:
    other = begin(Probe, journal, on=dispatch)
    with pytest.raises(ActorExited):
        partition_for(other, 1)
    assert Partitioned(other, 1).whereis() is None
