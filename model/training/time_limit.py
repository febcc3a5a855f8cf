"""How many epochs fit into the time a training may take: search, validation and refit together.

The search must end early enough for a refit of as many epochs as were best, which are at most those
of the search. Seconds are those of reports, so a resumed training decides as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

RECENT = 3
"""Epochs whose mean foretells the next one: the first of a process is slower."""

OF_FIRST_EPOCH = 0.8
"""Share of the time that the first epoch may take: the rest is for its validation."""

OF_EPOCHS = 0.9
"""Share of the time that epochs may take before a refit: memory and bridge are fitted twice."""

MARGIN = 1.15
"""A refit has more events than the search, and other processes may have come meanwhile."""


def another_epoch_fits(
    limit: float | None, trained: Sequence[float], validated: Sequence[float], *, refit: bool
) -> bool:
    """Whether one more epoch, its validation and then a refit end before `limit` seconds.

    `trained` and `validated` are the seconds of each epoch so far and of its validation, 0 where
    there was none. Before the first epoch the answer is yes: a training has at least one.
    """
    if limit is None or not trained:
        return True
    epoch = fmean(trained[-RECENT:])
    validation = next((seconds for seconds in reversed(validated) if seconds), 0.0)
    spent = sum(trained) + sum(validated)
    refitting = (len(trained) + 1) * epoch * MARGIN if refit else 0.0
    return spent + epoch + validation + refitting <= (OF_EPOCHS * limit if refit else limit)


def refit_fits(seconds: float, trained: Sequence[float], epochs: int) -> bool:
    """Whether a refit of `epochs` ends within `seconds`, after a search with epochs that long."""
    return epochs * fmean(trained[-RECENT:]) <= seconds


def seconds_for_first_epoch(limit: float | None) -> float | None:
    """The seconds after which a first epoch ends before it has seen everyone, none without a
    limit; of later ones it is known that they fit."""
    return None if limit is None else OF_FIRST_EPOCH * limit
