"""Lease on the store during a flow, and clean-up at its end."""

import inspect
import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar, cast

from artifacts.integrity import ArtifactError
from artifacts.leases import is_in_use_here
from artifacts.machines.store_in_use import store_in_use
from artifacts.store import Store
from flows.operating import OPERATING, is_for, skipped
from flows.server.run_parameters import refuse_other_places
from flows.settings import Settings
from tasks.promoting.release_history import HistoryDamagedError
from tasks.upkeep.cleaning import clean
from tasks.upkeep.needed import Keep

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("llm4cdsr")


def uses_store(body: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a flow's body: holds a lease on the store of its argument ``store``, and cleans
    the store at its end, unless nested in another such flow. Where the argument ``of_store`` names
    another store, the run ends as ``Skipped``, without its body."""
    signature = inspect.signature(body)

    @wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        arguments = signature.bind(*args, **kwargs).arguments
        given = cast(str | None, arguments.get("store"))
        settings = Settings()
        # Checked before any write: a restricted run may only use the machine's store.
        refuse_other_places(settings, OPERATING.dumps, given, [])
        store = Store(given or settings.store)
        if not is_for(store, cast(str | None, arguments.get("of_store"))):
            return cast(R, skipped(store))
        with store_in_use(store):
            result = body(*args, **kwargs)
        if not is_in_use_here(store.local):
            clean_by_setting(store)
        return result

    return run


def clean_by_setting(store: Store) -> None:
    """Cleans a store if ``LLM4CDSR_KEEP_RELEASES`` is set; failures are logged only."""
    if OPERATING.keep_releases is None:
        return
    try:
        cleaned = clean(store, Keep(releases=OPERATING.keep_releases))
    except (OSError, HistoryDamagedError, ArtifactError) as error:
        logger.warning("the store was not cleaned: %s", error)
        return
    logger.info("store: %s", cleaned.sentence)
