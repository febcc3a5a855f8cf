"""Number of epochs within `max_seconds`, which limits search, validation and refit together.

The search ends early enough for a refit, which has at most as many epochs. Seconds come from the
epoch reports, so a resumed training decides like an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

RECENT = 3
"""Number of last epochs whose mean predicts the next; the first of a process is slower."""

OF_FIRST_EPOCH = 0.8
"""Share of the limit for the first epoch; the rest is for its validation."""

OF_EPOCHS = 0.9
"""Share of the limit for epochs if a refit follows: memory and bridge are fitted twice."""

MARGIN = 1.15
"""Factor on the epochs of a refit, which has more events than the search."""


def another_epoch_fits(
    limit: float | None, trained: Sequence[float], validated: Sequence[float], *, refit: bool
) -> bool:
    """Returns whether another epoch, its validation and a refit end before `limit` seconds.

    `trained` and `validated` are the seconds of each epoch so far and of its validation, 0 where
    there was none. True before the first epoch: a training has at least one.
    """
    if limit is None or not trained:
        return True
    epoch = fmean(trained[-RECENT:])
    validation = next((seconds for seconds in reversed(validated) if seconds), 0.0)
    spent = sum(trained) + sum(validated)
    refitting = (len(trained) + 1) * epoch * MARGIN if refit else 0.0
    return spent + epoch + validation + refitting <= (OF_EPOCHS * limit if refit else limit)


def refit_fits(seconds: float, trained: Sequence[float], epochs: int) -> bool:
    """Returns whether a refit of `epochs` ends within `seconds`, by the seconds of past epochs."""
    return epochs * fmean(trained[-RECENT:]) <= seconds


def seconds_for_first_epoch(limit: float | None) -> float | None:
    """Returns the seconds after which the first epoch ends early; None without a limit."""
    return None if limit is None else OF_FIRST_EPOCH * limit
