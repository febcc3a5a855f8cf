"""Fit a model: epochs, early stopping on validation NDCG@10, and a checkpoint after every epoch.

All randomness of an epoch follows from the seed and the epoch's number. So a run that was killed
goes on from its last whole epoch and ends where an uninterrupted run would have ended.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from model.batches import bucketed_users, training_batch
from model.checkpoint import (
    CheckpointError,
    optimizer_tensors,
    read_tensors,
    restore_optimizer,
    write_tensors,
)
from model.config import TrainConfig, TriThreadConfig
from model.memory_reading import remember
from model.objective import Objective
from model.optimizers import Optimizers
from model.ranking import rank_all, ranking_metrics
from model.scoring import ModelScorer
from model.sequences import VALIDATION, Prefixes, Sequences
from model.tables import ItemTables, UserProfiles
from model.tri_thread import TriThread

STATE_FILE = "training.safetensors"
Phase = Literal["search", "refit"]
StopReason = Literal["patience", "max_epochs", "max_seconds"]


class NothingToLearnError(ValueError):
    """No user has two training events, so no event can be predicted from an earlier one."""


class DivergedError(ArithmeticError):
    """The loss is no longer a number; the message names the epoch."""


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did; `validation_ndcg` is NDCG@10 and NaN in epochs without validation."""

    epoch: int  # from 1
    loss: float
    sequences: int
    seconds: float  # training alone, validation not counted
    validation_ndcg: float
    validation_hit_rate: float
    is_best: bool
    phase: Phase = "search"  # `refit` trains on validation events too, so it has no validation

    @property
    def sequences_per_second(self) -> float:
        return self.sequences / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class FitResult:
    """The model with the weights of its best epoch, or refitted for as many; in evaluation mode."""

    model: TriThread
    best: EpochReport
    history: tuple[EpochReport, ...]
    stopped: StopReason


def fit(
    sequences: Sequences,
    tables: ItemTables,
    config: TriThreadConfig,
    profiles: UserProfiles | None = None,
    checkpoint_folder: Path | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    device: str = "cpu",
) -> FitResult:
    """Train on the training events, choose the epoch by the validation events, leave test alone.

    With a `checkpoint_folder` an interrupted run of the same data and configuration continues.
    Without validation events the last epoch is kept. With `refit` set, a second run trains on the
    validation events too, for as many epochs as were best. Raises NothingToLearnError,
    DivergedError, and CheckpointError for a checkpoint of something else.
    """
    found = _finish(_Run(sequences, tables, config, profiles, device), checkpoint_folder, on_epoch)
    remember(found.model, sequences, config.train.seed)
    if not config.train.refit or not np.any(sequences.split == VALIDATION):
        return found
    limits = {"max_epochs": found.best.epoch, "max_seconds": None, "refit": False}
    again = config.model_copy(update={"train": config.train.model_copy(update=limits)})
    everything = sequences.with_validation_in_training()
    second = _Run(everything, tables, again, profiles, device, phase="refit")
    folder = checkpoint_folder and checkpoint_folder / f"refit-{found.best.epoch}"
    refitted = _finish(second, folder, on_epoch)
    if found.model.memory is not None:
        refitted.model.memory = found.model.memory
        refitted.model.memory.learn(everything.training())
    return replace(found, model=refitted.model, history=found.history + refitted.history)


def _finish(
    run: _Run, checkpoint_folder: Path | None, on_epoch: Callable[[EpochReport], None] | None
) -> FitResult:
    """Epochs until there is a reason to stop, from where an interrupted run stood."""
    state = checkpoint_folder / STATE_FILE if checkpoint_folder else None
    if state and state.exists():
        run.restore(state)
    while (stopped := run.reason_to_stop()) is None:
        report = run.epoch()
        if state:
            run.save(state)
        if on_epoch:
            on_epoch(report)
    return run.result(stopped)


