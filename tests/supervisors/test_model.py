"""Trees of ours beside a reference model: after each step both must have the same children, events, answers and living."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from allm.supervisors import Crash, Exit, StartChild, StopChild, kill
from allm.supervisors.cell import Shutdown
from allm.supervisors.futures import Reply
from allm.supervisors.requests import DeleteChild, RestartChild
from tests.conftest import Say
from tests.supervisors.live import Scene, word
from tests.supervisors.model import Kid, Leaf, Path, Ticket, Tree, World
from tests.supervisors.model_boss import Boss, seen
from tests.supervisors.model_supervisors import plant
from tests.supervisors.support import WAIT, Loop, make_dispatcher

RESTARTS = st.sampled_from(["permanent", "permanent", "transient", "temporary"])
STRATEGIES = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
AUTO = st.sampled_from(["never", "never", "any_significant", "all_significant"])
SHUTDOWNS = st.sampled_from([2.0, 5.0, 5.0, "infinity", "brutal_kill"])
BACKOFFS = st.sampled_from([None, None, (1.0, 4.0), (0.5, 1.0)])
TIMEOUTS = st.sampled_from([None, None, 3.0])
BUDGETS = st.sampled_from([0, 1, 2, 3, 50, 50, 50])
OUTCOMES = st.lists(st.sampled_from(["fail", "fail", "shutdown", "ok", "ignore", "hang"]), min_size=1, max_size=4)
KINDS = st.sampled_from(["crash", "crash", "crash", "normal", "shutdown", "odd"])
NUMBERS = st.integers(0, 59)


@st.composite
def kids(draw: st.DrawFn, id: str, auto: Any, depth: int) -> Kid:
    """A worker, or, above the third floor, perhaps a supervisor."""
    restart = draw(RESTARTS)
    fields: dict[str, Any] = {
        "restart": restart,
        "significant": auto != "never" and restart != "permanent" and draw(st.booleans()),
        "backoff": draw(BACKOFFS),
    }
    if depth < 3 and draw(st.sampled_from([True, True, False])):
        return Kid(id, shutdown=draw(st.sampled_from(["infinity", "infinity", 4.0])), below=draw(trees(depth)), **fields)
    return Kid(id, shutdown=draw(SHUTDOWNS), start_timeout=draw(TIMEOUTS), apart=draw(st.booleans()), **fields)


@st.composite
def trees(draw: st.DrawFn, depth: int = 1) -> Tree:
    """A supervisor with up to three children; a dynamic one begins without."""
    flags: dict[str, Any] = {"max_restarts": draw(BUDGETS), "max_seconds": draw(st.sampled_from([2.0, 5.0]))}
    if draw(st.sampled_from([True, False, False])):
        return Tree(dynamic=True, **flags)
    auto = draw(AUTO)
    below = tuple(draw(kids(id, auto, depth + 1)) for id in "abc"[: draw(st.integers(0 if depth > 1 else 2, 3))])
    return Tree(strategy=draw(STRATEGIES), auto_shutdown=auto, kids=below, **flags)


def has_started(leaf: Leaf) -> bool:
    """Whether it may be sent a message: what it does with one that waits for its start is a race with its supervisor's next step."""
    return leaf.blocked != "start"


