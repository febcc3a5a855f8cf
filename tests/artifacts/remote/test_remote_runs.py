"""A removal of users and a run never use one remote store at once, whichever begins first."""

import threading
import time

import pytest

from artifacts.remote import remote_lease
from artifacts.remote.remote_runs import StoreInUseError, shown_as_run, without_runs
from artifacts.remote.remote_side import RemoteStore


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_lease, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(remote_lease, "BEAT_SECONDS", 0.05)


def test_a_removal_beside_a_run_is_refused(remote: RemoteStore) -> None:
    with (
        shown_as_run(remote),
        pytest.raises(StoreInUseError, match="a run of a machine uses"),
        without_runs(remote),
    ):
        pass
    with without_runs(remote):
        assert remote.names("runs") == []


def test_a_run_waits_for_a_removal(remote: RemoteStore) -> None:
    began = threading.Event()

    def run() -> None:
        with shown_as_run(RemoteStore(remote.url)):
            began.set()

    with without_runs(remote):
        thread = threading.Thread(target=run)
        thread.start()
        assert not began.wait(1)
    assert began.wait(30)
    thread.join()
    assert remote.names("runs") == []


def test_a_removal_does_not_wait_for_ever_for_a_machine_that_died(
    remote: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_lease, "LEASE_SECONDS", 0.5)
    remote.write(b"of a machine that died", "runs", "dead.beat")
    begun = time.monotonic()
    with without_runs(remote):
        assert time.monotonic() - begun >= 0.5
        assert remote.names("runs") == []
