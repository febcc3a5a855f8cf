"""A search that measures honestly: no user's memory is fitted on the event it is measured on, and a
preset that is better by chance only is not taken."""

import time
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from artifacts.manifest import ArtifactRef, Kind
from flows.cli.options.training_options import FitOptions, training_config
from model.config import TriThreadConfig, load_preset, preset_names
from model.data.sequences import TEST, VALIDATION
from model.training.trainer import fit
from tasks.tuning.search_space import Values, searched_in, value_of, values_of, with_values
from tasks.tuning.study_folder import MeasuredTrial
from tasks.tuning.trial_worker import TrialSpec, has_time
from tasks.tuning.tuned_preset import NoBaseMeasuredError, outcome_of, write_preset
from tasks.tuning.validation_gains import HALVES, network_only, validation_gains
from tests.model.conftest import small_shop, with_other_items


@pytest.mark.parametrize("name", preset_names())
def test_the_base_is_in_its_own_space_and_its_values_change_nothing(name: str) -> None:
    base = load_preset(name)
    own = values_of(base)
    assert with_values(base, own) == base
    for field in searched_in(base):
        assert own[field.name] in field.choices or field.low <= own[field.name] <= field.high


def test_fields_that_a_base_does_not_use_are_not_searched() -> None:
    names = {field.name for field in searched_in(load_preset("paper"))}
    assert {"train.learning_rate", "model.dropout"} <= names
    assert not names & {"train.r_drop_weight", "model.temperature", "model.memory_events"}
    assert "model.text_decay" in {field.name for field in searched_in(load_preset("single"))}


def remembering() -> TriThreadConfig:
    return small_shop().config(
        {"memory_events": 4, "memory_neighbours": 3, "bridge_factors": 4, "ensemble_size": 2},
        {"max_epochs": 1, "refit": True},
    )


def measured_gains(changed: int | None = None, users: int | None = None) -> np.ndarray:
    """Gains of a network of one epoch, with other items in events of the split `changed`."""
    shop, config = small_shop(users=60), remembering()
    network = fit(shop.sequences, shop.tables, network_only(config), shop.profiles).model
    sequences = shop.sequences
    if changed is not None:
        theirs = sequences.split == changed
        if users is not None:
            theirs &= sequences.event_users == users
        sequences = with_other_items(sequences, theirs)
    return validation_gains(network, sequences, config.model, seed=0)


def test_trials_have_one_member_and_no_part_that_is_fitted_later() -> None:
    made = network_only(remembering())
    assert (made.model.ensemble_size, made.model.memory_events, made.model.bridge_factors) == (
        1,
        0,
        0,
    )
    assert not made.train.refit


def test_gains_depend_on_no_test_event() -> None:
    np.testing.assert_array_equal(measured_gains(), measured_gains(TEST))


def test_the_memory_is_fitted_on_the_events_of_the_other_half_alone() -> None:
    sequences = small_shop(users=60).sequences
    asked = np.unique(sequences.prefixes_of_split(VALIDATION).users)
    rng = np.random.default_rng(0)
    events = sequences.prefixes_of_split(VALIDATION)
    events.sampled_rows(5_000, rng)
    half = rng.permutation(np.arange(sequences.user_count) % HALVES)
    user = int(asked[0])
    before, after = measured_gains(), measured_gains(VALIDATION, user)
    same = (half[asked] == half[user]) & (asked != user)
    np.testing.assert_array_equal(before[same], after[same])


def trial(
    number: int, gains: np.ndarray, is_base: bool = False, values: Values | None = None
) -> MeasuredTrial:
    found: Values = {"train.learning_rate": 0.002, "model.dropout": 0.5}
    return MeasuredTrial(number, found | (values or {}), gains, 7, is_base, False)


def test_a_clear_lead_is_taken_and_written_as_a_preset_of_the_base_s_ensemble(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    own = rng.random(400)
    better = trial(1, own + 0.1 + 0.1 * rng.random(400), values={"model.dropout": 0.3})
    outcome = outcome_of([trial(0, own, is_base=True), better])
    assert outcome.winner is not None
    assert outcome.winner.changes == {"model.dropout": 0.3}
    assert [each.trial.number for each in outcome.best] == [1, 0]
    base, file = load_preset("best"), tmp_path / "tuned.toml"
    write_preset(file, base, outcome, "two\nlines")
    made = training_config(FitOptions(preset=str(file), device="cpu")).resolved()
    assert (made.model.dropout, made.model.ensemble_size) == (0.3, base.model.ensemble_size)
    assert made == with_values(base, {"model.dropout": 0.3})


def test_the_luckiest_of_many_equal_trials_is_not_taken_and_the_base_is_written(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(1)
    own = rng.random(100)
    others = [trial(n, own + rng.normal(0, 0.3, 100)) for n in range(1, 60)]
    trials = [trial(0, own, is_base=True), *others]
    outcome = outcome_of(trials)
    first = outcome.best[0].lead
    assert first is not None
    assert first.p_value < 0.05, "a single comparison would have taken it"
    assert outcome.winner is None
    file = tmp_path / "tuned.toml"
    write_preset(file, load_preset("single"), outcome, "base")
    assert TriThreadConfig.model_validate(tomllib.loads(file.read_text())) == load_preset("single")


def test_without_a_measured_base_there_is_no_comparison() -> None:
    with pytest.raises(NoBaseMeasuredError, match="repeat the command"):
        outcome_of([trial(1, np.ones(3))])


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_clock_that_is_set_changes_no_time_budget(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, jump: int
) -> None:
    optuna = pytest.importorskip("optuna", reason="the extra 'tune' is not installed")
    ref = ArtifactRef(kind=Kind.DATASET, fingerprint="0" * 16)
    spec = TrialSpec(
        store=str(tmp_path),
        folder=tmp_path,
        dataset=ref,
        tables=ref,
        profiles=ref,
        base={},
        seed=0,
        device="cpu",
        threads=1,
        until=time.monotonic() + 60,
    )
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    study = optuna.create_study()
    assert has_time(study, spec)
    assert not has_time(study, spec.model_copy(update={"until": time.monotonic() - 60}))


def test_value_of_reads_dotted_names() -> None:
    assert value_of(load_preset("single"), "train.patience") == 5


def test_a_network_without_a_memory_is_measured_as_it_is() -> None:
    shop = small_shop(users=60)
    config = shop.config(train={"max_epochs": 1})
    network = fit(shop.sequences, shop.tables, network_only(config), shop.profiles).model
    found = validation_gains(network, shop.sequences, config.model, seed=0)
    assert len(found) == len(np.unique(shop.sequences.prefixes_of_split(VALIDATION).users))
    assert network.memory is None
    changed = replace(shop.sequences, split=shop.sequences.split.copy())
    np.testing.assert_array_equal(found, validation_gains(network, changed, config.model, seed=0))
