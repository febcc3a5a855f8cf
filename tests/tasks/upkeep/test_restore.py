"""A restore changes a store as a whole, on request, beside no run, and brings nobody back."""

from pathlib import Path

import pytest

from artifacts.forgotten import Forgotten, forgettings, is_interrupted, log_forgetting
from artifacts.leases import in_use
from artifacts.machines.store_in_use import (
    InterruptedRemovalError,
    InterruptedRestoreError,
    store_in_use,
)
from artifacts.remote.remote_runs import StoreInUseError
from artifacts.shown_users import UserKeyError, user_key
from artifacts.store import Store
from tasks.promoting.release_history import serving_release
from tasks.upkeep import restore as restoring
from tasks.upkeep.backup import back_up
from tasks.upkeep.restore import RestoreRefusedError, restore
from tests.tasks.upkeep.kept_store import everything, release, require_whole


@pytest.fixture
def backup(store: Store, tmp_path: Path) -> Path:
    """A backup of a store that serves another release since then."""
    release(store, 0)
    back_up(store, tmp_path / "backup.tar")
    release(store, 1)
    return tmp_path / "backup.tar"


def test_a_store_with_content_is_replaced_on_request_only_and_set_aside(
    store: Store, backup: Path
) -> None:
    before, served = everything(store), serving_release(store)
    with pytest.raises(RestoreRefusedError, match="is not empty"):
        restore(store, backup)
    assert (everything(store), serving_release(store)) == (before, served)

    aside = restore(store, backup, replace=True).aside
    assert aside is not None
    require_whole(store)
    assert serving_release(store) == everything(store)[-1] != served
    assert everything(Store(aside)) == before
    assert serving_release(Store(aside)) == served


def test_a_store_in_use_is_left_alone(store: Store, backup: Path) -> None:
    before = everything(store)
    with in_use(store.local), pytest.raises(StoreInUseError, match="then restore"):
        restore(store, backup, replace=True)
    assert everything(store) == before


def test_a_killed_restore_is_refused_by_runs_and_repeated(
    store: Store, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move, moves = restoring._move, list[Path]()

    def killed(source: Path, target: Path) -> None:
        moves.append(source)
        if len(moves) % 7 == 0:
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(restoring, "_move", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            restore(store, backup, replace=True)
        with (
            pytest.raises(InterruptedRestoreError, match="restore FILE --replace"),
            store_in_use(store),
        ):
            pass
    monkeypatch.setattr(restoring, "_move", move)
    restore(store, backup, replace=True)
    require_whole(store)
    with store_in_use(store):
        assert serving_release(store) == everything(store)[-1]


def test_who_was_forgotten_after_the_backup_stays_forgotten(store: Store, tmp_path: Path) -> None:
    release(store, 0)
    Forgotten(store).add(["ada"])
    log_forgetting(store, 1, {})
    back_up(store, tmp_path / "backup.tar")
    Forgotten(store).add(["bob"])
    log_forgetting(store, 1, {})
    hashes, log = Forgotten(store).hashes, forgettings(store)

    assert restore(store, tmp_path / "backup.tar", replace=True).is_due
    assert (Forgotten(store).hashes, forgettings(store)) == (hashes, log)
    assert is_interrupted(store)
    with pytest.raises(InterruptedRemovalError), store_in_use(store):
        pass

    # Where only the list of the lost store is left.
    there = Store(tmp_path / "there")
    place = there.local / "operation" / "forgotten"
    place.mkdir(parents=True)
    for file in (store.local / "operation" / "forgotten").iterdir():
        if file.name != "pending":
            (place / file.name).write_bytes(file.read_bytes())
    assert restore(there, tmp_path / "backup.tar").is_due
    assert Forgotten(there).hashes == hashes


def test_a_removal_that_was_interrupted_stays_due(store: Store, tmp_path: Path) -> None:
    Forgotten(store).add(["ada"])
    log_forgetting(store, 1, {})
    back_up(store, tmp_path / "backup.tar")
    Forgotten(store).add(["ada"])
    assert restore(store, tmp_path / "backup.tar", replace=True).is_due
    assert is_interrupted(store)


def test_an_empty_store_takes_the_list_of_the_backup(store: Store, tmp_path: Path) -> None:
    release(store, 0)
    Forgotten(store).add(["ada"])
    log_forgetting(store, 1, {})
    back_up(store, tmp_path / "backup.tar")
    there = Store(tmp_path / "there")
    assert not restore(there, tmp_path / "backup.tar").is_due
    assert Forgotten(there).hashes == Forgotten(store).hashes
    assert (user_key(there), forgettings(there)) == (user_key(store), forgettings(store))
    key = there.local / "operation" / "forgotten" / "secret.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert not is_interrupted(there)


def test_a_list_of_another_key_is_not_replaced(store: Store, tmp_path: Path) -> None:
    Forgotten(store).add(["ada"])
    log_forgetting(store, 1, {})
    back_up(store, tmp_path / "backup.tar")
    there = Store(tmp_path / "there")
    Forgotten(there).add(["bob"])
    hashes = Forgotten(there).hashes
    with pytest.raises(UserKeyError, match="another folder"):
        restore(there, tmp_path / "backup.tar", replace=True)
    assert Forgotten(there).hashes == hashes
