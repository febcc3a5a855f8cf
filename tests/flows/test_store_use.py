"""A flow keeps what it uses while it runs, and cleans its store at its end where a setting says."""

import pytest

from artifacts.leases import is_in_use_here
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from flows.operating import OPERATING
from flows.server import run_parameters
from flows.store_use import uses_store
from tests.tasks.upkeep.kept_store import everything, make, release


@uses_store
def part(number: int, store: str | None = None) -> ArtifactRef:
    """Makes what no release names."""
    assert store is not None
    return make(Store(store), Kind.MODEL, number)


@uses_store
def whole(number: int, store: str | None = None) -> bool:
    """Returns whether what a part of it made is still there."""
    assert store is not None
    return Store(store).holds(part(number, store=store))


@uses_store
def failing(store: str) -> None:
    """Fails after it has made something."""
    make(Store(store), Kind.MODEL, 2)
    raise ZeroDivisionError


@pytest.fixture
def keeps_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OPERATING, "keep_releases", 1)


@pytest.mark.usefixtures("keeps_one")
def test_a_flow_cleans_at_its_end_and_its_parts_do_not(store: Store) -> None:
    served = release(store, 0)
    assert whole(9, store=store.root)
    assert [ref for ref in everything(store) if ref.kind is Kind.MODEL] == [
        store.manifest(served).parents["model"]
    ]
    assert not is_in_use_here(store.local)


@pytest.mark.usefixtures("keeps_one")
def test_a_flow_that_fails_cleans_nothing_and_holds_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        failing(store=store.root)
    assert [ref.kind for ref in everything(store)] == [Kind.MODEL]
    assert not is_in_use_here(store.local)


def test_without_the_setting_nothing_is_deleted(store: Store) -> None:
    made = part(1, store=store.root)
    assert made in everything(store)


@pytest.mark.usefixtures("keeps_one")
def test_a_store_that_cannot_be_cleaned_ends_no_flow(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("flows.store_use.clean", fails)
    assert part(1, store=store.root) in everything(store)
    assert "the store was not cleaned" in caplog.text


def test_an_ordered_flow_writes_nothing_into_another_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_parameters, "is_started_by_api", lambda: True)
    with pytest.raises(run_parameters.MachineSettingError):
        part(1, store=store.root)
    assert not store.local.exists()
