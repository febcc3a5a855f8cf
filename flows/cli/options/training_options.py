"""The options of commands that train, and what they make together."""

from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from model.config import ModelConfig, TrainConfig, UnknownPresetError, load_preset, preset_names

if TYPE_CHECKING:
    from flows.retrain import RetrainConfig
    from tasks.dump.presets import TrainingSettings
    from tasks.train import TrainingConfig

Overrides = dict[str, dict[str, JsonValue]]

SECTIONS: dict[str, type[BaseModel]] = {"model": ModelConfig, "train": TrainConfig}
ELSEWHERE = {"train.seed": "--seed"}

Preset = Annotated[
    str | None,
    typer.Option(
        help=f"Model preset: {', '.join(preset_names())}; best, or the data set's.",
        autocompletion=preset_names,
    ),
]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Most epochs of training; the preset's by default.")
]
Replaced = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="A field of the preset: train.accumulate=4, model.members=5; may be repeated. "
        "model/config.py describes every field.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="Where to train: cpu, cuda, cuda:1, or auto: a GPU where there is one.",
        autocompletion=lambda: ["auto", "cpu", "cuda"],
    ),
]
Compiled = Annotated[bool, typer.Option("--compile", help="torch.compile the threads; for GPUs.")]
TestEvents = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Evaluate on so many held-out events, a seeded sample, where ranking a large "
        "catalogue for everyone takes too long; all by default.",
    ),
]
AblationUsers = Annotated[
    int,
    typer.Option(
        min=0,
        help="Measure what item texts and user profiles bring on a sample of so many users; 0: "
        "not at all.",
    ),
]
ServeAnyway = Annotated[
    bool,
    typer.Option(
        "--serve-anyway", help="Serve a first model although a baseline is better beyond chance."
    ),
]
PerDomain = Annotated[int, typer.Option(min=1, help="Recommendations a user and domain.")]


def retrain_config(
    training: "TrainingConfig",
    per_domain: int,
    test_events: int | None,
    ablation_users: int,
    *,
    serve_anyway: bool,
) -> "RetrainConfig":
    from flows.retrain import RetrainConfig
    from tasks.ablate import AblationConfig
    from tasks.evaluate import EvaluationConfig
    from tasks.promote import PromotionConfig
    from tasks.recommend import RecommendationConfig

    return RetrainConfig(
        training=training,
        evaluation=EvaluationConfig(max_events=test_events),
        ablation=AblationConfig(users=ablation_users),
        recommendations=RecommendationConfig(per_domain=per_domain),
        promotion=PromotionConfig(serve_anyway=serve_anyway),
    )


def training_config(
    preset: str | None,
    epochs: int | None,
    replaced: list[str] | None,
    seed: int,
    device: str,
    settings: "TrainingSettings | None" = None,
    compiled: bool = False,
    width: int | None = None,
) -> "TrainingConfig":
    """A data set's settings belong to its own preset of the model: another one has others.

    Whatever cannot be trained is refused here, before anything is asked or paid. `width` is that of
    the item tables, where they are still to be made.

    Raises typer.BadParameter for a preset, field or width that cannot be, NoSuchDeviceError, and
    pydantic's ValidationError for a value that cannot be.
    """
    from model.training.processes import alone
    from tasks.dump.presets import TrainingSettings
    from tasks.train import TrainingConfig

    alone(device)
    settings = settings or TrainingSettings()
    overrides: Overrides = {}
    if preset in (None, settings.preset):
        overrides = {section: dict(fields) for section, fields in settings.overrides.items()}
    for text in replaced or ():
        section, field, value = _replacement(text)
        overrides.setdefault(section, {})[field] = value
    if epochs:
        overrides.setdefault("train", {})["max_epochs"] = epochs
    chosen = preset or settings.preset
    try:
        # Here, where an error names the field and nothing else.
        hidden = load_preset(chosen, overrides).model.hidden
    except UnknownPresetError as error:
        raise typer.BadParameter(str(error.args[0])) from error
    if width not in (None, hidden):
        raise typer.BadParameter(
            f"--set model.hidden={hidden}: the item tables are made for a model of width {width}; "
            "leave it out"
        )
    return TrainingConfig(
        preset=chosen, overrides=overrides, seed=seed, device=device, compiled=compiled
    )


def _replacement(text: str) -> tuple[str, str, JsonValue]:
    """Section, field and value of FIELD=VALUE; a value that is no JSON is a word."""
    name, equals, value = text.partition("=")
    section, dot, field = name.partition(".")
    if not (equals and dot and value) or section not in SECTIONS:
        raise typer.BadParameter(
            f"--set {text}: write model.FIELD=VALUE or train.FIELD=VALUE, as train.accumulate=4"
        )
    if name in ELSEWHERE:
        raise typer.BadParameter(f"--set {text}: that is what {ELSEWHERE[name]} is for")
    if field not in (fields := SECTIONS[section].model_fields):
        raise typer.BadParameter(
            f"--set {text}: no field {field} of {section}; there are {', '.join(sorted(fields))}"
        )
    try:
        return section, field, TypeAdapter(JsonValue).validate_json(value)
    except ValidationError:
        return section, field, value
