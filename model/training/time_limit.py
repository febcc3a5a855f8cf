"""Division of `max_seconds` among search, fits after the search, and refit.

The search ends while the fits and a refit of at most as many epochs still fit. An epoch that takes
longer than the ones before is ended, and the best epoch is kept. Seconds come from the epoch
reports, so a resumed training decides like an uninterrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from model.data.sequences import Sequences
from model.network.tri_thread import TriThread
from model.training.bridge_fit import ITERATIONS, fit_bridge
from model.training.processes import ProcessGroup
from model.training.training_state import EpochReport

RECENT = 3
"""Number of last epochs whose mean predicts the next; the first of a process is slower."""

OF_FIRST_EPOCH = 0.6
"""Share of the remaining time for the first epoch; the rest is for validation and fits."""

PLANNED = 0.95
"""Share of the limit that is planned; the rest is for cold items and the checkpoint."""

MARGIN = 1.15
"""Factor on the epochs of a refit, which has more events than the search."""

MEMORY_FIT, OF_MEMORY_FIT = 12.0, 0.2
"""Expected duration of the memory's fit in validations (measured: 8 to 12), and its largest share
of the limit: the fit samples events to keep to it."""

VOTES_FIT = 8.0
"""Expected duration of the choice of the votes' weight, in validations."""

OF_BRIDGE_FIT = 0.1
"""Largest share of the limit for the bridge: there are fewer iterations to keep to it."""


class Stopwatch:
    """Seconds used of a time budget, `before` its construction included."""

    def __init__(self, before: float = 0.0) -> None:
        self._begun = time.perf_counter() - before

    def seconds(self) -> float:
        """Returns the seconds used so far."""
        return time.perf_counter() - self._begun

    def resume_at(self, seconds: float) -> None:
        """Adds the seconds of an interrupted process, as its last epoch reported them."""
        self._begun = min(self._begun, time.perf_counter() - seconds)


@dataclass(frozen=True)
class TrainingLimit:
    """`max_seconds` of a training, and the work after its epochs."""

    seconds: float
    refit: bool = False
    fits_memory: bool = False
    fits_votes: bool = False
    bridge_iterations: int = 0
    bridge_seconds: float = 0.0
    """Measured duration of the bridge's fit, which a refit repeats."""

    def of_refit(self) -> TrainingLimit:
        """Returns the limit of the refit's epochs: the bridge is fitted after them."""
        return TrainingLimit(self.seconds - self.bridge_seconds)

    def another_epoch_fits(self, history: Sequence[EpochReport]) -> bool:
        """Returns whether another epoch of the search, its validation, fits and refit end in time.

        True before the first epoch: a training has at least one.
        """
        if not history:
            return True
        epoch, validation = _expected(history), history[-1].validation_seconds
        needed = epoch + validation + self._fits(history)
        needed += self.seconds_of_refit(history, len(history) + 1)
        return history[-1].used + needed <= PLANNED * self.seconds

    def end_of_epoch(self, history: Sequence[EpochReport], used: float, best: int) -> float:
        """Returns the seconds of the budget at which an epoch of the search that began at `used` is
        ended.

        `best`: number of epochs that a refit would take so far.
        """
        if not history:
            return used + OF_FIRST_EPOCH * max(PLANNED * self.seconds - used, 0.0)
        after = self._fits(history) + self.seconds_of_refit(history, best)
        return PLANNED * self.seconds - after

    def seconds_of_refit(self, history: Sequence[EpochReport], epochs: int) -> float:
        """Returns the expected seconds of a refit of `epochs` epochs, 0 without one."""
        return epochs * _expected(history) * MARGIN + self.bridge_seconds if self.refit else 0.0

    def seconds_of_memory(self, used: float, history: Sequence[EpochReport], best: int) -> float:
        """Returns the seconds left to the fit of the memory once `used` seconds have passed: what a
        refit leaves, or else what the search left for it."""
        left = PLANNED * self.seconds - used
        return max(
            left - self.seconds_of_refit(history, best), min(left, self._memory(history)), 0.0
        )

    def _fits(self, history: Sequence[EpochReport]) -> float:
        votes = VOTES_FIT * history[-1].validation_seconds
        return self._memory(history) + self.fits_votes * votes

    def _memory(self, history: Sequence[EpochReport]) -> float:
        expected = MEMORY_FIT * history[-1].validation_seconds
        return self.fits_memory * min(expected, OF_MEMORY_FIT * self.seconds)


def measured_limit(
    model: TriThread,
    sequences: Sequences,
    seconds: float,
    seed: int,
    watch: Stopwatch,
    process_group: ProcessGroup,
) -> TrainingLimit:
    """Returns the limit of a training with the measured duration of its bridge's fit.

    Fits the bridge, which does not depend on the threads, with as many iterations as have time, and
    leaves it out of scores until `is_fitted` is set.
    """

    def timed(iterations: int) -> float:
        begun = watch.seconds()
        fit_bridge(model, sequences, seed, iterations)
        return process_group.from_rank_0([watch.seconds() - begun])[0]

    made, fits_memory = 1, model.memory is not None
    if model.bridge is None:
        return TrainingLimit(seconds, fits_memory=fits_memory)
    taken = timed(made)
    affordable = min(ITERATIONS, int(OF_BRIDGE_FIT * seconds / max(taken, 1e-9)))
    if affordable > made:
        made, taken = affordable, timed(affordable)
    model.bridge.is_fitted.fill_(0.0)
    return TrainingLimit(
        seconds, fits_memory=fits_memory, bridge_iterations=made, bridge_seconds=taken
    )


def _expected(history: Sequence[EpochReport]) -> float:
    return fmean(report.seconds for report in history[-RECENT:])
