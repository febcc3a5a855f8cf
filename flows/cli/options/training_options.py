"""Options of commands that train, and their conversion to configurations."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from model.config import (
    RENAMED,
    ModelConfig,
    TrainConfig,
    TriThreadConfig,
    UnknownPresetError,
    preset_names,
)

if TYPE_CHECKING:
    from flows.retrain import RetrainConfig
    from tasks.dump.public_datasets import TrainingSettings
    from tasks.frame.training_config import TrainingConfig

Overrides = dict[str, dict[str, JsonValue]]

SECTIONS: dict[str, type[BaseModel]] = {"model": ModelConfig, "train": TrainConfig}
ELSEWHERE = {"train.seed": "--seed"}
BASE_OF_FILES = "paper"
"""The preset on which a preset file is based; the file replaces all its fields."""

Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help=f"{', '.join(preset_names())}, a .toml file, or auto: chosen by data size, machine "
        "speed and --time-budget. Default: that of the data set, else auto.",
        autocompletion=lambda: ("auto", *preset_names()),
    ),
]
SamplePreset = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help=f"{', '.join(preset_names())}, a .toml file, or auto: chosen by data size and machine "
        "speed.",
        autocompletion=lambda: ("auto", *preset_names()),
    ),
]
TimeBudget = Annotated[
    str | None,
    typer.Option(
        metavar="90s|10m|2h",
        help="Maximum training time; the best model so far is kept. Default: 10m for auto, "
        "unlimited for a named preset.",
        autocompletion=lambda: ("2m", "10m", "1h"),
    ),
]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Maximum number of epochs; by default the preset's.")
]
Replaced = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Override a field of the preset: train.accumulate=4, model.ensemble_size=5; may be "
        "repeated. model/config.py describes every field.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="Device of training: cpu, cuda, cuda:1, or auto (a GPU if present).",
        autocompletion=lambda: ["auto", "cpu", "cuda"],
    ),
]
Compiled = Annotated[
    bool, typer.Option("--compile", help="Compile the threads with torch.compile; for GPUs.")
]
TestEvents = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Evaluate on a seeded sample of this many held-out events, if full ranking "
        "takes too long; by default all.",
    ),
]
AblationUsers = Annotated[
    int,
    typer.Option(
        min=0,
        help="Users in the sample that measures the gain from item texts and user profiles; "
        "0 disables the measurement.",
    ),
]
ServeAnyway = Annotated[
    bool,
    typer.Option(
        "--serve-anyway", help="Serve a first model even if a baseline is significantly better."
    ),
]
PerDomain = Annotated[int, typer.Option(min=1, help="Recommendations per user and domain.")]


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Options of the training of a model."""

    preset: Preset = None
    time_budget: TimeBudget = None
    epochs: Epochs = None
    replaced: Replaced = None
    device: Device = "auto"
    compiled: Compiled = False


@dataclass(frozen=True, kw_only=True)
class TrainOptions(FitOptions):
    """Options of training and of the release."""

    test_events: TestEvents = None
    ablation_users: AblationUsers = 2_000
    per_domain: PerDomain = 10
    serve_anyway: ServeAnyway = False


def retrain_config(train: TrainOptions, training: "TrainingConfig") -> "RetrainConfig":
    """Returns the configuration of the retrain flow."""
    from flows.retrain import RetrainConfig
    from tasks.ablate import AblationConfig
    from tasks.evaluate import EvaluationConfig
    from tasks.judge_release import PromotionConfig
    from tasks.recommend import RecommendationConfig

    return RetrainConfig(
        training=training,
        evaluation=EvaluationConfig(max_events=train.test_events),
        ablation=AblationConfig(users=train.ablation_users),
        recommendations=RecommendationConfig(per_domain=train.per_domain),
        promotion=PromotionConfig(serve_anyway=train.serve_anyway),
    )


def require_known(preset: str | None, replaced: list[str] | None) -> None:
    """Raises typer.BadParameter for an unknown preset or a field that no model has: before
    PyTorch is imported, which takes seconds."""
    from tasks.frame.training_config import AUTO

    for text in replaced or ():
        _replacement(text)
    if preset is None or preset == AUTO:
        return
    if preset_file(preset) is not None:
        _fields_of_file(preset)
    elif preset not in preset_names():
        names = ", ".join((AUTO, *preset_names()))
        raise typer.BadParameter(f"no preset {preset!r}; there are {names}, or give a .toml file")


