"""A lease has one holder, outlives no dead one, and needs no agreement of clocks."""

import threading
import time

import pytest

from artifacts.remote import remote_lease
from artifacts.remote.remote_lease import Liveness, RemoteLease
from artifacts.remote.remote_side import RemoteStore

PLACE = ("leases", "one")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_lease, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(remote_lease, "BEAT_SECONDS", 0.05)


def test_of_several_takers_one_holds_it_at_a_time(remote: RemoteStore) -> None:
    inside, most, taken = 0, 0, 0
    counting = threading.Lock()

    def take() -> None:
        nonlocal inside, most, taken
        with RemoteLease(remote, *PLACE).held():
            with counting:
                inside += 1
                taken += 1
                most = max(most, inside)
            time.sleep(0.02)
            with counting:
                inside -= 1

    takers = [threading.Thread(target=take) for _ in range(5)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert (most, taken) == (1, 5)
    assert len(remote.names(*PLACE)) <= 6, "objects of earlier holders are deleted"


def test_a_dead_holder_is_followed_once_its_beat_has_stopped(
    remote: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_lease, "LEASE_SECONDS", 0.3)
    remote.create(b"died here", *PLACE, "00000001.held")
    waits: list[float] = []
    with RemoteLease(remote, *PLACE).held(lambda: waits.append(time.monotonic())):
        assert waits, "it was not taken at once: its holder might have lived"
        assert "00000002.held" in remote.names(*PLACE)


def test_a_living_holder_is_not_followed_however_long_it_takes(
    remote: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_lease, "LEASE_SECONDS", 1.0)

    class TiredError(Exception):
        pass

    begun = time.monotonic()

    def tire() -> None:
        if time.monotonic() - begun > 2.0:
            raise TiredError

    with (
        RemoteLease(remote, *PLACE).held(),
        pytest.raises(TiredError),
        RemoteLease(remote, *PLACE).held(tire),
    ):
        raise AssertionError("two holders")


def test_a_taker_that_looked_long_ago_does_not_hold_a_number_of_the_past(
    remote: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RemoteLease(remote, *PLACE).held():
        pass
    late = RemoteLease(remote, *PLACE)
    seen = late._objects()
    for _ in range(3):
        with RemoteLease(remote, *PLACE).held():
            pass
    with RemoteLease(remote, *PLACE).held():
        looks = iter([seen])
        fresh = late._objects
        monkeypatch.setattr(late, "_objects", lambda: next(looks, None) or fresh())
        assert late._taken() is None


def test_foreign_objects_beside_a_lease_are_ignored(remote: RemoteStore) -> None:
    remote.write(b"", *PLACE, "README")
    remote.write(b"", *PLACE, "x.held")
    with RemoteLease(remote, *PLACE).held():
        pass
    assert {"README", "x.held"} <= set(remote.names(*PLACE))


def test_liveness_is_by_change_not_by_what_a_beat_says(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(remote_lease.time, "monotonic", lambda: now)
    monkeypatch.setattr(remote_lease, "BEAT_SECONDS", remote_lease.LEASE_SECONDS)
    watch = Liveness()
    assert watch.is_alive("a", None)
    now += remote_lease.LEASE_SECONDS - 1
    assert watch.is_alive("a", None)
    assert watch.is_alive("b", b"1")
    now += 1
    assert not watch.is_alive("a", None)
    assert watch.is_alive("b", b"1")
    assert watch.is_alive("a", b"again")


def test_a_store_that_does_not_respond_longer_than_a_lease_ends_no_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(remote_lease.time, "monotonic", lambda: now)
    monkeypatch.setattr(remote_lease, "BEAT_SECONDS", 10.0)
    liveness = Liveness()
    assert liveness.is_alive("one", b"beat")
    now += 600  # Neither the beat nor the reading of it got through.
    assert liveness.is_alive("one", b"beat")
    looks = list[bool]()
    for _ in range(5):
        now += 10
        looks.append(liveness.is_alive("one", b"beat"))
    assert looks == [True] * 4 + [False]
