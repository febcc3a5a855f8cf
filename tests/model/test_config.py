import json

import pytest
from pydantic import ValidationError

from model.config import (
    RENAMED,
    STORED,
    ModelConfig,
    TrainConfig,
    TriThreadConfig,
    UnknownPresetError,
    load_preset,
    preset_names,
)


def test_every_preset_is_valid_and_survives_json() -> None:
    assert {"paper", "best", "released"} <= set(preset_names())
    for name in preset_names():
        config = load_preset(name)
        text = config.model_dump_json()
        assert TriThreadConfig.model_validate_json(text, context=STORED) == config


def test_the_paper_preset_holds_the_papers_settings() -> None:
    config = load_preset("paper")
    model, train = config.model, config.train
    assert (model.hidden, model.blocks, model.heads, model.dropout) == (128, 2, 1, 0.5)
    assert (train.loss, train.negatives, train.batch_size) == ("bce", 1, 128)
    assert (train.learning_rate, train.patience, model.max_length) == (1e-3, 20, 200)


def test_single_is_best_with_one_member() -> None:
    assert load_preset("single") == load_preset("best", {"model": {"ensemble_size": 1}})


@pytest.mark.parametrize("earlier", RENAMED)
def test_an_earlier_name_is_refused_with_the_present_one(earlier: str) -> None:
    section = "model" if earlier == "members" else "train"
    with pytest.raises(ValidationError, match=f"{earlier} is now {RENAMED[earlier]}"):
        load_preset("best", {section: {earlier: 1}})


def test_files_keep_the_earlier_names_so_that_identities_stay() -> None:
    changes = {"train": {"cold_items": "trained"}}
    stored = load_preset("best", changes).model_dump(mode="json", exclude_defaults=True)
    assert (stored["model"]["members"], stored["train"]["agreement"]) == (3, 0.5)
    assert stored["train"]["unmet_items"] == "trained"
    assert not {*RENAMED.values()} & {*stored["model"], *stored["train"]}


def test_an_override_replaces_one_value_and_keeps_the_others() -> None:
    config = load_preset("paper", {"train": {"seed": 7}})
    assert (config.train.seed, config.train.patience) == (7, 20)


@pytest.mark.parametrize(
    "overrides",
    [
        {"train": {"sed": 7}},
        {"trian": {"seed": 7}},
        {"model": {"dropout": 1.0}},
        {"train": {"r_drop_weight": 1.0}},
        {"train": {"negatives": 0}},
        {"train": {"loss": "softmax", "mismatched_negatives": True}},
        {"train": {"mismatched_negatives": True}, "model": {"local_threads": False}},
        {"model": {"hidden": 10, "heads": 4}},
        {"model": {"global_thread": False, "local_threads": False}},
    ],
)
def test_unknown_and_impossible_values_are_refused(overrides: dict[str, dict[str, object]]) -> None:
    with pytest.raises(ValidationError):
        load_preset("paper", overrides)


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(UnknownPresetError, match="best, large, paper"):
        load_preset("papper")


def test_every_field_says_what_it_means() -> None:
    for section in (ModelConfig, TrainConfig):
        for name, field in section.model_fields.items():
            assert field.description, name


def test_a_stored_configuration_of_an_earlier_version_is_read() -> None:
    config = load_preset("best")
    stored = config.model_dump()
    stored["model"] |= {"positions": "learned", "event_dropout": 0.0}
    stored["train"] |= {"validate_every": 1, "contrastive_temperature": 1.0}
    assert TriThreadConfig.model_validate_json(json.dumps(stored), context=STORED) == config


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("model", "positions", "rotary"),
        ("model", "event_dropout", 0.1),
        ("train", "validate_every", 2),
        ("train", "contrastive_temperature", 0.5),
    ],
)
def test_a_removed_setting_with_another_value_is_refused_by_name(
    section: str, name: str, value: object
) -> None:
    with pytest.raises(ValidationError, match=f"{name}=.*no longer supported"):
        load_preset("paper", {section: {name: value}})
