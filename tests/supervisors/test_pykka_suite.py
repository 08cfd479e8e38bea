"""Pykka's own test-suite, run with our actors and futures: what differs is known, has a reason, and stands in the guide.

The suite is not part of this repository: it comes with Pykka's source distribution, in the version that is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conftest import Say

HERE = Path(__file__).parent
GUIDE = HERE.parents[1] / "supervisors" / "README.md"
ON_THE_RUNTIME = 137
"""The tests that take the runtime, so actors or futures of ours; the others ask nothing of us."""

DIFFER = {
    "pykka.ActorRegistry does not know our actors": """
        test_registry.py::test_actor_is_registered_when_started
        test_registry.py::test_actor_is_unregistered_when_stopped
        test_registry.py::test_all_actors_can_be_stopped_through_registry
        test_registry.py::test_actors_may_be_looked_up_by_class
        test_registry.py::test_actors_may_be_looked_up_by_superclass
        test_registry.py::test_actors_may_be_looked_up_by_class_name
        test_registry.py::test_actors_may_be_looked_up_by_urn
        test_registry.py::test_broadcast_sends_message_to_all_actors_if_no_target
        test_registry.py::test_broadcast_sends_message_to_all_actors_of_given_class
        test_registry.py::test_broadcast_sends_message_to_all_actors_of_given_class_name
        test_actor.py::test_on_start_is_called_after_the_actor_is_registered
        """,
    "on_exit takes the place of on_failure": """
        test_actor.py::test_on_failure_is_called_when_exception_cannot_be_returned
        test_actor.py::test_actor_is_stopped_when_unhandled_exceptions_are_raised
        proxy/test_static_method_calls.py::test_exception_in_deferred_method_call_triggers_on_failure
        """,
    "a BaseException ends one actor, not all": """
        test_actor.py::test_all_actors_are_stopped_on_base_exception
        """,
    "logged in our words, or told as an event": """
        test_logging.py::test_unexpected_messages_are_logged
        test_logging.py::test_exception_is_logged_when_returned_to_caller
        test_logging.py::test_exception_is_logged_when_not_reply_requested
        test_logging.py::test_base_exception_is_logged
        test_logging.py::test_exception_in_on_start_is_logged
        test_logging.py::test_exception_in_on_stop_is_logged
        test_logging.py::test_exception_in_on_failure_is_logged
        """,
    "a urn is a serial number behind one uuid": """
        test_actor.py::test_actor_has_an_uuid4_based_urn
        """,
    "an error is handed on without its traceback": """
        test_future.py::test_get_raises_exception_with_full_traceback
        """,
}
"""Why which tests of the suite fail with our actors, on every dispatcher."""

THREADS = {
    "thread": """
        test_threading_actor.py::test_actor_thread_is_not_daemonic_by_default
        """,
    "pool": """
        test_threading_actor.py::test_actor_thread_is_not_daemonic_by_default
        test_threading_actor.py::test_actor_thread_is_named_after_pykka_actor_class
        test_threading_actor.py::test_actor_thread_is_daemonic_if_use_daemon_thread_flag_is_set
        """,
}
THREADS["loop"] = THREADS["pool"]
"""The same of the three tests of `ThreadingActor` itself: threads of ours are daemons, where an actor has one of its own."""


def _python(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))}
    inherited |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", "PIP_RETRIES": "1"}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, env=inherited | environment, capture_output=True, encoding="utf-8", timeout=240
    )


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of the Pykka that is installed, unpacked, with what its tests need and our plugin beside it."""
    home = tmp_path_factory.mktemp("pykka")
    wanted = f"pykka=={version('pykka')}"
    for command in (
        ("download", "--quiet", "--no-binary", "pykka", "--no-deps", "--dest", str(home), wanted),
        ("install", "--quiet", "--no-deps", "--target", str(home / "beside"), "pytest-mock"),
    ):
        done = _python("pip", *command, cwd=home)
        if done.returncode != 0:
            pytest.skip(f"Pykka's suite is not at hand, pip {command[0]} failed: {done.stderr[-300:]}")
    (archive,) = home.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(home, filter="data")
    shutil.copy(HERE / "pykka_plugin.py", home / "beside")
    return home


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["thread", "pool", "loop"])
def test_the_suite_of_pykka_passes_but_for_what_the_guide_names(suite: Path, kind: str, tmp_path: Path, say: Say) -> None:
    (unpacked,) = (path for path in suite.glob("pykka-*") if path.is_dir())
    written = tmp_path / "outcomes.json"
    done = _python(
        *("pytest", "tests", "-p", "pykka_plugin", "-p", "no:cacheprovider", "-n", "8", "-q", "-o", "addopts=", "--timeout", "60"),
        cwd=unpacked,
        PYTHONPATH=str(suite / "beside"),
        PYKKA_SUITE_DISPATCHER=kind,
        PYKKA_SUITE_OUTCOMES=str(written),
    )
    assert written.exists(), done.stdout + done.stderr
    outcomes: dict[str, str] = json.loads(written.read_text())
    asked = [name for name in outcomes if "[threading" in name]
    assert len(asked) == ON_THE_RUNTIME
    failed = {name.removeprefix("tests/").split("[")[0] for name, outcome in outcomes.items() if outcome != "passed"}
    expected = {name for names in DIFFER.values() for name in names.split()} | set(THREADS[kind].split())
    assert failed == expected, done.stdout[-5000:]
    say(f"Pykka's suite on {kind}: {sum(outcomes[name] == 'passed' for name in asked)} of {len(asked)} pass, and we know why not the rest")


def test_the_guide_names_each_test_of_pykka_that_our_actors_fail() -> None:
    guide = GUIDE.read_text()
    named = [name.split("::")[1] for names in (*DIFFER.values(), *THREADS.values()) for name in names.split()]
    assert not [name for name in named if name not in guide]
