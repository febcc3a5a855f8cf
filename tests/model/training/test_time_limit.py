"""A training under `max_seconds` never takes longer than them and ends with the best so far."""

from types import SimpleNamespace

import numpy as np
import pytest

from model.network.tri_thread import TriThread
from model.training import trainer
from model.training.time_limit import another_epoch_fits
from model.training.trainer import FitResult, fit
from model.training.validation import Validation
from tests.model.conftest import Shop

EPOCH, VALIDATION = 10.0, 2.0


class Clock:
    """Gives a pass of the search or the refit, and a validation, a length of their own; every
    validation is better than the one before it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refit_epoch: float = EPOCH) -> None:
        self.now = 0.0
        run_a_pass = trainer._Run._pass

        def timed_pass(run: trainer._Run, number: int) -> tuple[float, int]:
            self.now += EPOCH if run.phase == "search" else refit_epoch
            return run_a_pass(run, number)

        def measured(events: Validation, model: TriThread) -> tuple[float, float]:
            if not len(events):  # A refit has none.
                return np.nan, np.nan
            self.now += VALIDATION
            return self.now / 1e6, 0.0

        monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: self.now))
        monkeypatch.setattr(trainer._Run, "_pass", timed_pass)
        monkeypatch.setattr(Validation, "measure", measured)


def trained(shop: Shop, **train: object) -> FitResult:
    config = shop.config(train={"max_epochs": 50, "patience": 50, "batch_size": 64, **train})
    return fit(shop.sequences, shop.tables, config, shop.profiles)


def epochs(result: FitResult, phase: str) -> int:
    return sum(report.phase == phase for report in result.history)


@pytest.mark.parametrize("limit", [13, 40, 101.5])
def test_search_and_refit_end_within_the_limit(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, limit: float
) -> None:
    clock = Clock(monkeypatch)
    result = trained(shop, refit=True, max_seconds=limit)
    assert clock.now <= limit
    assert epochs(result, "search") < 50
    assert result.best.validation_ndcg == max(
        report.validation_ndcg for report in result.history if report.validation_seconds
    )
    assert result.refit_cut == (epochs(result, "refit") == 0)
    if not result.refit_cut:
        assert epochs(result, "refit") == result.best.epoch


def test_without_a_refit_the_search_has_all_the_time(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    result = trained(shop, max_seconds=100)
    assert (result.stopped, epochs(result, "search")) == ("max_seconds", 8)
    assert clock.now == 8 * (EPOCH + VALIDATION)


def test_a_refit_that_turns_out_slow_gives_way_to_the_model_of_the_search(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch, refit_epoch=10 * EPOCH)
    cut = trained(shop, refit=True, max_seconds=200)
    assert (cut.refit_cut, cut.stopped) == (True, "max_seconds")
    assert 0 < epochs(cut, "refit") < cut.best.epoch
    searched = trained(shop, max_epochs=cut.best.epoch)
    for name, weights in searched.model.state_dict().items():
        np.testing.assert_array_equal(weights, cut.model.state_dict()[name], err_msg=name)


def test_an_epoch_that_alone_is_too_long_ends_early_and_is_validated(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "STEPS_BETWEEN_LOOKS", 1)
    result = trained(shop, refit=True, max_seconds=1e-9, batch_size=2)
    (only,) = result.history
    assert only.sequences == 2  # One batch of two users.
    assert not np.isnan(only.validation_ndcg)
    assert result.refit_cut


@pytest.mark.parametrize("refit", [True, False])
def test_before_the_first_epoch_and_without_a_limit_there_is_always_time(refit: bool) -> None:
    assert another_epoch_fits(1e-9, [], [], refit=refit)
    assert another_epoch_fits(None, [1e9], [1e9], refit=refit)
