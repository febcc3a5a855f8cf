"""`--set`: fields of the preset from the command line, refused in words where they cannot be."""

from pathlib import Path

import pytest
import typer
from pydantic import ValidationError
from typer.testing import CliRunner

from flows.cli.command_table import app
from flows.cli.options.training_options import FitOptions, require_known, training_config
from tasks.dump.public_datasets import TrainingSettings


def test_fields_are_replaced_and_keep_their_kind() -> None:
    texts = [
        "train.accumulate=4",
        "model.scoring=dot",
        "train.max_seconds=null",
        "model.causal=false",
    ]
    made = training_config(
        FitOptions(preset="best", replaced=texts, device="cpu"), seed=3
    ).resolved()
    assert made.train.accumulate == 4
    assert made.model.scoring == "dot"
    assert made.train.max_seconds is None
    assert not made.model.causal
    assert made.train.seed == 3


def test_a_data_sets_own_settings_give_way_and_are_not_changed() -> None:
    settings = TrainingSettings(
        preset="paper", overrides={"train": {"batch_size": 32, "alpha": 0.2}}
    )
    made = training_config(
        FitOptions(epochs=5, replaced=["train.alpha=0.3"], device="cpu"), 0, settings
    ).resolved()
    assert (made.train.batch_size, made.train.alpha, made.train.max_epochs) == (32, 0.3, 5)
    other = training_config(FitOptions(preset="best", device="cpu"), 0, settings)
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
        training_config(FitOptions(preset="best", replaced=[text], device="cpu"))


def test_a_value_that_cannot_be_names_its_field() -> None:
    with pytest.raises(ValidationError, match=r"train\.accumulate"):
        training_config(FitOptions(preset="best", replaced=["train.accumulate=no"], device="cpu"))


def test_an_unknown_preset_is_told_with_those_there_are() -> None:
    ended = CliRunner().invoke(app, ["retrain", "--preset", "nope"])
    assert ended.exit_code == 2
    assert "single" in ended.output


def test_auto_and_files_are_known_presets_from_the_start(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("[model]\nheads = 1\n", "utf-8")
    for preset in (None, "auto", "single", str(mine)):
        require_known(preset, None)
    for preset, said in (("bset", "auto, best"), (str(tmp_path / "gone.toml"), "No such file")):
        with pytest.raises(typer.BadParameter, match=said):
            require_known(preset, None)


def test_a_preset_of_a_file_replaces_every_field_and_no_path_travels(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[model]\nensemble_size = 2\n[train]\nloss = "softmax"\nmax_seconds = 5.0\n')
    made = training_config(
        FitOptions(preset=str(file), replaced=["model.heads=2"], device="cpu", time_budget="2m"),
        seed=3,
    )
    assert str(tmp_path) not in made.model_dump_json()
    whole = made.resolved()
    assert (whole.model.ensemble_size, whole.model.heads, whole.train.loss) == (2, 2, "softmax")
    assert whole.train.weight_decay == 0.0, "a field that the file leaves out has its default"
    assert (whole.train.seed, whole.train.max_seconds) == (3, 120)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), ("[model", "is not TOML"), ("[x]", "x")]
)
def test_a_file_that_is_no_preset_is_refused(
    tmp_path: Path, content: str | None, said: str
) -> None:
    file = tmp_path / "mine.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises((typer.BadParameter, ValidationError), match=said):
        training_config(FitOptions(preset=str(file), device="cpu"))


def test_without_a_name_the_preset_is_chosen_by_the_data() -> None:
    made = training_config(FitOptions(device="cpu"))
    assert made.is_automatic
    assert made.budget_seconds == 600
    assert training_config(FitOptions(device="cpu", time_budget="1h")).budget_seconds == 3600
    with pytest.raises(typer.BadParameter, match="--time-budget"):
        training_config(FitOptions(device="cpu", time_budget="soon"))
