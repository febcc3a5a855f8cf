"""State of a training after an epoch, as stored in a checkpoint."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from model.checkpoint import (
    CheckpointError,
    optimizer_tensors,
    read_tensors,
    restore_optimizer,
    write_tensors,
)
from model.config import TrainConfig, TriThreadConfig
from model.data.sequences import Sequences
from model.network.tri_thread import TriThread
from model.training.optimizers import Optimizers
from model.training.processes import ProcessGroup

Phase = Literal["search", "refit"]
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did; `validation_ndcg` is NDCG@10, NaN without validation events."""

    epoch: int  # from 1
    loss: float
    sequences: int  # of all processes
    seconds: float  # training without validation
    validation_ndcg: float
    validation_hit_rate: float
    is_best: bool
    phase: Phase = "search"  # `refit` includes validation events, so it has no validation
    validation_seconds: float = 0.0
    used: float = 0.0  # seconds of the time budget at its end

    @property
    def sequences_per_second(self) -> float:
        return self.sequences / max(self.seconds, 1e-9)


class TrainingState:
    """Weights, their running average, the best weights, Adam's moments, and finished epochs.

    `identity` is a hash of data and configuration: other checkpoints are refused. Lazily updated
    tables are too large for copies in memory: they have no average, and the best ones are in a
    temporary file in `scratch` (by default the system's folder).
    """

    def __init__(
        self, model: TriThread, config: TrainConfig, identity: str, scratch: Path | None = None
    ) -> None:
        self.model, self.identity = model, identity
        self.optimizers = Optimizers(model, config)
        self.history: list[EpochReport] = []
        large = {id(table.weight) for table in model.item_tables()}
        if config.table_update == "dense":
            large.clear()
        self.best_weights = {
            name: _on_disk(parameter, scratch) if id(parameter) in large else _copied(parameter)
            for name, parameter in _trained(model)
        }
        self._move_average = get_ema_multi_avg_fn(config.averaging)
        self._average = (
            {n: _copied(p) for n, p in _trained(model) if id(p) not in large}
            if config.averaging
            else None
        )

    def best(self) -> EpochReport | None:
        return next((report for report in reversed(self.history) if report.is_best), None)

    @torch.no_grad()
    def follow(self) -> None:
        """Updates the running average, if any, with the model's weights."""
        if self._average is not None:
            trained = {n: p for n, p in _trained(self.model) if n in self._average}
            # One fused operation: on a GPU one kernel in place of a hundred.
            self._move_average(
                tuple(self._average[name] for name in trained), tuple(trained.values()), 0
            )

    @contextmanager
    def validated_weights(self) -> Iterator[None]:
        """Context with the weights to validate and keep: the average, if any."""
        if self._average is None:
            yield
            return
        self._exchange(self._average)
        try:
            yield
        finally:
            self._exchange(self._average)

    @torch.no_grad()
    def _exchange(self, weights: Weights) -> None:
        """Swaps the model's weights with `weights` in place, with the memory of one tensor."""
        for name, parameter in _trained(self.model):
            if name not in weights:
                continue
            before = parameter.clone()
            parameter.copy_(weights[name])
            weights[name].copy_(before)

    @torch.no_grad()
    def keep_as_best(self) -> None:
        for name, parameter in _trained(self.model):
            self.best_weights[name].copy_(parameter)

    def return_to_best(self) -> None:
        """Loads the weights of the best epoch; before any validation those that would be
        validated."""
        if self.best() is not None:
            put_weights(self.model, self.best_weights)
        elif self._average is not None:
            put_weights(self.model, self._average)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, self._tensors(), self._facts())

    def resume(self, path: Path | None, process_group: ProcessGroup) -> None:
        """Resumes all processes from the checkpoint of rank 0, if any.

        Disks of other processes are not read. Raises CheckpointError in all processes if the
        checkpoint does not match, or if a process has other data or another configuration than rank
        0.
        """
        tensors: Weights = {}
        facts = self._facts()
        if process_group.is_leader and path is not None and path.exists():
            tensors, facts = read_tensors(path)
        if process_group.any(process_group.is_leader and facts.get("identity") != self.identity):
            raise CheckpointError(
                f"{path} belongs to other data or another configuration; "
                "give each run a folder of its own, or delete this one"
            )
        facts = json.loads(process_group.bytes_from_rank_0(json.dumps(facts).encode()))
        if process_group.any(facts["identity"] != self.identity):
            raise CheckpointError(
                f"the {process_group.size} processes of this training differ in data or "
                "configuration; start all of them with the same options and the same store"
            )
        history = facts["history"]
        if not history:  # Equal seeds give all processes the same weights.
            return
        self.history = [EpochReport(**report) for report in history]
        self._put_back(process_group.tensors_from_rank_0(tensors))

    def _tensors(self) -> Weights:
        tensors = {f"model.{name}": value.detach() for name, value in _trained(self.model)}
        tensors |= {f"best.{name}": value for name, value in self.best_weights.items()}
        tensors |= {f"average.{name}": value for name, value in (self._average or {}).items()}
        for index, optimizer in enumerate(self.optimizers.members):
            moments = optimizer_tensors(optimizer).items()
            tensors |= {f"optimizer{index}.{name}": value for name, value in moments}
        return tensors

    def _facts(self) -> dict[str, object]:
        history = [asdict(report) for report in self.history]
        return {"identity": self.identity, "history": history}

    @torch.no_grad()
    def _put_back(self, tensors: Weights) -> None:
        put_weights(self.model, _part(tensors, "model."))
        for name, tensor in _part(tensors, "best.").items():
            self.best_weights[name].copy_(tensor)
        for name, tensor in _part(tensors, "average.").items():
            if self._average is not None:
                self._average[name].copy_(tensor)
        for index, optimizer in enumerate(self.optimizers.members):
            restore_optimizer(optimizer, _part(tensors, f"optimizer{index}."))


def _trained(model: TriThread) -> Iterator[tuple[str, Tensor]]:
    """Returns the trainable weights; frozen tables are inputs and need no copy."""
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def _copied(parameter: Tensor) -> Tensor:
    return parameter.detach().clone()


def _on_disk(parameter: Tensor, folder: Path | None) -> Tensor:
    """Returns a memory-mapped copy, which the system may evict."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.truncate(parameter.nbytes)
        count = parameter.numel()
        kept = torch.from_file(file.name, shared=True, size=count, dtype=parameter.dtype)
    return kept.view_as(parameter).copy_(parameter.detach())


def put_weights(model: TriThread, weights: Weights) -> None:
    """Loads trained weights into a model; its other tensors stay."""
    model.load_state_dict(weights, strict=False)


def _part(tensors: Weights, prefix: str) -> Weights:
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}


def fit_identity(sequences: Sequences, config: TriThreadConfig) -> str:
    """Returns the hash of all inputs that determine the weights of an epoch; stopping criteria may
    change.

    Fields with default values are excluded, so that new switches keep checkpoints valid.
    """
    later = {"max_epochs", "max_seconds", "patience", "patience_steps", "cold_items"}
    deciding = config.model_dump_json(exclude={"train": later}, exclude_defaults=True)
    digest = hashlib.sha256(deciding.encode())
    for array in (sequences.offsets, sequences.items, sequences.split, sequences.domain_starts):
        digest.update(array.tobytes())
    return digest.hexdigest()
