"""Takes turns with other runs on the same store: each question is asked by one of them.

A run asks what nobody else is asking, waits for those who ask the rest, and then asks what they
left unanswered (they failed, or were killed).
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
    """What is the same for all prompts of a table; part of their keys, and kept with them."""

    model: str
    parameters: dict[str, JsonValue]


class Turns(NamedTuple, Generic[Outcome]):
    """``asked``: the prompts that this run sent. ``outcomes``: what ``ask`` returned for them."""

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
    """Has every one of distinct ``key, prompt`` asked that the ledger lacks, once in all runs.

    ``ask`` is called with a table of prompts that are this run's alone, and returns when their
    answers are in the ledger. ``on_poll`` is called while another run is waited for; what it
    raises ends the wait.
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
