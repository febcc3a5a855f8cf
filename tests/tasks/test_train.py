"""Training as a stage: refused early, resumed where it was killed, marked where it must be."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from artifacts.kinds.results import LEARNING_CURVE, read_table
from artifacts.manifest import Kind
from artifacts.remote import remote_lease
from artifacts.store import Store
from model.training.processes import ProcessGroup
from model.training.trainer import EpochReport
from tasks.frame import model_inputs
from tasks.frame.epoch_progress import EpochProgress
from tasks.llm.providers.endpoints import DUMMY_NOTE
from tasks.train import (
    CatalogueTooLargeError,
    TrainingConfig,
    refuse_large_catalogue,
    train,
    train_together,
)
from tests.artifacts.machines import machines
from tests.tasks.shops.prepared_training import QUICK_TRAINING, PreparedTraining


class Killed(RuntimeError):
    """Stands for whatever ended a run."""


@pytest.mark.parametrize("epochs_before", [1, 3])
def test_a_killed_and_resumed_run_gives_the_model_of_an_uninterrupted_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs_before: int
) -> None:
    whole = PreparedTraining(Store(tmp_path / "whole" / "store"))
    expected = whole.weights(whole.trained())
    cut = PreparedTraining(store)
    seen: list[int] = []
    monkeypatch.setattr(EpochProgress, "__call__", killing_after(epochs_before, seen))
    with pytest.raises(Killed):
        cut.trained()
    assert not store.artifacts(Kind.MODEL)
    monkeypatch.undo()
    monkeypatch.setattr(EpochProgress, "__call__", lambda _, report: seen.append(report.epoch))
    made = cut.trained()
    found = cut.weights(made)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)
    curve = read_table(store, made.ref, LEARNING_CURVE)
    assert curve["epoch"].to_list()[:5] == [1, 2, 3, 4, 5]
    # At most the epoch whose end was not yet on disk is fitted twice.
    assert seen[epochs_before] in (epochs_before, epochs_before + 1)
    assert not list((store.local / "work").glob("train-*"))


def killing_after(epochs: int, seen: list[int]) -> Callable[[EpochProgress, EpochReport], None]:
    def show(progress: EpochProgress, report: EpochReport) -> None:
        seen.append(report.epoch)
        if report.epoch == epochs:
            raise Killed

    return show


class Watched(ProcessGroup):
    """One process that notes which checkpoints are there when it waits for the others."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        object.__setattr__(self, "store", store)
        object.__setattr__(self, "found", [])

    def wait(self) -> None:
        found = self.store.local.glob("work/train-*/training.safetensors")
        self.found.append(len(list(found)))

    store: Store
    found: list[int]


def test_checkpoints_stay_until_every_process_is_done_with_them(store: Store) -> None:
    prepared, process_group = PreparedTraining(store), Watched(store)
    train_together(prepared.sources, QUICK_TRAINING, store.root, process_group)
    assert process_group.found == [1]
    assert not list((store.local / "work").glob("train-*"))


def test_two_runs_that_want_one_model_fit_it_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prepared = PreparedTraining(store)
    is_training, may_go_on = threading.Event(), threading.Event()

    def show(*_: object) -> None:
        is_training.set()
        assert may_go_on.wait(60)

    monkeypatch.setattr(EpochProgress, "__call__", show)
    with caplog.at_level("INFO"), ThreadPoolExecutor(2) as runs:
        first = runs.submit(prepared.trained)
        assert is_training.wait(60)
        second = runs.submit(prepared.trained)
        while "another run fits this very model" not in caplog.text:
            assert not second.done()
            time.sleep(0.01)
        may_go_on.set()
        made, found = first.result(60), second.result(60)
    assert (made.reused, found.reused) == (False, True)
    assert made.ref == found.ref
    assert not list((store.local / "work").glob("train-*"))


def test_two_machines_that_want_one_model_fit_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(remote_lease, "POLL_SECONDS", 0.02)
    machine = machines(f"file://{tmp_path}/bucket", tmp_path, monkeypatch)
    is_training, may_go_on = threading.Event(), threading.Event()
    fitted: list[tuple[str, int]] = []

    def show(_: object, report: EpochReport) -> None:
        fitted.append((report.phase, report.epoch))
        is_training.set()
        assert may_go_on.wait(60)

    here = PreparedTraining(machine("here"))
    monkeypatch.setattr(EpochProgress, "__call__", show)
    with caplog.at_level("INFO"), ThreadPoolExecutor(2) as runs:
        first = runs.submit(here.trained)
        assert is_training.wait(60)
        there = PreparedTraining(machine("there"))
        second = runs.submit(there.trained)
        while "another run fits this very model" not in caplog.text:
            assert not second.done()
            time.sleep(0.01)
        may_go_on.set()
        made, found = first.result(60), second.result(60)
    assert (made.reused, found.reused) == (False, True)
    assert len(fitted) == len(set(fitted)), "no epoch was fitted twice"
    for name, weights in here.weights(made).items():
        np.testing.assert_array_equal(there.weights(found)[name], weights)


