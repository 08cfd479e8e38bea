"""What supervisors decide, without actors: reports in, actions out."""

from __future__ import annotations

from collections import deque
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allm.supervisors import decisions
from allm.supervisors.children import Child, State
from allm.supervisors.decide import TABLE, UnknownReport, decide
from allm.supervisors.decisions import (
    Add,
    Arrange,
    Begin,
    Delete,
    Down,
    Due,
    Failed,
    Gone,
    Halt,
    Judge,
    Judged,
    Launch,
    Leave,
    Pause,
    Ready,
    Restarting,
    Revive,
    Shutdown,
    Stop,
    Up,
)
from allm.supervisors.exits import Exit
from allm.supervisors.policy import Backoff, GiveUp, Restart
from allm.supervisors.spec import ChildSpec, Flags

CRASH = Exit("error")


class Reply:
    """In the place of a future."""

    def __init__(self) -> None:
        self.answers: list[Any] = []


class World:
    """Carries out what is decided, as actors would, one report at a time; which comes next is for the test to say."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.now = 0.0
        self.told: list[Any] = []
        self.running: list[Child] = []
        self.pending: deque[Any] = deque()  # starts and stops that are under way
        self.words: dict[Any, list[Restart | GiveUp]] = {}
        self.gone: list[Any] = []
        self.left: Exit | None = None

    def feed(self, report: Any) -> list[str]:
        """The names of the actions; what follows at once is fed as well."""
        reports, names = deque([report]), list[str]()
        while reports:
            for action in decide(self.state, reports.popleft()):
                names.append(type(action).__name__)
                self.told.append(action)
                more = self.act(action)
                if more is not None:
                    reports.append(more)
        return names

    def act(self, action: Any) -> Any:
        match action:
            case Launch(child):
                child.generation += 1
                self.pending.append(("start", child))
            case Halt(child):
                self.pending.append(("stop", child))
            case Judge(child, exit, retried, ask):
                word = self.words[child.id].pop(0) if ask else None
                return Judged(child, exit, retried, self.now, 1.0, word)
            case Gone(child, _):
                self.gone.append(child.id)
            case Leave(exit):
                assert self.left is None
                self.left = exit
            case _:
                if hasattr(action, "reply"):
                    action.reply.answers.append(action)
        return None

    def settle(self, failing: tuple[Any, ...] = (), exit: Exit = CRASH) -> None:
        """All that is under way comes to its end."""
        while self.pending:
            kind, child = self.pending.popleft()
            if kind == "stop":
                self.feed(Down(child, Exit("shutdown")))
            elif child.status == "stopping":
                continue  # it never comes up
            elif child.id in failing:
                self.feed(Failed(child, exit))
            else:
                self.feed(Up(child))

    def child(self, id: Any) -> Child:
        found = self.state.children.get(id)
        assert found is not None
        return found

    def crash(self, id: Any, exit: Exit = CRASH) -> list[str]:
        return self.feed(Down(self.child(id), exit))

    @property
    def statuses(self) -> str:
        return " ".join(f"{child.id}:{child.status}" for child in self.state.children)

    def launches(self) -> list[Any]:
        return [action.child.id for action in self.told if isinstance(action, Launch)]


def spec(id: Any, **options: Any) -> ChildSpec:
    return ChildSpec(id, (object, ()), **options)


def serving(*specs: ChildSpec, **flags: Any) -> World:
    world = World(State(Flags(**flags), ordered=True))
    world.feed(Begin([Child(each) for each in specs]))
    world.settle()
    assert world.state.phase == "serving"
    world.told.clear()
    return world


def dynamic(*specs: ChildSpec, **options: Any) -> World:
    world = World(State(Flags(), ordered=False, **options))
    for each in specs:
        world.feed(Add(Child(each), Reply()))
    world.settle()
    world.told.clear()
    return world


@pytest.fixture(params=[serving, dynamic], ids=["static", "dynamic"])
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_the_table_has_a_row_for_each_report_in_each_phase() -> None:
    reports = set(get_args(decisions.Report))
    for phase in ("serving", "ending", "over"):
        assert {report for there, report in TABLE if there == phase} == reports - {Begin}
    assert {report for there, report in TABLE if there == "beginning"} == reports
    with pytest.raises(UnknownReport):
        decide(State(Flags(), ordered=False), Begin([]))


def test_first_children_start_one_after_the_other() -> None:
    world = World(State(Flags(), ordered=True))
    assert world.feed(Begin([Child(spec("a")), Child(spec("b"))])) == ["Launch"]
    assert world.feed(Up(world.child("a"))) == ["Launch"]
    assert world.feed(Up(world.child("b"))) == ["Ready"]
    assert isinstance(world.told[-1], Ready)


def test_a_first_child_that_fails_ends_the_supervisor_after_the_others() -> None:
    world = World(State(Flags(), ordered=True))
    world.feed(Begin([Child(spec(id)) for id in "abc"]))
    world.settle(failing=("c",))
    assert world.gone == ["c", "b", "a"]
    assert world.left is not None
    assert world.left.detail["failed_to_start_child"] == "c"


@pytest.mark.parametrize(("restart", "exit", "again"), [
    ("permanent", Exit("normal"), True), ("permanent", CRASH, True),
    ("transient", Exit("normal"), False), ("transient", Exit("shutdown"), False), ("transient", CRASH, True),
    ("temporary", CRASH, False),
])  # fmt: skip
def test_the_restart_type_decides(make: Any, restart: Any, exit: Exit, again: bool) -> None:
    world = make(spec("a", restart=restart))
    names = world.crash("a", exit)
    assert ("Launch" in names) is again
    assert ("Gone" in names) is not again


@pytest.mark.parametrize("restart", ["permanent", "transient"])
@pytest.mark.parametrize("exit", [Exit("shutdown"), Exit("normal"), CRASH], ids=str)
def test_a_restart_that_fails_is_tried_again_through_the_mailbox_until_the_budget_is_spent(make: Any, restart: Any, exit: Exit) -> None:
    world = make(spec("a", restart=restart))
    world.crash("a")
    for _ in range(2):
        world.settle(failing=("a",), exit=exit)
        assert world.told[-1] == Pause(world.child("a"), 0.0)
        world.feed(Due(world.child("a"), world.child("a").generation))
    world.settle(failing=("a",), exit=exit)
    assert world.left == Exit("shutdown", "reached_max_restart_intensity")


def test_the_word_of_a_policy_spends_no_budget_and_no_word_spends_some(make: Any) -> None:
    world = make(spec("a", policy=object.__new__(_Policy)))
    world.words["a"] = [Restart(2.0), Restart(counted=False), GiveUp(escalate=True), GiveUp()]
    world.crash("a")
    assert world.told[-1] == Pause(world.child("a"), 2.0)
    world.feed(Due(world.child("a"), 1))
    world.settle()
    for _ in range(2):
        world.crash("a")
        world.settle()
    child = world.child("a")
    assert (child.failures, child.restarts, len(world.state.window)) == (1, 3, 1)
    world.crash("a")
    assert world.gone == ["a"]


class _Policy:
    def decide(self, exit: Exit, attempt: int) -> Restart:
        raise AssertionError("only the words that came with reports count")


def test_a_backoff_counts_failures_until_a_long_run(make: Any) -> None:
    world = make(spec("a", backoff=Backoff(first=1.0, reset_after=60.0)))
    child = world.child("a")
    delays = list[float]()
    for up, now in ((10.0, 20.0), (20.0, 30.0), (30.0, 100.0)):
        child.up_since, world.now = up, now
        world.crash("a")
        delays += [action.delay for action in world.told if isinstance(action, Pause)][-1:]
        world.feed(Due(child, child.generation))
        world.settle()
    assert delays == [1.0, 2.0, 1.0]


def test_a_group_is_stopped_in_reverse_and_started_in_order() -> None:
    world = serving(*(spec(id) for id in "abcd"), strategy="rest_for_one")
    world.crash("b")
    world.settle()
    assert [action.child.id for action in world.told if isinstance(action, Halt)] == ["d", "c"]
    assert world.launches() == ["b", "c", "d"]
    assert len(world.state.window) == 1
    assert world.gone == []


def test_an_end_during_a_restart_is_judged_after_it() -> None:
    world = serving(*(spec(id) for id in "abc"), strategy="one_for_all")
    world.crash("c")
    assert world.crash("a") == ["Tell", "Ended"]
    world.settle()
    assert world.statuses == "a:running b:running c:running"
    assert len(world.state.window) == 1  # its group restart has brought it back


def test_requests_wait_until_nothing_goes_on_and_are_dealt_with_in_order() -> None:
    world = serving(spec("a"), spec("b"), strategy="one_for_all")
    world.crash("a")
    replies = [Reply() for _ in range(4)]
    world.feed(Add(Child(spec("c")), replies[0]))
    world.feed(Stop("c", replies[1]))
    world.feed(Delete("c", replies[2]))
    world.feed(Revive("c", replies[3]))
    assert [reply.answers for reply in replies] == [[], [], [], []]
    world.settle()
    assert [type(reply.answers[0]).__name__ for reply in (replies[0], *replies[2:])] == ["Answer", "Answer", "Decline"]
    assert world.statuses == "a:running b:running"


def test_without_an_order_each_child_is_dealt_with_at_once() -> None:
    world = dynamic(spec("a"), spec("b"))
    for id in "ab":
        assert "Launch" in world.crash(id)
    assert world.launches() == ["a", "b"]


def test_a_shutdown_in_the_middle_of_everything_stops_what_is_up(make: Any) -> None:
    world = make(spec("a"), spec("b", backoff=Backoff(first=9)), spec("c"))
    world.crash("a")
    world.crash("b")
    assert world.feed(Shutdown(Exit("shutdown")))[0] == "Ending"
    assert world.feed(Shutdown(Exit("other"))) == []
    world.pending = deque(("stop", child) for child in world.state.children if child.status == "stopping")
    world.settle()
    while world.left is None:
        world.settle()
    assert world.left == Exit("shutdown")
    assert sorted(world.gone) == ["a", "b", "c"]


def test_partitions_are_arranged_in_one_go() -> None:
    world = serving(*(spec(n) for n in range(3)))
    reply = Reply()
    world.feed(Arrange([1, 2], [0], reply, 3))
    world.settle()
    assert world.statuses == "0:running 1:down 2:down"
    assert reply.answers[0].value == 3
    world.feed(Arrange([], [0, 1, 2], Reply(), 1))
    world.settle()
    assert world.statuses == "0:running 1:running 2:running"


STRATEGY = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
RESTART = st.sampled_from(["permanent", "transient", "temporary"])


@settings(deadline=None, max_examples=150)
@given(data=st.data(), ordered=st.booleans(), strategy=STRATEGY, kinds=st.lists(RESTART, min_size=1, max_size=4))
def test_whatever_happens_nothing_is_waited_for_that_is_not_under_way(data: Any, ordered: bool, strategy: Any, kinds: list[Any]) -> None:
    flags = Flags(strategy if ordered else "one_for_one", max_restarts=4)
    world = World(State(flags, ordered=ordered))
    children = [Child(spec(n, restart=kind, backoff=Backoff() if n == 1 else None)) for n, kind in enumerate(kinds)]
    if ordered:
        world.feed(Begin(children))
    else:
        for child in children:
            world.feed(Add(child, Reply()))
    for step in range(40):
        if world.left is not None:
            break
        choice = data.draw(st.sampled_from(["settle", "one", "crash", "stop", "add", "due", "revive", "delete"]))
        running = [child for child in world.state.children if child.status == "running"]
        some = data.draw(st.integers(0, 4))
        if choice == "crash" and running:
            world.feed(Down(running[some % len(running)], data.draw(st.sampled_from([CRASH, Exit("normal")]))))
        elif choice == "stop":
            world.feed(Stop(some, Reply()))
        elif choice == "add":
            world.feed(Add(Child(spec(f"new {step}")), Reply()))
        elif choice == "revive":
            world.feed(Revive(some, Reply()))
        elif choice == "delete":
            world.feed(Delete(some, Reply()))
        elif choice == "due":
            for child in world.state.children:
                world.feed(Due(child, child.generation))
        elif choice == "one" and world.pending:
            kind, child = world.pending.popleft()
            if kind == "stop":
                world.feed(Down(child, Exit("shutdown")))
            elif child.status == "starting":
                world.feed(Failed(child, CRASH) if data.draw(st.booleans()) else Up(child))
        else:
            world.settle()
        waiting = world.state.waiting
        assert waiting is None or any(child is waiting for _, child in world.pending)
    world.feed(Shutdown(Exit("shutdown")))
    for _ in range(20):
        world.settle()
    assert world.left is not None
    assert not len(world.state.children)
    assert all(not isinstance(action, Restarting) or action.child.restarts for action in world.told)
