"""Settings of the training stage, as flows take them and the Prefect form shows them."""

from typing import Self

from pydantic import Field, JsonValue, model_validator

from artifacts.strict import Strict
from artifacts.user_error import UserError
from model.automatic import SMALL, Candidate, Overrides, candidates_for, with_changes
from model.config import TriThreadConfig, UnknownPresetError, load_preset

AUTO, AUTO_MINUTES = "auto", 10.0


class UnchosenPresetError(UserError, RuntimeError):
    """The preset is auto and was not chosen yet."""


class TrainingConfig(Strict):
    """Settings of the training: preset, overrides and time budget."""

    preset: str = Field(
        default=AUTO,
        description="Preset in model/presets (see docs/deviations.md), or auto: chosen by the size "
        "of the data and the speed of the machine, so that it ends within the time budget.",
    )
    minutes: float | None = Field(
        default=None,
        gt=0,
        description="Time budget of choice of the preset, search, fits and refit together, after "
        "which the best model so far is kept. Default: 10 for auto, unlimited for a named preset.",
    )
    overrides: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict,
        description="Overridden fields, as {'train': {'max_epochs': 20}, 'model': {'blocks': 1}}.",
    )
    seed: int = Field(default=0, description="Seed of weights, batches, negatives and dropout.")
    device: str = Field(
        default="auto",
        description="cpu, cuda, cuda:1, or auto (a GPU if present). Like `compiled` and the number "
        "of processes, it affects rounding only and is not part of the model's identity.",
    )
    compiled: bool = Field(
        default=False,
        description="Compile the threads; for GPUs only, because on a CPU compilation takes longer "
        "than it saves.",
    )

    @model_validator(mode="after")
    def _refuse_unknown_names(self) -> Self:
        try:
            self._loaded(SMALL[0].preset if self.is_automatic else self.preset, {})
        except UnknownPresetError as error:
            raise ValueError(str(error.args[0])) from error
        return self

    @property
    def is_automatic(self) -> bool:
        """Whether the preset is not chosen yet."""
        return self.preset == AUTO

    @property
    def budget_seconds(self) -> float | None:
        """The time budget in seconds, None without one."""
        minutes = self.minutes or (AUTO_MINUTES if self.is_automatic else None)
        return None if minutes is None else 60 * minutes

    def resolved(self) -> TriThreadConfig:
        """Returns the complete configuration; raises for an unknown preset or field.

        Raises:
            UnchosenPresetError: the preset is auto and was not chosen yet.
        """
        if self.is_automatic:
            raise UnchosenPresetError("the preset is auto: `choose_preset` decides it by the data")
        return self._loaded(self.preset, {})

    def of(self, candidate: Candidate) -> TriThreadConfig:
        """Returns the configuration of a candidate."""
        return self._loaded(candidate.preset, candidate.overrides)

    def chosen(self, candidate: Candidate) -> "TrainingConfig":
        """Returns these settings with the preset of a candidate."""
        changed = with_changes(candidate, self.overrides)
        minutes = self.minutes or AUTO_MINUTES
        update = {"preset": candidate.preset, "overrides": changed, "minutes": minutes}
        return TrainingConfig.model_validate({**self.model_dump(), **update})

    def smallest(self, items: int) -> TriThreadConfig:
        """Returns the configuration; for auto, that of the candidate with the least memory."""
        return self.of(candidates_for(items)[-1]) if self.is_automatic else self.resolved()

    def _loaded(self, preset: str, changes: Overrides) -> TriThreadConfig:
        limit = {} if self.budget_seconds is None else {"max_seconds": self.budget_seconds}
        merged = with_changes(Candidate(preset, "", changes), self.overrides)
        train = {**limit, **merged.get("train", {}), "seed": self.seed}
        return load_preset(preset, {**merged, "train": train})