class _Run:
    """The state of one fit: everything that a checkpoint must bring back."""

    def __init__(
        self,
        sequences: Sequences,
        tables: ItemTables,
        config: TriThreadConfig,
        profiles: UserProfiles | None,
        device: str,
        phase: Phase = "search",
    ) -> None:
        self.train = config.train
        self.phase: Phase = phase
        self.training = sequences.training()
        if not np.any(np.diff(self.training.offsets) >= 2):
            raise NothingToLearnError(
                "no user has two training events; lower the k-core or hold out less"
            )
        if tables.item_count != sequences.item_count:
            raise ValueError(
                f"tables of {tables.item_count} items for a catalogue of {sequences.item_count}"
            )
        self.identity = _identity(sequences, config)
        self.validation = _validation(sequences, config.train)
        profile_width = profiles.vectors.shape[1] if profiles else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.train.seed)
            self.model = TriThread(tables, sequences.domain_starts, config.model, profile_width)
        self.model.to(device)
        self.optimizers = Optimizers(self.model, self.train)
        self.objective = Objective(self.model, self.training, self.train, profiles)
        self.history: list[EpochReport] = []
        self.best_weights = _copy(self.model)
        self.average = _copy(self.model) if self.train.averaging else None

    def epoch(self) -> EpochReport:
        number = len(self.history) + 1
        begun = time.perf_counter()
        loss, count = self._pass(number)
        seconds = time.perf_counter() - begun
        current = _copy(self.model)
        if self.average is not None:
            _put(self.model, self.average)
        ndcg, hit_rate = self._validate(number)
        best = self.best()
        # NaN is an epoch without validation: better than nothing only where there is none at all.
        is_best = not len(self.validation) or ndcg > (best.validation_ndcg if best else -1.0)
        report = EpochReport(number, loss, count, seconds, ndcg, hit_rate, is_best, self.phase)
        if is_best:
            self.best_weights = _copy(self.model)
        _put(self.model, current)
        self.history.append(report)
        return report

    def best(self) -> EpochReport | None:
        return next((report for report in reversed(self.history) if report.is_best), None)

    def reason_to_stop(self) -> StopReason | None:
        best, done = self.best(), len(self.history)
        if best and len(self.validation):
            waited = (done - best.epoch) // self.train.validate_every
            if waited >= self.train.patience:
                return "patience"
        if done >= self.train.max_epochs:
            return "max_epochs"
        limit = self.train.max_seconds
        if limit is not None and sum(report.seconds for report in self.history) >= limit:
            return "max_seconds"
        return None

    def result(self, stopped: StopReason) -> FitResult:
        best = self.best()
        if best is not None:
            _put(self.model, self.best_weights)
        return FitResult(self.model.eval(), best or self.history[-1], tuple(self.history), stopped)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{name}": value for name, value in _copy(self.model).items()}
        tensors |= {f"best.{name}": value for name, value in self.best_weights.items()}
        tensors |= {f"average.{name}": value for name, value in (self.average or {}).items()}
        for index, optimizer in enumerate(self.optimizers.members):
            moments = optimizer_tensors(optimizer).items()
            tensors |= {f"optimizer{index}.{name}": value for name, value in moments}
        history = [asdict(report) for report in self.history]
        write_tensors(path, tensors, {"identity": self.identity, "history": history})

    def restore(self, path: Path) -> None:
        tensors, facts = read_tensors(path)
        if facts.get("identity") != self.identity:
            raise CheckpointError(
                f"{path} belongs to other data or another configuration; "
                "give each run a folder of its own, or delete this one"
            )
        history = facts["history"]
        assert isinstance(history, list)
        self.history = [EpochReport(**report) for report in history]
        _put(self.model, _part(tensors, "model."))
        self.best_weights = _part(tensors, "best.")
        if self.average is not None:
            self.average = _part(tensors, "average.")
        for index, optimizer in enumerate(self.optimizers.members):
            restore_optimizer(optimizer, _part(tensors, f"optimizer{index}."))

    def _pass(self, number: int) -> tuple[float, int]:
        """One epoch of steps: mean loss and users seen."""
        rng = np.random.default_rng((self.train.seed, number))
        self.model.train()
        total, count = torch.zeros((), device=self.model.device), 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            for users in bucketed_users(self.training, self.train.batch_size, rng):
                total += self._step(users, rng) * len(users)
                count += len(users)
        loss = float(total) / count
        if not np.isfinite(loss):
            raise DivergedError(
                f"loss is {loss} in epoch {number}; lower learning_rate={self.train.learning_rate}"
            )
        return loss, count

    def _step(self, users: np.ndarray, rng: np.random.Generator) -> Tensor:
        batch = training_batch(self.training, users, self.model.config.max_length)
        draws = self.objective.draw(batch, rng)
        device = self.model.device
        with torch.autocast(
            device.type, torch.bfloat16, enabled=self.train.precision == "bfloat16"
        ):
            loss = self.objective.loss(batch.to(device), draws)
        self.optimizers.step(loss)
        if self.average is not None:
            _follow(self.average, self.model, self.train.averaging)
        return loss.detach()

    def _validate(self, number: int) -> tuple[float, float]:
        if not len(self.validation) or number % self.train.validate_every:
            return float("nan"), float("nan")
        metrics = ranking_metrics(rank_all(ModelScorer(self.model), self.validation), (10,))
        return metrics.ndcg[10], metrics.hit_rate[10]


def _validation(sequences: Sequences, config: TrainConfig) -> Prefixes:
    prefixes = sequences.prefixes_of_split(VALIDATION)
    if config.validation_users is None or len(prefixes) <= config.validation_users:
        return prefixes
    rng = np.random.default_rng(config.seed)
    return prefixes.select(
        np.sort(rng.choice(len(prefixes), config.validation_users, replace=False))
    )


def _copy(model: TriThread) -> dict[str, Tensor]:
    """Trainable weights only: frozen tables are given anew and need no copy."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def _put(model: TriThread, weights: dict[str, Tensor]) -> None:
    model.load_state_dict(weights, strict=False)


@torch.no_grad()
def _follow(average: dict[str, Tensor], model: TriThread, stay: float) -> None:
    """Move the average a little towards the model's weights."""
    for name, parameter in model.named_parameters():
        if name in average:
            average[name].lerp_(parameter, 1 - stay)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}


def _identity(sequences: Sequences, config: TriThreadConfig) -> str:
    """Hash of what decides the weights of an epoch; limits that only end a run may change."""
    deciding = config.model_dump_json(exclude={"train": {"max_epochs", "max_seconds", "patience"}})
    digest = hashlib.sha256(deciding.encode())
    for array in (sequences.offsets, sequences.items, sequences.split, sequences.domain_starts):
        digest.update(array.tobytes())
    return digest.hexdigest()
