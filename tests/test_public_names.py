"""The names that `allm` exports are a promise: one that comes or goes shows here, and in the change log."""

import allm

PUBLIC_NAMES: list[str] = []


def test_the_exported_names_are_these() -> None:
    exported = sorted(allm.__all__)
    added, removed = sorted(set(exported) - set(PUBLIC_NAMES)), sorted(set(PUBLIC_NAMES) - set(exported))
    assert exported == PUBLIC_NAMES, f"added {added}, removed {removed}"


def test_the_list_is_sorted_and_names_nothing_twice() -> None:
    assert sorted(set(PUBLIC_NAMES)) == PUBLIC_NAMES


def test_every_exported_name_can_be_had() -> None:
    missing = [name for name in allm.__all__ if not hasattr(allm, name)]
    assert missing == []


def test_every_exported_name_is_seen_by_dir() -> None:
    assert set(allm.__all__) <= set(dir(allm))


def test_a_name_that_is_not_exported_is_an_attribute_error() -> None:
    assert not hasattr(allm, "no_such_name")