class Model(RuleBasedStateMachine):
    """One step: the same thing done to the model and to the tree; then both come to rest, and are compared."""

    kind = "thread"
    tally: Counter[str] = Counter()

    @initialize(tree=trees())
    def begin(self, tree: Tree) -> None:
        self.loop = Loop()
        self.dispatch = make_dispatcher(self.kind, self.loop)
        self.names = 0
        self.set_out(tree)

    def set_out(self, tree: Tree) -> None:
        self.world, self.scene = World(), Scene(self.dispatch)
        self.tickets: list[tuple[Ticket, Reply[Any] | str]] = []
        self.root: Boss = plant(self.world, tree)
        self.scene.plant(tree)
        self.settle("trees")

    # -- both at rest

    def settle(self, what: str) -> None:
        """Wait until the tree is as the model says, and once more when all have done what they had to do."""
        self.world.run()
        self.tally[what] += 1
        bosses = [proc.path for proc in self.world.alive if isinstance(proc, Boss)]
        deadline = time.monotonic() + WAIT
        for _ in range(2):
            while (difference := self.difference()) is not None:
                assert time.monotonic() < deadline, f"after {what}: {difference}"
                self.scene.knock(bosses)
                self.scene.rest(0.001)
            self.scene.knock(bosses)
        for events in self.world.events.values():
            self.tally.update(event[0] for event in events)
        self.world.events.clear()
        self.scene.forget()
        self.scene.let_go()

    def difference(self) -> Any:
        """The first thing that is not as the model says."""
        for name, wanted, found in self.aspects():
            if wanted != found:
                return name, "model:", wanted, "tree:", found
        return None

    def aspects(self) -> Any:
        scene, world = self.scene, self.world
        yield "exit", self.root.exit, scene.exit
        yield "children", None if self.root.exit else [seen(place) for place in self.root.places], scene.view()
        yield "living", sorted(proc.path for proc in world.alive), scene.paths()
        yield "hanging", sorted(leaf.path for leaf in self.leaves(lambda leaf: leaf.blocked is not None)), scene.blocked()
        yield "timers", world.pending(), scene.clock.pending()
        yield "answers", [ticket.answer for ticket, _ in self.tickets], [word(reply) for _, reply in self.tickets]
        yield "events", self.ordered({key: events for key, events in world.events.items() if events}), self.ordered(scene.heard())

    def ordered(self, told: dict[Any, list[Any]]) -> Any:
        """The events, in order where it is defined: children of a dynamic supervisor, and of a killed one, end side by side."""
        unordered = self.world.unordered
        return {key: sorted(events, key=lambda event: event[1]) if key in unordered else events for key, events in told.items()}

    # -- whom a step is about

    def leaves(self, test: Callable[[Leaf], bool] = lambda _: True) -> list[Leaf]:
        return [proc for proc in self.world.alive if isinstance(proc, Leaf) and test(proc)]

    def leaf(self, number: int, test: Callable[[Leaf], bool] = lambda _: True) -> Leaf | None:
        found = sorted(self.leaves(test), key=lambda leaf: leaf.path)
        return found[number % len(found)] if found else None

    def boss(self, number: int) -> Boss:
        found = sorted((proc for proc in self.world.alive if isinstance(proc, Boss)), key=lambda boss: boss.path)
        return found[number % len(found)]

    def may_hang(self, leaf: Leaf) -> bool:
        """Nothing that blocks runs on a loop."""
        assert leaf.place is not None
        return leaf.blocked is None and not leaf.deaf and (self.kind != "loop" or leaf.place.kid.apart)

    def say(self, leaf: Leaf | None, message: str, what: str) -> None:
        if leaf is not None:
            self.tickets.append((leaf.ask(message), self.scene.ask(leaf.path, message)))
            self.settle(what)

    def request(self, boss: Boss, what: str, argument: Any, message: Any) -> None:
        self.tickets.append((boss.request(what, argument), self.scene.ask(boss.path, message)))
        self.settle(what)

    # -- the steps

    living = precondition(lambda self: self.root.exit is None)

    @precondition(lambda self: self.root.exit is not None)
    @rule(tree=trees())
    def plant(self, tree: Tree) -> None:
        self.scene.close()
        self.set_out(tree)

    @living
    @rule(number=NUMBERS, kind=KINDS)
    def end_by_itself(self, number: int, kind: str) -> None:
        self.say(self.leaf(number, has_started), kind, f"leaf: {kind}")

    @living
    @rule(number=NUMBERS)
    def greet(self, number: int) -> None:
        self.say(self.leaf(number, has_started), "echo", "leaf: echo")

    @living
    @rule(number=NUMBERS, message=st.sampled_from(["hold", "deafen"]))
    def hang(self, number: int, message: str) -> None:
        self.say(self.leaf(number, self.may_hang), message, f"leaf: {message}")

    @living
    @rule(number=NUMBERS)
    def release(self, number: int) -> None:
        leaf = self.leaf(number, lambda leaf: leaf.blocked is not None)
        if leaf is not None:
            self.scene.release(leaf.path)
            leaf.release()
            self.settle("leaf: released")

    @living
    @rule(number=NUMBERS, hanging=st.booleans())
    def kill_leaf(self, number: int, hanging: bool) -> None:
        leaf = self.leaf(number, lambda leaf: (leaf.blocked is not None) is hanging)
        if leaf is not None:
            kill(self.scene.find(leaf.path))
            leaf.kill()
            self.settle("leaf: killed hanging" if hanging else "leaf: killed")

    @living
    @rule(number=NUMBERS, how=st.sampled_from(["crash", "kill", "shutdown", "odd"]))
    def end_boss(self, number: int, how: str) -> None:
        boss = self.boss(number)
        if boss is self.root and number % 4:  # a tree of some age is more of a test
            return
        ref = self.scene.find(boss.path)
        if how == "crash":
            self.tickets.append((boss.crash(), self.scene.ask(boss.path, Crash())))
        elif how == "kill":
            kill(ref)
            boss.kill()
        else:
            ref.actor_inbox.put_signal(Shutdown(Exit(how)))  # type: ignore[attr-defined]  # pyright: ignore
            boss.shut(how)
        self.settle(f"supervisor: {how}")

    @living
    @rule(number=NUMBERS, outcomes=OUTCOMES)
    def plan(self, number: int, outcomes: list[str]) -> None:
        leaf = self.leaf(number)
        if leaf is None or leaf.place is None:
            return
        if self.kind == "loop" and not leaf.place.kid.apart:
            outcomes = [outcome for outcome in outcomes if outcome != "hang"]
        for plans in (self.world.plans, self.scene.plans):
            plans[leaf.path].clear()
            plans[leaf.path].extend(outcomes)
        self.tally["plans"] += 1

    @living
    @rule(number=NUMBERS, id=st.sampled_from("abcd"), data=st.data(), outcome=st.sampled_from(["ok", "ok", "ok", "fail", "ignore"]))
    def start(self, number: int, id: str, data: st.DataObject, outcome: str) -> None:
        boss = self.boss(number)
        if boss.tree.dynamic:
            self.names += 1
            id = f"{self.names}"
        kid = data.draw(kids(id, boss.tree.auto_shutdown, len(boss.path) + 2))
        path: Path = (*boss.path, id)
        if kid.below is None and boss.find(id) is None:
            for plans in (self.world.plans, self.scene.plans):
                plans[path].clear()
                plans[path].append(outcome)
        self.request(boss, "start", kid, StartChild(self.scene.spec(boss.path, kid)))

    @living
    @rule(number=NUMBERS, id=NUMBERS, what=st.sampled_from(["terminate", "terminate", "restart", "delete"]))
    def administrate(self, number: int, id: int, what: str) -> None:
        message: Any = {"terminate": StopChild, "restart": RestartChild, "delete": DeleteChild}[what]
        boss = self.boss(number)
        ids = [*(place.id for place in boss.places), "nobody"]
        name = ids[id % len(ids)]
        self.request(boss, what, name, message(name))

    @living
    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 5.0, 70.0]))
    def wait(self, seconds: float) -> None:
        until = self.world.now + seconds
        while self.world.fire(until):
            assert self.scene.clock.fire(until)
            self.settle("timers")
        assert not self.scene.clock.fire(until)
        self.settle("waits")

    def teardown(self) -> None:
        if hasattr(self, "scene"):
            self.scene.close()
            self.loop.close()
            getattr(self.dispatch, "close", lambda: None)()


