"""Epochs as progress: a refit is counted from its own first epoch towards its own last."""

from model.training.training_state import EpochReport, Phase
from tasks.frame.epoch_progress import EpochProgress
from tasks.frame.progress import progress


def report(epoch: int, phase: Phase = "search", is_best: bool = False) -> EpochReport:
    ndcg = 0.25 if phase == "search" else float("nan")
    return EpochReport(epoch, 1.5, 300, 2.0, ndcg, ndcg, is_best, phase)


def test_a_refit_counts_anew_towards_the_best_epoch_of_the_search() -> None:
    with progress("train", 200) as bar:
        show = EpochProgress(bar)
        show(report(1, is_best=True))
        show(report(2, is_best=True))
        show(report(3))
        assert (bar.done, bar.total) == (3, 200)
        assert bar.note == "loss 1.500, validation NDCG@10 0.2500, 150 sequences/s"
        show(report(1, "refit"))
        assert (bar.done, bar.total) == (1, 2)
        assert "refit" in bar.note
        assert "validation NDCG" not in bar.note
        show(report(2, "refit"))
        assert (bar.done, bar.total) == (2, 2)


def test_a_training_that_goes_on_starts_where_it_stood() -> None:
    with progress("train", 20) as bar:
        show = EpochProgress(bar)
        show(report(7))
        show(report(8))
        assert bar.done == 8
    with progress("train", 20) as bar:
        show = EpochProgress(bar)
        show(report(4, "refit"))
        assert (bar.done, bar.total) == (4, 20)
