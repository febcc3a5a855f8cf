"""The preset chosen for a catalogue, kept so that an unchanged run has the same one."""

from pathlib import Path

from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from artifacts.strict import Strict

CHOICE = "choice.json"


class TrainingChoice(Strict):
    """A candidate of `model.automatic`, by its ``label``, and the reason as a sentence.

    ``own``: the candidate's overrides. ``seconds_a_step``: measured seconds by label of candidate.
    """

    label: str
    preset: str
    own: dict[str, dict[str, int | float]]
    expected_seconds: float
    seconds_a_step: dict[str, float]
    why: str


def write_training_choice(folder: Path, choice: TrainingChoice) -> None:
    """Writes it into an artifact that is being made."""
    (folder / CHOICE).write_text(choice.model_dump_json(indent=2), "utf-8")


def read_training_choice(store: Store, ref: ArtifactRef) -> TrainingChoice:
    """Raises `ArtifactMissingError` and `ArtifactCorruptError`."""
    return TrainingChoice.model_validate_json((store.path(ref) / CHOICE).read_bytes())
