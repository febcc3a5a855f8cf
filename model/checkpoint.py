"""Models and training states on disk: safetensors and JSON, written atomically."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.config import STORED, TriThreadConfig
from model.data.tables import ItemTables
from model.network.tri_thread import TriThread

WEIGHTS_FILE, CONFIG_FILE = "weights.safetensors", "config.json"


class CheckpointError(RuntimeError):
    """A checkpoint is missing or of other data or configuration; the message names the file."""


class ModelCard(BaseModel, extra="forbid", frozen=True):
    """`config.json`: the arguments to construct the network before its weights are read."""

    config: TriThreadConfig
    domain_names: tuple[str, ...]
    domain_starts: tuple[int, ...]
    global_width: int
    profile_width: int | None
    memory_entries: int = 0
    crossing_answers: int = 0
    has_similarity: bool = False


def save_model(
    folder: Path, model: TriThread, config: TriThreadConfig, domain_names: tuple[str, ...]
) -> None:
    """Writes `weights.safetensors` (tables included), then `config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    votes = None if model.bridge is None else model.bridge.votes
    card = ModelCard(
        config=config,
        domain_names=domain_names,
        domain_starts=tuple(model.domain_starts.tolist()),
        global_width=model.global_table.shape[1],
        profile_width=model.profile_width,
        memory_entries=0 if model.memory is None else len(model.memory.items),
        crossing_answers=0 if votes is None else len(votes.answers),
        has_similarity=model.similarity is not None,
    )
    write_tensors(folder / WEIGHTS_FILE, dict(model.state_dict()), {})
    _replace(folder / CONFIG_FILE, card.model_dump_json(indent=2).encode())


def load_model(folder: Path, device: str | torch.device = "cpu") -> tuple[TriThread, ModelCard]:
    """Returns the saved model in evaluation mode.

    Raises CheckpointError, also for a model of an incompatible version and for non-finite weights.
    """
    path = folder / CONFIG_FILE
    if not path.exists():
        raise CheckpointError(f"{path} does not exist: this folder has no complete model")
    try:
        card = ModelCard.model_validate_json(path.read_bytes(), context=STORED)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise CheckpointError(f"{path} is of another version of the model ({wrong})") from error
    rows, hidden = card.domain_starts[-1] + 1, card.config.model.hidden
    blank = ItemTables(
        np.zeros((rows, card.global_width), np.float32), np.zeros((rows, hidden), np.float32)
    )
    model = TriThread(
        blank,
        np.array(card.domain_starts),
        card.config.model,
        card.profile_width,
        card.memory_entries,
        card.crossing_answers,
        card.has_similarity,
    )
    try:
        tensors, _ = read_tensors(folder / WEIGHTS_FILE)
        if model.similarity is not None:
            for name, value in model.similarity.EARLIER.items():
                tensors.setdefault(f"similarity.{name}", torch.tensor(value))
        model.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{folder / WEIGHTS_FILE} does not fit its card: {error}") from error
    for name, tensor in tensors.items():
        # Sums of finite float32 values do not overflow in float64.
        if tensor.is_floating_point() and not torch.isfinite(tensor.sum(dtype=torch.float64)):
            raise CheckpointError(
                f"{folder / WEIGHTS_FILE} has non-finite weights ({name}): the "
                "training has diverged; lower the learning rate and train again"
            )
    return model.to(device).eval(), card


def write_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, object]) -> None:
    """Writes tensors and JSON metadata to one file, replaced atomically."""
    draft = path.with_suffix(".draft")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, draft, metadata={"facts": json.dumps(facts)})
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Returns tensors and metadata of a file of `write_tensors`."""
    with safe_open(path, framework="pt") as file:
        facts = json.loads((file.metadata() or {}).get("facts", "{}"))
        return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns an optimizer's moments under flat names, `parameter.moment`; Python integers as
    int64."""
    return {
        f"{index}.{name}": value if torch.is_tensor(value) else torch.tensor(int(value))
        for index, moments in optimizer.state_dict()["state"].items()
        for name, value in moments.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restores the moments of `optimizer_tensors`; settings remain those of `optimizer`.

    A step count is restored as a Python integer: a float32 tensor would round the bias correction
    differently from an uninterrupted run.
    """
    state = optimizer.state_dict()
    moments: dict[int, dict[str, Tensor | int]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        kept = value if value.is_floating_point() else int(value)
        moments.setdefault(int(index), {})[name] = kept
    state["state"] = moments
    optimizer.load_state_dict(state)


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
