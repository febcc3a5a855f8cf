"""Use of a store by a run: leases on this machine, a heartbeat for other machines.

A run is refused while the store's artifacts may not fit together; changes of a store are refused
while a run uses it.
"""

import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from artifacts.drafts import DRAFT_LOCK
from artifacts.files.leftovers import RESTORING
from artifacts.files.ownership import if_abandoned
from artifacts.forgotten import is_interrupted
from artifacts.leases import in_use, is_in_use_here, used_now
from artifacts.machines.cached_copies import catch_up
from artifacts.manifest import Kind
from artifacts.remote.remote_runs import StoreInUseError, shown_as_run
from artifacts.store import Store
from artifacts.user_error import UserError


class InterruptedRemovalError(UserError, RuntimeError):
    """A removal of users was interrupted; artifacts do not fit together until it is completed."""


class InterruptedRestoreError(UserError, RuntimeError):
    """A restore was interrupted; the store holds a part of its backup."""


@contextmanager
def store_in_use(store: Store) -> Iterator[None]:
    """Protects what this process makes or finds in a store from clean-up and removals of users, on
    this and other machines, during a block.

    Raises:
        InterruptedRemovalError, InterruptedRestoreError.
    """
    with ExitStack() as uses:
        if store.remote is not None and not is_in_use_here(store.local):
            uses.enter_context(shown_as_run(store.remote))
            catch_up(store)
        uses.enter_context(in_use(store.local))
        refuse_interrupted(store)
        yield


def refuse_interrupted(store: Store) -> None:
    """Raises `InterruptedRestoreError` or `InterruptedRemovalError` if the parts of a store do not
    fit together."""
    if (store.local / "work" / RESTORING).exists():
        raise InterruptedRestoreError(
            f"a restore of {store.root} was interrupted; repeat it by `llm4cdsr restore FILE "
            "--replace`"
        )
    if is_interrupted(store):
        raise InterruptedRemovalError(
            f"a removal of users from {store.root} was interrupted; complete it by `llm4cdsr "
            f"forget --store {shlex.quote(store.root)}` without an id"
        )


def interruption(store: Store) -> str | None:
    """Returns a sentence about an interrupted restore or removal of users with the command that
    completes it, None if there is none."""
    try:
        refuse_interrupted(store)
    except (InterruptedRestoreError, InterruptedRemovalError) as error:
        return str(error)
    return None


def refuse_in_use(store: Store, command: str) -> None:
    """Raises `StoreInUseError` if a run of this machine uses the store, with the advice to repeat
    ``command`` after the run. Called in `cleaning`, so that no run begins after it."""
    if runs := used_now(store.local)[0]:
        raise StoreInUseError(
            f"{runs:,} run(s) use {store.root} now; wait until they have ended, then {command}"
        )
    for path in _locks(store):
        with if_abandoned(path) as is_free:
            if not is_free and path.is_file():
                raise StoreInUseError(
                    f"a run is writing to {store.root} ({path.name}); wait until it has ended, "
                    f"then {command}"
                )


def _locks(store: Store) -> Iterator[Path]:
    """Returns the lock files of processes that make artifacts or send prompts."""
    for kind in Kind:
        yield from (store.local / kind).glob(f".*{DRAFT_LOCK}")
    for pattern in ("journal-*.jsonl", "claim-*.parquet"):
        yield from (store.local / "ledger").glob(f"*/{pattern}")
