"""O. At the edges: what a forked child process finds."""

from __future__ import annotations

import pytest

from tests.supervisors.test_python import script

HEAD = """
import os, sys, threading, time, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # Python 3.12 and later say it at each fork
from allm.supervisors import *
class Echo(Actor):
    def on_receive(self, message): return message
def forked(check, times):
    for _ in range(times):
        pid = os.fork()
        if pid == 0:
            code = 1
            threading.Timer(10, os._exit, (2,)).start()
            try:
                check()
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code == 0, "hung" if code == 2 else code
def dead(future):
    try:
        future.get(timeout=8)
    except ActorExited:
        return
    except Exception as error:
        assert "not found" in str(error), error
        return
    raise AssertionError("answered")
"""

REGISTRY = """
names, locks = Registry("duplicate"), KeyedLocks()
ref = start_and_wait(Echo)
names.register("here", ref=ref)
over = threading.Event()
def work(n):
    while not over.is_set():
        names.register(n, ref=ref)
        names.unregister(n, ref=ref)
        with locks.hold(n): pass
threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
for thread in threads: thread.start()
def check():
    assert names.whereis("here") is None and len(names) == 0
    new = start_and_wait(Echo, timeout=5)
    names.register("here", ref=new)
    assert names.whereis("here") is new and call(names.via("here"), 1) == 1
    for n in range(2):
        with locks.hold(n, timeout=5): pass
    stop(new)
    assert names.whereis("here") is None
forked(check, 30)
over.set()
for thread in threads: thread.join()
assert names.whereis("here") is ref
stop(ref)
print("ok")
"""

SHELF = """
class Hot(Shelved):
    def on_receive(self, message): return message
    def on_snapshot(self): return None
class Store:
    def load(self, key): return None
    def save(self, key, state): pass
shelf = Shelf(start_and_wait(DynamicSupervisor, on=PoolDispatcher(2)), Hot, Store())
over = threading.Event()
def work():
    while not over.is_set():
        shelf.ask("hot", 1).get(timeout=10)
thread = threading.Thread(target=work)
thread.start()
shelf.ask("hot", 1).get(timeout=10)
def check():
    dead(shelf.ask("hot", 2))
    dead(shelf.ask("cold", 2))
forked(check, 30)
over.set()
thread.join()
assert shelf.ask("hot", 3).get(timeout=10) == 3
print("ok")
"""

KEPT = """
timers = ManualTimers()
root = start_and_wait(Supervisor, [ChildSpec("kept", (Echo, ()), mailbox="keep", backoff=Backoff(first=10))], timers=timers)
kept = child(root, "kept")
kept.tell(Crash())
while which_child(root, "kept").status != "restarting": time.sleep(0.001)
waiting = kept.ask("waits for the next incarnation", block=False)
held, gate = start_and_wait(Echo), threading.Event()
class Slow(Actor):
    def on_receive(self, message):
        gate.wait(20)
        return message
slow = start_and_wait(Slow)
in_work = slow.ask("in its handler", block=False)
while not slow.actor_inbox.envelope: time.sleep(0.001)
def check():
    assert not kept.is_alive()
    dead(kept.ask("late", block=False))
    dead(waiting)
    dead(in_work)
    new = start_and_wait(Supervisor, [ChildSpec("kept", (Echo, ()), mailbox="keep")], timeout=5)
    assert child(new, "kept").ask(1, timeout=5) == 1
    stop(new, timeout=5)
forked(check, 3)
assert kept.is_alive()
timers.advance(100)
gate.set()
assert waiting.get(timeout=10) and in_work.get(timeout=10) and kept.ask(1, timeout=10) == 1
stop(root)
print("ok")
"""

URNS = """
reading, writing = os.pipe()
first = Echo.start()
def names():
    ref = Echo.start()
    return f"{ref.actor_urn} {ref.actor_inbox.name}\\n"
def check():
    os.write(writing, names().encode())
forked(check, 2)
mine = names().split()
theirs = [os.read(reading, 10_000).decode().split()]
found = [mine[0], mine[1], first.actor_urn, first.actor_inbox.name, *theirs[0]]
assert len(found) == 8 and len(set(found)) == 8, found
print("ok")
"""


@pytest.mark.parametrize("program", [REGISTRY, SHELF, KEPT, URNS], ids=["registry", "shelf", "kept", "urns"])
def test_EDGE_12_after_a_fork_everything_works_or_says_dead_at_once(program: str) -> None:
    code, out = script(HEAD + program)
    assert (code, out.strip()) == (0, "ok")
