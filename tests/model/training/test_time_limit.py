"""A training under `max_seconds` never takes longer than them and ends with the best so far."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from model.data.sequences import IntArray, Sequences
from model.network.tri_thread import TriThread
from model.training import time_limit, trainer
from model.training.bridge_fit import ITERATIONS
from model.training.memory_fit import fit_memory
from model.training.processes import ProcessGroup
from model.training.time_limit import Stopwatch, TrainingLimit
from model.training.trainer import FitResult, fit
from model.training.validation import Validation
from tests.model.conftest import Shop

EPOCH, VALIDATION = 10.0, 2.0
STEPS = 10  # an epoch, of batches of two of the shop's users


class Clock:
    """Gives every step, validation and fit a length of its own; every validation is better than the
    one before it. From `slow_from` on, a busy machine takes three times as long. Only every tenth
    step trains, unless `trains` asks for all: their lengths are what most tests are about."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        refit_epoch: float = EPOCH,
        bridge: float = 0.0,
        memory: float = 0.0,
        slow_from: float = np.inf,
        trains: bool = False,
    ) -> None:
        self.now, self.slow_from = 0.0, slow_from
        self.steps = 0
        self.memory_limits: list[float | None] = []
        step = trainer._Run._step

        def timed_step(run: trainer._Run, users: IntArray, rng: np.random.Generator) -> Tensor:
            epoch = EPOCH if run.phase == "search" else refit_epoch
            self.take(epoch / run.steps_an_epoch)
            self.steps += 1
            return step(run, users, rng) if trains or self.steps % STEPS == 1 else torch.zeros(())

        def measured(events: Validation, model: TriThread) -> tuple[float, float]:
            if not len(events):  # A refit has none.
                return np.nan, np.nan
            self.take(VALIDATION)
            return self.now / 1e6, 0.0

        def bridged(
            model: TriThread, known: Sequences, seed: int, iterations: int = ITERATIONS
        ) -> None:
            self.take(bridge * (1 + iterations) / (1 + ITERATIONS))

        def remembered(
            model: TriThread,
            known: Sequences,
            seed: int,
            seconds: float | None,
            process_group: ProcessGroup,
        ) -> None:
            self.memory_limits.append(seconds)
            self.now += min(memory * self.factor, np.inf if seconds is None else seconds)

        monkeypatch.setattr(time_limit, "time", SimpleNamespace(perf_counter=lambda: self.now))
        monkeypatch.setattr(trainer._Run, "_step", timed_step)
        monkeypatch.setattr(Validation, "measure", measured)
        for module in (trainer, time_limit):
            monkeypatch.setattr(module, "fit_bridge", bridged)
        monkeypatch.setattr(trainer, "fit_memory", remembered)

    @property
    def factor(self) -> int:
        return 3 if self.now >= self.slow_from else 1

    def take(self, seconds: float) -> None:
        self.now += seconds * self.factor


FITS: dict[str, object] = {"memory_events": 4, "bridge_factors": 4}


def trained(
    shop: Shop,
    model: dict[str, object] | None = None,
    watch: Stopwatch | None = None,
    **train: object,
) -> FitResult:
    settings = {"max_epochs": 50, "patience": 50, "batch_size": 2, **train}
    config = shop.config(model, train=settings)
    return fit(shop.sequences, shop.tables, config, shop.profiles, watch=watch)


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


@pytest.mark.parametrize("budget", [20.0, 60.0, 300.0])
@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("slow_from", [np.inf, 15.0, 40.0])
def test_choice_search_fits_and_refit_end_within_the_budget(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, budget: float, refit: bool, slow_from: float
) -> None:
    clock = Clock(monkeypatch, bridge=2.0, memory=10.0, slow_from=slow_from)
    watch = Stopwatch(before=3.0)  # Of the choice of the preset.
    result = trained(shop, FITS, watch, refit=refit, max_seconds=budget)
    assert result.used == clock.now + 3
    # The validation, which is not divided, is the only part that may take longer than expected.
    assert result.used <= budget + (0 if slow_from == np.inf else 3 * VALIDATION)
    assert result.best.is_best
    if budget == 300 and slow_from == np.inf:
        assert result.used > 0.75 * budget
        assert not result.refit_cut


