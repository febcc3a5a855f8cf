"""Runs of all machines on a remote store, and the one process that may change it without them.

A run keeps a heartbeat object ``runs/<name>.beat``. A removal of users holds the lease
``removal/``, refuses to start beside a run, and is waited for by new runs.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from artifacts.remote import remote_lease
from artifacts.remote.remote_lease import Liveness, RemoteLease, beating
from artifacts.remote.remote_side import RemoteStore
from artifacts.user_error import UserError

RUNS, REMOVAL = "runs", "removal"


class StoreInUseError(UserError, RuntimeError):
    """A run is writing to the store."""


@contextmanager
def shown_as_run(remote: RemoteStore) -> Iterator[None]:
    """Shows other machines that a run uses the store, during a block; waits for a removal first."""
    beat, removal = f"{uuid.uuid4().hex}.beat", RemoteLease(remote, REMOVAL)
    # Shown before the look: of a run and a removal that start at once, at least one sees the other.
    remote.write(uuid.uuid4().bytes, RUNS, beat)
    try:
        while removal.is_held():
            remote.delete(RUNS, beat)
            time.sleep(remote_lease.POLL_SECONDS)
            remote.write(uuid.uuid4().bytes, RUNS, beat)
        with beating(lambda content: remote.write(content, RUNS, beat)):
            yield
    finally:
        remote.delete(RUNS, beat)


@contextmanager
def without_runs(remote: RemoteStore) -> Iterator[None]:
    """Holds the store for this process during a block; waits for another removal first.

    Beats of dead machines are deleted after `LEASE_SECONDS`.

    Raises:
        StoreInUseError: a run of a machine uses the store.
    """
    with RemoteLease(remote, REMOVAL).held():
        _refuse_runs(remote)
        yield


def _refuse_runs(remote: RemoteStore) -> None:
    liveness, seen = Liveness(), dict[str, bytes | None]()
    while names := remote.names(RUNS):
        for name in names:
            beat = remote.read(RUNS, name)
            if seen.setdefault(name, beat) != beat and beat is not None:
                raise StoreInUseError(
                    f"a run of a machine uses {remote.url}; wait until it has ended, then forget"
                )
            if not liveness.is_alive(name, beat):
                remote.delete(RUNS, name)
        time.sleep(remote_lease.POLL_SECONDS)