def test_a_machine_that_is_gone_does_not_keep_others_from_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_lease, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(remote_lease, "LEASE_SECONDS", 0.3)
    prepared = PreparedTraining(machines(f"file://{tmp_path}/bucket", tmp_path, monkeypatch)("a"))
    taken: list[int] = []

    def as_gone(self: remote_lease.RemoteLease) -> int | None:
        number = take(self)
        if number == 1 and not taken:
            taken.append(number)  # Another machine takes it, and is never heard of again.
            return None
        return number

    take = remote_lease.RemoteLease._taken
    monkeypatch.setattr(remote_lease.RemoteLease, "_taken", as_gone)
    assert not prepared.trained().reused
    assert taken == [1]


def test_tables_that_do_not_fit_are_refused_with_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_inputs, "machine_memory", lambda: 16 * 2**30)
    config = TrainingConfig(preset="best", device="cpu")
    refuse_large_catalogue(200_000, 384, config)
    with pytest.raises(CatalogueTooLargeError) as refused:
        refuse_large_catalogue(2_000_000, 384, config)
    for word in ("2,000,000 items", "Adam moments", "in all", "16,384.0 MiB", "single"):
        assert word in str(refused.value)
    refuse_large_catalogue(2_000_000, 384, TrainingConfig(preset="single", device="cpu"))
    with pytest.raises(CatalogueTooLargeError, match="each of 4 processes"):
        refuse_large_catalogue(
            2_000_000, 384, TrainingConfig(preset="single", device="cpu"), processes=4
        )


def test_a_training_that_does_not_fit_is_refused_before_its_first_epoch(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = PreparedTraining(store)
    monkeypatch.setattr(model_inputs, "machine_memory", lambda: 1000)
    with pytest.raises(CatalogueTooLargeError, match="tables of 9 items"):
        prepared.trained()
    assert not store.artifacts(Kind.MODEL)


def test_a_model_of_a_dummys_profiles_says_so(store: Store) -> None:
    assert PreparedTraining(store).trained().notes == [DUMMY_NOTE]


def test_without_any_profile_training_goes_on_without_the_alignment(store: Store) -> None:
    made = PreparedTraining(store, profiled=False).trained()
    assert made.counts["epochs"] >= 5


def test_an_unchanged_training_is_found_and_a_changed_one_is_not(store: Store) -> None:
    prepared = PreparedTraining(store)
    first = prepared.trained()
    assert prepared.trained().reused
    other = prepared.trained(QUICK_TRAINING.model_copy(update={"seed": 1}))
    assert not other.reused
    assert other.ref != first.ref
    # The seed is one: that of the stage, whatever the overrides say.
    assert other.ref == prepared.trained(QUICK_TRAINING.model_copy(update={"seed": 1})).ref


@pytest.mark.parametrize(
    "wrong",
    [
        {"preset": "bets"},
        {"overrides": {"train": {"max_epoch": 3}}},
        {"overrides": {"trian": {"max_epochs": 3}}},
        {"overrides": {"model": {"hidden": 7, "heads": 2}}},
        {"presets": "best"},
    ],
    ids=str,
)
def test_a_wrong_name_or_value_is_refused_where_it_is_written(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainingConfig.model_validate(wrong)


def test_a_wrong_preset_is_told_which_there_are() -> None:
    with pytest.raises(ValidationError, match="no preset 'bets'; there are best, "):
        TrainingConfig(preset="bets")


def test_a_figure_of_events_with_few_candidates_is_not_kept_for_the_gate(
    store: Store, usual_candidates: int
) -> None:
    made = PreparedTraining(store).trained()
    assert "validation_ndcg" not in made.counts
    assert any("too few candidates for a figure" in note for note in made.notes)
    curve = read_table(store, made.ref, LEARNING_CURVE)
    assert curve["validation_ndcg"].is_null().all()


def test_seconds_used_of_the_budget_include_the_choice_of_the_preset(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    prepared = PreparedTraining(store)
    limited = QUICK_TRAINING.model_copy(update={"minutes": 60.0})
    made = train.fn(prepared.sources, limited, store.root, 100.0)
    assert made.counts["seconds_of_budget_used"] >= 100
    assert "of the time budget of 1h (choice of preset: 1.7m)" in caplog.text
    assert "seconds_of_budget_used" not in prepared.trained().counts
