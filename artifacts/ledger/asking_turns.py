"""Coordination with other runs on the same store: each prompt is sent by one of them.

A run sends the unclaimed prompts, waits for the runs with claims on the others, and then sends the
prompts that these left unanswered (failed or killed).
"""

import logging
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import polars as pl
from pydantic import JsonValue

from artifacts import columns as col
from artifacts.ledger.claims import Claims, wait_for_others
from artifacts.ledger.ledger import Ledger

Outcome = TypeVar("Outcome")

logger = logging.getLogger("llm4cdsr")


class Question(NamedTuple):
    """Common part of the prompts of a table; included in their keys and stored with them."""

    model: str
    parameters: dict[str, JsonValue]


class Turns(NamedTuple, Generic[Outcome]):
    """``asked``: the prompts sent by this run. ``outcomes``: the results of ``ask``."""

    asked: int
    outcomes: list[Outcome]


def ask_in_turns(
    label: str,
    ledger: Ledger,
    prompts: pl.DataFrame,
    question: Question,
    ask: Callable[[pl.DataFrame], list[Outcome]],
    on_poll: Callable[[], None],
) -> Turns[Outcome]:
    """Ensures that each missing ``key, prompt`` is sent once by one of the runs.

    ``ask`` gets a table of prompts claimed by this run, and returns when their answers are in the
    ledger. ``on_poll`` is called while waiting for another run; an error in it ends the wait.
    """
    outcomes: list[Outcome] = []
    asked, left = 0, prompts
    while True:
        with Claims(ledger, *question, on_poll) as claims:
            mine = claims.take(left)
            if mine.height:
                outcomes += ask(mine)
        asked += mine.height
        left = claims.theirs
        if left.is_empty():
            return Turns(asked, outcomes)
        logger.info(
            "%s: another run on this store is asking %d of these prompts; waiting for its answers",
            label,
            left.height,
        )
        wait_for_others(ledger, left[col.KEY], on_poll)
        if recovered := ledger.recover():
            logger.info("%s: that run ended early; %d of its answers recovered", label, recovered)