def preset_file(preset: str | None) -> Path | None:
    """Returns the file that a preset names; None for a preset of the program."""
    return Path(preset) if preset is not None and preset.endswith(".toml") else None


def training_config(
    fit: FitOptions,
    seed: int = 0,
    settings: "TrainingSettings | None" = None,
    width: int | None = None,
) -> "TrainingConfig":
    """Returns the training configuration; a data set's overrides apply to its own preset only.

    Validates the configuration before the first LLM request. `width` is the width of item tables
    that are not made yet.

    Raises typer.BadParameter for an unknown preset or field or a wrong width, NoSuchDeviceError,
    and pydantic's ValidationError for an invalid value.
    """
    from model.training.processes import alone
    from tasks.dump.public_datasets import TrainingSettings
    from tasks.frame.training_config import TrainingConfig

    alone(fit.device)
    settings, preset = settings or TrainingSettings(), fit.preset
    overrides: Overrides = {}
    if preset is not None and preset_file(preset) is not None:
        overrides = _fields_of_file(preset)
        preset = BASE_OF_FILES
    elif preset in (None, settings.preset):
        overrides = {section: dict(fields) for section, fields in settings.overrides.items()}
    for text in fit.replaced or ():
        section, field, value = _replacement(text)
        overrides.setdefault(section, {})[field] = value
    if fit.epochs:
        overrides.setdefault("train", {})["max_epochs"] = fit.epochs
    made = TrainingConfig.model_construct(
        preset=preset or settings.preset,
        overrides=overrides,
        minutes=None if fit.time_budget is None else budget_seconds(fit.time_budget) / 60,
        seed=seed,
        device=fit.device,
        compiled=fit.compiled,
    )
    try:
        # Validated here, so that the error names the field only.
        hidden = made.smallest(0).model.hidden
    except UnknownPresetError as error:
        raise typer.BadParameter(str(error.args[0])) from error
    if width not in (None, hidden):
        raise typer.BadParameter(
            f"--set model.hidden={hidden}: the item tables are made for a model of width {width}; "
            "leave it out"
        )
    return TrainingConfig.model_validate(made.model_dump())


def budget_seconds(time_budget: str) -> float:
    """Returns the seconds of --time-budget; raises typer.BadParameter for other forms."""
    from tasks.frame.number_texts import seconds_of

    try:
        return seconds_of(time_budget)
    except ValueError as error:
        raise typer.BadParameter(f"--time-budget: {error}") from error


def _fields_of_file(path: str) -> Overrides:
    """All fields of a preset's file, so that it does not matter what they replace.

    The settings hold the values and no path: a run may be repeated elsewhere.
    """
    try:
        values = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"--preset {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--preset {path} is not TOML: {error}") from error
    whole = TriThreadConfig.model_validate(values)
    # Seed and time are set by --seed and --time-budget.
    return {
        "model": whole.model.model_dump(mode="json", by_alias=False),
        "train": whole.train.model_dump(
            mode="json", by_alias=False, exclude={"seed", "max_seconds"}
        ),
    }


def _replacement(text: str) -> tuple[str, str, JsonValue]:
    """Return section, field and value of FIELD=VALUE; a value that is not JSON is a string."""
    name, equals, value = text.partition("=")
    section, dot, field = name.partition(".")
    if not (equals and dot and value) or section not in SECTIONS:
        raise typer.BadParameter(
            f"--set {text}: write model.FIELD=VALUE or train.FIELD=VALUE, as train.accumulate=4"
        )
    if name in ELSEWHERE:
        raise typer.BadParameter(f"--set {text}: use {ELSEWHERE[name]}")
    if field in RENAMED:
        raise typer.BadParameter(f"--set {text}: {field} is now {RENAMED[field]}")
    if field not in (fields := SECTIONS[section].model_fields):
        raise typer.BadParameter(
            f"--set {text}: no field {field} of {section}; there are {', '.join(sorted(fields))}"
        )
    try:
        return section, field, TypeAdapter(JsonValue).validate_json(value)
    except ValidationError:
        return section, field, value
