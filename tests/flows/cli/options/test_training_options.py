"""`--set`: fields of the preset from the command line, refused in words where they cannot be."""

import pytest
import typer
from pydantic import ValidationError
from typer.testing import CliRunner

from flows.cli.command_table import app
from flows.cli.options.training_options import training_config
from tasks.dump.presets import TrainingSettings


def test_fields_are_replaced_and_keep_their_kind() -> None:
    texts = [
        "train.accumulate=4",
        "model.scoring=dot",
        "train.max_seconds=null",
        "model.causal=false",
    ]
    made = training_config("best", None, texts, seed=3, device="cpu").resolved()
    assert made.train.accumulate == 4
    assert made.model.scoring == "dot"
    assert made.train.max_seconds is None
    assert not made.model.causal
    assert made.train.seed == 3


def test_a_data_sets_own_settings_give_way_and_are_not_changed() -> None:
    settings = TrainingSettings(
        preset="paper", overrides={"train": {"batch_size": 32, "alpha": 0.2}}
    )
    made = training_config(None, 5, ["train.alpha=0.3"], 0, "cpu", settings).resolved()
    assert (made.train.batch_size, made.train.alpha, made.train.max_epochs) == (32, 0.3, 5)
    other = training_config("best", None, None, 0, "cpu", settings)
    assert other.overrides == {}
    assert settings.overrides == {"train": {"batch_size": 32, "alpha": 0.2}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accumulate=4", "write model.FIELD=VALUE or train.FIELD=VALUE"),
        ("train.accumulate", "write model.FIELD=VALUE"),
        ("train.accumulate=", "write model.FIELD=VALUE"),
        ("train.acumulate=4", "no field acumulate of train; there are accumulate, "),
        ("train.seed=1", "--seed"),
    ],
)
def test_what_names_no_field_is_refused(text: str, said: str) -> None:
    with pytest.raises(typer.BadParameter, match=said):
        training_config("best", None, [text], 0, "cpu")


def test_a_value_that_cannot_be_names_its_field() -> None:
    with pytest.raises(ValidationError, match=r"train\.accumulate"):
        training_config("best", None, ["train.accumulate=no"], 0, "cpu")


def test_an_unknown_preset_is_told_with_those_there_are() -> None:
    ended = CliRunner().invoke(app, ["retrain", "--preset", "nope"])
    assert ended.exit_code == 2
    assert "single" in ended.output
