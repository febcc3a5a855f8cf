"""What a catalogue was found to be trained with: kept, so that the next run decides the same."""

from pathlib import Path

from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from artifacts.strict import Strict

CHOICE = "choice.json"


class TrainingChoice(Strict):
    """One of `model.training.automatic`'s candidates, by its ``label``, and ``why``, in a sentence.

    ``own`` are the candidate's changes of its preset. ``seconds_a_step`` was measured here, by the
    labels of the candidates that were tried.
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