def test_a_later_epoch_that_a_busy_machine_slows_is_given_up_and_the_best_kept(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, slow_from=48.5, trains=True)
    cut = trained(shop, max_seconds=60)
    assert (cut.stopped, epochs(cut, "search")) == ("max_seconds", 4)
    assert clock.now <= 60
    searched = trained(shop, max_epochs=4)
    for name, weights in searched.model.state_dict().items():
        np.testing.assert_array_equal(weights, cut.model.state_dict()[name], err_msg=name)


def test_the_memory_is_fitted_in_what_the_refit_leaves(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, memory=1_000.0)
    result = trained(shop, FITS, refit=True, max_seconds=200)
    (seconds,) = clock.memory_limits
    assert seconds is not None
    assert 0 < seconds < 200
    assert clock.now <= 200
    assert not result.refit_cut
    trained(shop, FITS, refit=True, max_epochs=1)
    assert clock.memory_limits[1] is None


def test_a_fit_of_the_memory_without_time_still_ends_with_finite_weights(shop: Shop) -> None:
    model = shop.model({"memory_events": 4, "memory_neighbours": 3})
    fit_memory(model, shop.sequences, seed=0, seconds=0.0)
    assert model.memory is not None
    assert all(value.isfinite().all() for value in model.memory.state_dict().values())
    assert not model.memory.is_blank


@pytest.mark.parametrize(("seconds", "iterations"), [(1_000.0, ITERATIONS), (100.0, 5), (1.0, 1)])
def test_a_bridge_that_takes_too_much_of_the_budget_has_fewer_iterations(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, seconds: float, iterations: int
) -> None:
    Clock(monkeypatch, bridge=11.0)  # 2 seconds of one iteration
    model = shop.model(FITS)
    limit = time_limit.measured_limit(
        model, shop.sequences, seconds, 0, Stopwatch(), ProcessGroup()
    )
    assert limit.bridge_iterations == iterations
    assert limit.bridge_seconds == pytest.approx(1.0 * (1 + iterations))


def test_a_resumed_training_counts_the_seconds_of_the_process_before(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    clock.now = 5.0
    watch = Stopwatch()
    watch.resume_at(40.0)
    clock.now += 2
    assert watch.seconds() == 42
    watch.resume_at(10.0)  # Less than this process has used already.
    assert watch.seconds() == 42


def test_without_a_refit_the_search_has_all_the_time(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    result = trained(shop, max_seconds=102)
    assert (result.stopped, epochs(result, "search")) == ("max_seconds", 8)
    assert clock.now == pytest.approx(8 * (EPOCH + VALIDATION))


def test_a_refit_that_turns_out_slow_gives_way_to_the_model_of_the_search(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch, refit_epoch=10 * EPOCH, trains=True)
    cut = trained(shop, refit=True, max_seconds=200)
    assert (cut.refit_cut, cut.stopped) == (True, "max_seconds")
    assert epochs(cut, "refit") < cut.best.epoch
    searched = trained(shop, max_epochs=cut.best.epoch)
    for name, weights in searched.model.state_dict().items():
        np.testing.assert_array_equal(weights, cut.model.state_dict()[name], err_msg=name)


def test_an_epoch_that_alone_is_too_long_ends_early_and_is_validated(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = trained(shop, refit=True, max_seconds=1e-9)
    (only,) = result.history
    assert only.sequences == 2  # One batch of two users.
    assert not np.isnan(only.validation_ndcg)
    assert result.refit_cut


def test_before_the_first_epoch_there_is_always_time() -> None:
    assert TrainingLimit(1e-9, refit=True).another_epoch_fits([])