TOLD = ("started", "ended", "restarting", "escalated")
STEPS = (
    *("trees", "plans", "timers", "waits", "start", "terminate", "restart", "delete"),
    *("leaf: crash", "leaf: normal", "leaf: shutdown", "leaf: odd", "leaf: echo", "leaf: hold", "leaf: deafen", "leaf: released"),
    *("leaf: killed", "leaf: killed hanging"),
    *("supervisor: crash", "supervisor: kill", "supervisor: shutdown", "supervisor: odd"),
)
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
# Not shrunk: a disagreement takes `WAIT` seconds to be one, and each try as long. The example that is printed can be shrunk by hand.
HOW = settings(max_examples=20, stateful_step_count=50, deadline=None, suppress_health_check=SLOW, phases=[Phase.generate], database=None)


def run(kind: str, steps: int, each: int, first: int) -> Counter[str]:
    """So many steps beside trees on one kind of dispatcher, and each kind of step so often; seeds from `first` on."""

    class Here(Model):
        pass

    Here.kind, Here.tally = kind, Counter()
    number = first
    while sum(Here.tally[name] for name in STEPS) < steps or min(Here.tally[name] for name in (*STEPS, *TOLD)) < each:
        try:
            run_state_machine_as_test(seed(number)(Here), settings=HOW)
        except BaseException as error:
            error.add_note(f"with seed {number}, after {sum(Here.tally[name] for name in STEPS):,} steps on {kind}")
            raise
        number += 1
    return Here.tally


def counted(kind: str, tally: Counter[str]) -> str:
    steps = sum(tally[name] for name in STEPS)
    return f"{kind}: {steps:,} steps: " + ", ".join(f"{tally[name]:,} {name}" for name in (*STEPS, *TOLD))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["thread", "pool", "loop"])
def test_a_tree_is_as_the_reference_says_after_each_step(kind: str, say: Say) -> None:
    say(counted(kind, run(kind, 500, each=2, first=0)))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["thread", "pool", "loop"])
def test_a_tree_is_as_the_reference_says_for_long(kind: str, say: Say) -> None:
    first = random.randrange(2**32)
    say(f"the first seed is {first}; " + counted(kind, run(kind, 50_000, each=100, first=first)))
