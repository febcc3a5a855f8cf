"""A flow keeps what it makes and finds in its store while it runs, and cleans up at its end."""

import inspect
import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from artifacts.leases import in_use
from artifacts.store import Store
from flows.operating import OPERATING
from flows.settings import Settings
from tasks.upkeep.cleaning import clean
from tasks.upkeep.needed import Keep

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("llm4cdsr")


def uses_store(body: Callable[P, R]) -> Callable[P, R]:
    """Returns a flow's body that holds a lease on the store of its argument ``store``."""
    signature = inspect.signature(body)

    @wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs).arguments.get("store")
        with in_use(Store(given or Settings().store).local):
            return body(*args, **kwargs)

    return run


def clean_by_setting(store: Store) -> None:
    """Cleans a store where ``LLM4CDSR_KEEP_RELEASES`` says so; a failure ends no run."""
    if OPERATING.keep_releases is None:
        return
    try:
        cleaned = clean(store, Keep(releases=OPERATING.keep_releases))
    except OSError as error:
        logger.warning("the store was not cleaned: %s", error)
        return
    logger.info("store: %s", cleaned.sentence)
