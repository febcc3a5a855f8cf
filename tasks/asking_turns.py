"""Takes turns with other runs on the same store: each question is asked by one of them.

A run asks what nobody else is asking, waits for those who ask the rest, and then asks what they
left unanswered (they failed, or were killed).
"""

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import polars as pl
from pydantic import JsonValue

from artifacts import columns as col
from artifacts.claims import Claims, wait_for_others
from artifacts.ledger import Ledger
from tasks.endpoint import raise_if_stopped

Outcome = TypeVar("Outcome")

logger = logging.getLogger("llm4cdsr")


class Question(NamedTuple):
    """What is the same for all prompts of a table; part of their keys, and kept with them."""

    model: str
    parameters: dict[str, JsonValue]


def ask_in_turns(
    label: str,
    ledger: Ledger,
    pieces: Iterable[pl.DataFrame],
    question: Question,
    ask: Callable[[Iterable[pl.DataFrame], Claims], list[Outcome]],
) -> list[Outcome]:
    """Has every prompt asked that the ledger lacks, once in all runs; returns the outcomes.

    ``ask`` is called with tables of ``key, prompt``, asks what `Claims.take` gives it of each,
    and returns when these answers are in the ledger.
    """
    with Claims(ledger, *question) as claims:
        outcomes = ask(pieces, claims)
    while claims.theirs.height:
        keys = claims.theirs[col.KEY]
        logger.info(
            "%s: another run on this store is asking %d of these prompts; waiting for its answers",
            label,
            keys.len(),
        )
        wait_for_others(ledger, keys, raise_if_stopped)
        if recovered := ledger.recover():
            logger.info("%s: that run ended early; %d of its answers recovered", label, recovered)
        pieces = [claims.theirs]
        with Claims(ledger, *question) as claims:
            outcomes += ask(pieces, claims)
    return outcomes
