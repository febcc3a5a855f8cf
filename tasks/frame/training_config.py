"""How a model is to be trained: the settings that flows take and a form shows."""

from typing import Self

from pydantic import Field, JsonValue, model_validator

from artifacts.strict import Strict
from artifacts.user_error import UserError
from model.config import TriThreadConfig, UnknownPresetError, load_preset
from model.training.automatic import SMALL, Candidate, Overrides, candidates_for, with_changes

AUTO, AUTO_MINUTES = "auto", 10.0


class UnchosenPresetError(UserError, RuntimeError):
    """A training was to begin before its preset was chosen."""


class TrainingConfig(Strict):
    """Which preset of the model to fit, what to change in it, and how long that may take."""

    preset: str = Field(
        default=AUTO,
        description="A file's name in model/presets (docs/deviations.md), or auto: chosen by the "
        "size of the data and the speed of the machine, so that it ends within the time budget.",
    )
    minutes: float | None = Field(
        default=None,
        gt=0,
        description="Time budget of search, validation and refit together: the training ends with "
        "the best so far. Of auto it is 10 where nothing is said, of a named preset unlimited.",
    )
    overrides: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict,
        description="Fields to replace, as {'train': {'max_epochs': 20}, 'model': {'blocks': 1}}.",
    )
    seed: int = Field(default=0, description="Of weights, batches, negatives and dropout.")
    device: str = Field(
        default="auto",
        description="cpu, cuda, cuda:1, or auto: a GPU where there is one. Like `compiled` and the "
        "number of processes it changes rounding, not the model: it is no part of its identity.",
    )
    compiled: bool = Field(
        default=False,
        description="Compile the threads, for GPUs: on a CPU it takes longer than it ever saves.",
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
        """Whether the preset is still to be chosen."""
        return self.preset == AUTO

    @property
    def budget_seconds(self) -> float | None:
        """The time budget, None without one."""
        minutes = self.minutes or (AUTO_MINUTES if self.is_automatic else None)
        return None if minutes is None else 60 * minutes

    def resolved(self) -> TriThreadConfig:
        """Returns the whole configuration; raises for an unknown preset or field.

        Raises:
            UnchosenPresetError: the preset is auto, and no data have decided.
        """
        if self.is_automatic:
            raise UnchosenPresetError("the preset is auto: `choose_preset` decides it by the data")
        return self._loaded(self.preset, {})

    def of(self, candidate: Candidate) -> TriThreadConfig:
        """Returns the configuration that a candidate for auto stands for."""
        return self._loaded(candidate.preset, candidate.overrides)

    def chosen(self, candidate: Candidate) -> "TrainingConfig":
        """Returns these settings with the preset of a candidate."""
        changed = with_changes(candidate, self.overrides)
        minutes = self.minutes or AUTO_MINUTES
        update = {"preset": candidate.preset, "overrides": changed, "minutes": minutes}
        return TrainingConfig.model_validate({**self.model_dump(), **update})

    def smallest(self, items: int) -> TriThreadConfig:
        """Returns the configuration, of auto the one that takes the least memory."""
        return self.of(candidates_for(items)[-1]) if self.is_automatic else self.resolved()

    def _loaded(self, preset: str, changes: Overrides) -> TriThreadConfig:
        limit = {} if self.budget_seconds is None else {"max_seconds": self.budget_seconds}
        merged = with_changes(Candidate(preset, "", changes), self.overrides)
        train = {**limit, **merged.get("train", {}), "seed": self.seed}
        return load_preset(preset, {**merged, "train": train})
