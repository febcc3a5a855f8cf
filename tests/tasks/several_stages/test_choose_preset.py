"""`auto`: one choice for the same data and budget, found again whatever a clock says."""

from types import SimpleNamespace

import pytest
from pydantic import JsonValue

from artifacts.kinds.training_choice import read_training_choice
from artifacts.manifest import Kind
from artifacts.store import Store
from model.training import time_limit
from tasks import choose_preset as stage
from tasks.choose_preset import as_chosen, choose_preset
from tasks.frame.number_texts import duration_text, seconds_of
from tasks.frame.stage import StageResult
from tasks.frame.training_config import TrainingConfig, UnchosenPresetError
from tasks.train import train
from tests.tasks.shops.prepared_training import PreparedTraining

SMALL_MODEL: dict[str, JsonValue] = {"hidden": 8, "heads": 2, "blocks": 1}
AUTO = TrainingConfig(overrides={"model": SMALL_MODEL, "train": {"max_epochs": 2}}, device="cpu")


def chosen(prepared: PreparedTraining, config: TrainingConfig = AUTO) -> StageResult:
    return choose_preset.fn(prepared.sources, config, prepared.store.root)


def slow(monkeypatch: pytest.MonkeyPatch, seconds_a_step: float) -> None:
    monkeypatch.setattr(stage, "seconds_a_step", lambda *_, **__: seconds_a_step)


def test_real_steps_are_timed_and_the_model_is_that_of_the_preset_named_by_hand(
    store: Store,
) -> None:
    prepared = PreparedTraining(store)
    made = as_chosen(store, chosen(prepared), AUTO)
    assert made.preset == "best"
    model = train.fn(prepared.sources, made, store.root)
    by_hand = made.model_copy(update={"preset": "best"})
    assert train.fn(prepared.sources, by_hand, store.root).ref == model.ref


def test_an_unchanged_run_decides_the_same_on_a_slower_day(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = PreparedTraining(store)
    slow(monkeypatch, 1e-3)
    first = chosen(prepared)
    slow(monkeypatch, 1e3)
    again = chosen(prepared, AUTO.model_copy(update={"seed": 5}))
    assert (again.ref, again.reused) == (first.ref, True)
    other = chosen(prepared, AUTO.model_copy(update={"minutes": 20.0}))
    assert other.ref != first.ref
    assert len(store.artifacts(Kind.TRAINING_CHOICE)) == 2


@pytest.mark.parametrize(
    ("seconds_a_step", "label", "said"),
    [
        (0.01, "`best`", "expected training time"),
        (3.0, "`single` with one pass of a batch", "`single` would take"),
        (100.0, "`single` with one pass of a batch", "limited to 10m"),
    ],
)
def test_what_a_slow_machine_cannot_end_in_time_gives_way(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    seconds_a_step: float,
    label: str,
    said: str,
) -> None:
    slow(monkeypatch, seconds_a_step)
    found = chosen(PreparedTraining(store))
    choice = read_training_choice(store, found.ref)
    assert choice.label == label
    assert said in choice.why
    assert found.notes == [choice.why]
    assert as_chosen(store, found, AUTO).resolved().train.max_seconds == 600


def test_trials_that_use_their_share_of_the_budget_end_with_the_quickest_untimed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)

    def timed(*_: object, **__: object) -> float:
        clock.now += 14.0
        return 100.0

    monkeypatch.setattr(time_limit, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(stage, "seconds_a_step", timed)
    twenty = AUTO.model_copy(update={"minutes": 20 / 60})
    choice = read_training_choice(store, chosen(PreparedTraining(store), twenty).ref)
    assert clock.now == 14, "one trial, of the first candidate"
    assert choice.label == "`single` with one pass of a batch"
    assert "chosen untimed: the trials took 14s of 20s" in choice.why


def test_a_preset_that_is_not_chosen_yet_trains_nothing() -> None:
    with pytest.raises(UnchosenPresetError):
        AUTO.resolved()
    named = TrainingConfig(preset="single")
    assert named.resolved().train.max_seconds is None
    limited = named.model_copy(update={"minutes": 2.0})
    assert limited.resolved().train.max_seconds == 120


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5_400)])
def test_durations_are_read_as_they_are_written(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds
    assert seconds_of(duration_text(seconds)) == pytest.approx(seconds, rel=0.05)


@pytest.mark.parametrize("text", ["10", "m", "-5m", "0m", "10 minutes", "1e3s", ""])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write 90s, 10m or 2h"):
        seconds_of(text)
