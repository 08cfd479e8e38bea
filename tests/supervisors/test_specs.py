"""A. Child specs and flags: checked before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from allm.supervisors import ChildSpec, DynamicSupervisor, Flags, PartitionSupervisor, SpecError, Supervisor, check_specs
from allm.supervisors.admin import SupervisorError, change_specs, get_spec, start_child, terminate_child, which_child
from allm.supervisors.dispatch import Dispatcher
from tests.supervisors.conftest import Start
from tests.supervisors.support import Journal, Probe, spec

START = (Probe, ())


def refusal(**fields: Any) -> tuple[str, object]:
    with pytest.raises(SpecError) as error:
        ChildSpec.of({"id": "a", "start": START} | fields)
    return error.value.reason, error.value.value


def flaw(**fields: Any) -> tuple[str, object]:
    with pytest.raises(SpecError) as error:
        Flags.of(fields)
    return error.value.reason, error.value.value


def test_SPEC_01_a_spec_needs_an_id_and_a_start_and_must_be_a_spec() -> None:
    assert refusal(id=None)[0] == "missing_id"
    for value, reason in (({"start": START}, "missing_id"), ({"id": 1}, "missing_start"), (3, "invalid_child_spec")):
        with pytest.raises(SpecError, match=reason):
            ChildSpec.of(value)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert refusal(start=None)[0] == "missing_start"


@pytest.mark.parametrize("start", [("no", "pe"), (Probe,), "name", (Probe, "args"), (Probe, (), ()), (Probe, (), {}, 1)])
def test_SPEC_02_a_start_entry_is_a_callable_and_its_args(start: Any) -> None:
    assert refusal(start=start) == ("invalid_start", start)


def test_SPEC_03_an_unknown_restart_type_is_refused_by_its_value() -> None:
    assert refusal(restart="sometimes") == ("invalid_restart_type", "sometimes")
    assert refusal(restart=["permanent"]) == ("invalid_restart_type", ["permanent"])


@pytest.mark.parametrize("shutdown", [-1, -0.5, "now", True])
def test_SPEC_04_shutdown_is_brutal_kill_infinity_or_seconds(shutdown: Any) -> None:
    assert refusal(shutdown=shutdown) == ("invalid_shutdown", shutdown)
    for legal in ("brutal_kill", "infinity", 0, 5, 0.25):
        assert ChildSpec.of({"id": 1, "start": START, "shutdown": legal}).shutdown == legal


def test_SPEC_05_a_child_is_a_worker_or_a_supervisor() -> None:
    assert refusal(type="manager") == ("invalid_child_type", "manager")


def test_SPEC_07_significant_is_a_bool() -> None:
    assert refusal(significant=1, restart="transient") == ("invalid_significant", 1)


def test_SPEC_08_defaults_and_reading_a_spec_back(supervise: Start, journal: Journal) -> None:
    worker = ChildSpec("w", (Probe, (journal, "w")))
    assert (worker.restart, worker.type, worker.shutdown, worker.significant) == ("permanent", "worker", 5.0, False)
    assert worker.modules == (Probe.__module__,)
    for kind in (Supervisor, DynamicSupervisor, PartitionSupervisor):
        nested = ChildSpec("s", (kind, ()))
        assert (nested.type, nested.shutdown) == ("supervisor", "infinity")
    ref = supervise([worker])
    assert get_spec(ref, "w") == worker
    with pytest.raises(SupervisorError, match="not_found"):
        get_spec(ref, "other")


def test_SPEC_09_infinity_is_legal_for_workers() -> None:
    assert ChildSpec("a", START, shutdown="infinity", type="worker").shutdown == "infinity"


def test_SPEC_10_unknown_keys_are_ignored() -> None:
    assert ChildSpec.of({"id": "a", "start": START, "colour": "red"}) == ChildSpec("a", START)
    assert Flags.of({"strategy": "one_for_all", "colour": "red"}) == Flags("one_for_all")


def test_SPEC_11_two_specs_with_one_id_are_refused(journal: Journal) -> None:
    with pytest.raises(SpecError) as error:
        Supervisor([spec(journal, "a"), spec(journal, "b"), spec(journal, "a")])
    assert (error.value.reason, error.value.value) == ("duplicate_child_name", "a")


def test_SPEC_12_significant_and_permanent_do_not_go_together() -> None:
    assert refusal(significant=True, restart="permanent")[0] == "bad_combination"


def test_SPEC_13_significant_needs_auto_shutdown(supervise: Start, journal: Journal) -> None:
    significant = spec(journal, "a", restart="transient", significant=True)
    with pytest.raises(SpecError, match="bad_combination"):
        Supervisor([significant])
    with pytest.raises(SupervisorError, match="bad_combination"):
        start_child(supervise(), significant)


def test_SPEC_14_specs_can_be_checked_without_starting_anything(journal: Journal) -> None:
    assert check_specs([spec(journal, "a"), {"id": "b", "start": START}])[1] == ChildSpec("b", START)
    for bad in ([{"id": "a"}], [spec(journal, "a")] * 2):
        with pytest.raises(SpecError):
            check_specs(bad)
    assert journal.entries == []


def test_FLAG_01_an_unknown_strategy_is_refused() -> None:
    assert flaw(strategy="one_for_some") == ("invalid_strategy", "one_for_some")
    with pytest.raises(SpecError):
        Supervisor(strategy="one_for_some")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("intensity", [-1, 1.5, "3", True])
def test_FLAG_02_intensity_is_an_int_from_0(intensity: Any) -> None:
    assert flaw(max_restarts=intensity) == ("invalid_intensity", intensity)
    assert Flags(max_restarts=0).max_restarts == 0


@pytest.mark.parametrize("period", [0, -5, "5", True])
def test_FLAG_03_the_period_is_positive(period: Any) -> None:
    assert flaw(max_seconds=period) == ("invalid_period", period)


def test_FLAG_04_an_unknown_auto_shutdown_is_refused() -> None:
    assert flaw(auto_shutdown="always") == ("invalid_auto_shutdown", "always")


def test_FLAG_05_the_budget_is_3_in_5_seconds() -> None:
    assert (Flags().max_restarts, Flags().max_seconds) == (3, 5.0)


def test_the_fields_of_our_own_are_checked_too() -> None:
    assert refusal(mailbox="lose")[0] == "invalid_mailbox"
    assert refusal(max_redeliver=-1)[0] == "invalid_max_redeliver"
    for timeout in ("infinity", -1, True, [1]):
        assert refusal(start_timeout=timeout) == ("invalid_start_timeout", timeout)


@pytest.mark.parametrize("field", ["id", "type", "shutdown", "mailbox"])
def test_a_value_that_cannot_be_looked_up_is_refused_by_its_value(field: str) -> None:
    reason, value = refusal(**{field: ["a", "list"]})
    assert reason.startswith("invalid_")
    assert value == ["a", "list"]


def test_a_template_is_checked_like_any_dynamic_child(begin: Start, dispatch: Dispatcher, journal: Journal) -> None:
    significant = spec(journal, "t", restart="transient", significant=True)
    with pytest.raises(SpecError, match="bad_combination"):
        DynamicSupervisor(template=significant)
    ref = begin(DynamicSupervisor, template=spec(journal, "t"), on=dispatch)
    with pytest.raises(SupervisorError, match="bad_combination"):
        change_specs(ref, [significant])


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_an_id_that_cannot_be_looked_up_is_not_found(begin: Start, dispatch: Dispatcher, kind: Any) -> None:
    ref = begin(kind, on=dispatch)
    functions: list[Any] = [which_child, terminate_child, get_spec]
    for ask in functions:
        with pytest.raises(SupervisorError, match="not_found"):
            ask(ref, ["a", "list"])
    assert ref.is_alive()
