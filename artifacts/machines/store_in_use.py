"""Use of a store by a run: leases on this machine, a heartbeat for others, no half-made removal."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from artifacts.forgotten import is_interrupted
from artifacts.leases import in_use, is_in_use_here
from artifacts.machines.cached_copies import catch_up
from artifacts.remote.remote_runs import shown_as_run
from artifacts.store import Store
from artifacts.user_error import UserError


class InterruptedRemovalError(UserError, RuntimeError):
    """A removal of users was interrupted; artifacts do not fit together until it is completed."""


@contextmanager
def store_in_use(store: Store) -> Iterator[None]:
    """Protects what this process makes or finds in a store from clean-up and removals of users, on
    this and other machines, during a block.

    Raises:
        InterruptedRemovalError.
    """
    with ExitStack() as uses:
        if store.remote is not None and not is_in_use_here(store.local):
            uses.enter_context(shown_as_run(store.remote))
            catch_up(store)
        uses.enter_context(in_use(store.local))
        if is_interrupted(store):
            raise InterruptedRemovalError(
                f"a removal of users from {store.root} was interrupted; complete it by `llm4cdsr "
                "forget --store STORE` without an id"
            )
        yield
