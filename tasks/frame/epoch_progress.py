"""Progress of a training in epochs: search, then refit."""

import math

from model.training.training_state import EpochReport
from tasks.frame.progress import Progress


class EpochProgress:
    """Callback for epoch reports. The total of a search is its maximum; a refit takes the best
    number of epochs."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._phase = "search"
        self._best = bar.total  # stays so where an earlier process did the search

    def __call__(self, report: EpochReport) -> None:
        if report.phase != self._phase:
            self._phase = report.phase
            self._bar.begin_anew(self._best)
        if report.phase == "search" and report.is_best:
            self._best = report.epoch
        # A resumed training does not start at the first epoch.
        self._bar.advance(max(report.epoch - self._bar.done, 0), _note(report))


def _note(report: EpochReport) -> str:
    facts = [f"loss {report.loss:.3f}"]
    if not math.isnan(report.validation_ndcg):
        facts.append(f"validation NDCG@10 {report.validation_ndcg:.4f}")
    facts.append(f"{report.sequences_per_second:,.0f} sequences/s")
    if report.phase == "refit":
        facts.append("refit on training and validation events")
    return ", ".join(facts)
