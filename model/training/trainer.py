"""Fit a model: epochs, early stopping on validation NDCG@10, and a checkpoint after every epoch.

All randomness of an epoch follows from the seed and the epoch's number. So a run that was killed
goes on from its last whole epoch and ends where an uninterrupted run would have ended; on a GPU,
whose sums have no fixed order, up to rounding.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.config import ModelInputError, TriThreadConfig
from model.data.batches import batch_count, bucketed_users
from model.data.sequences import VALIDATION, IntArray, Sequences
from model.data.tables import ItemTables, ProfileVectors
from model.network.encoder import Encoder
from model.network.tri_thread import TriThread
from model.scoring.new_items import with_unmet_items
from model.training.bridge_fit import fit_bridge
from model.training.large_catalogues import for_catalogue
from model.training.memory_fit import remember
from model.training.micro_batches import shares
from model.training.objective import Objective
from model.training.processes import Team
from model.training.training_state import EpochReport, Phase, TrainingState
from model.training.validation import Validation

STATE_FILE = "training.safetensors"
ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""All but cuDNN's, which PyTorch prefers in half precision on some GPUs: it plans anew for every
batch of another shape, and nearly every batch is."""
logger = logging.getLogger("llm4cdsr")
StopReason = Literal["patience", "max_epochs", "max_seconds"]


class NothingToLearnError(ModelInputError):
    """No user has two training events, so no event can be predicted from an earlier one."""


class WidthError(ModelInputError):
    """The model is not as wide as its item tables; the message names both widths."""


class DivergedError(ArithmeticError):
    """The loss is no longer a number; the message names the epoch."""


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
    profiles: ProfileVectors | None = None,
    checkpoint_folder: Path | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    team: Team | None = None,
    compiled: bool = False,
) -> FitResult:
    """Train on the training events, choose the epoch by the validation events, leave test alone.

    With a `checkpoint_folder` an interrupted run of the same data and configuration continues, also
    with another number of processes; only the leading process reads and writes it. Without
    validation events the last epoch is kept. With `refit` set, a second run trains on the
    validation events too, for as many epochs as were best. Items without a training event then take
    after others (`unmet_items`). Every process of a `team` calls this with the same arguments and
    gets the same model. `compiled` puts the threads through `torch.compile`. Raises
    NothingToLearnError, WidthError, DivergedError, and CheckpointError for a checkpoint of other
    events or another configuration; a folder is for one set of tables and profiles.
    """
    place = team or Team()
    config = for_catalogue(config, sequences.item_count)
    search = _Run(sequences, tables, config, profiles, place, compiled, scratch=checkpoint_folder)
    found = _finish(search, checkpoint_folder, on_epoch)
    remember(found.model, sequences, config.train.seed)
    fit_bridge(found.model, sequences, config.train.seed)
    if not config.train.refit or not np.any(sequences.split == VALIDATION):
        return _for_every_item(found, tables, search)
    best, history, stopped, memory = found.best, found.history, found.stopped, found.model.memory
    del search, found  # Weights, moments and copies: the refit needs their room.
    limits = {"max_epochs": best.epoch, "max_seconds": None, "refit": False}
    again = config.model_copy(update={"train": config.train.model_copy(update=limits)})
    everything = sequences.with_validation_in_training()
    folder = checkpoint_folder and checkpoint_folder / f"refit-{best.epoch}"
    second = _Run(everything, tables, again, profiles, place, compiled, "refit", folder)
    refitted = _finish(second, folder, on_epoch)
    if memory is not None:
        refitted.model.memory = memory
        memory.learn(everything.training())
    fit_bridge(refitted.model, everything, config.train.seed)
    whole = FitResult(refitted.model, best, history + refitted.history, stopped)
    return _for_every_item(whole, tables, second)


def _for_every_item(fitted: FitResult, tables: ItemTables, run: _Run) -> FitResult:
    if run.train.unmet_items == "trained":
        return fitted
    return replace(fitted, model=with_unmet_items(fitted.model, tables, run.training))


def _finish(
    run: _Run, checkpoint_folder: Path | None, on_epoch: Callable[[EpochReport], None] | None
) -> FitResult:
    """Epochs until there is a reason to stop, from where an interrupted run stood."""
    path = checkpoint_folder / STATE_FILE if checkpoint_folder else None
    run.state.resume(path, run.team)
    done = len(run.state.history)
    if done and run.team.leads and run.reason_to_stop() is None:
        again = " of the refit" if run.phase == "refit" else ""
        logger.info("train: resuming at epoch %d%s, from its checkpoint", done + 1, again)
    while (stopped := run.reason_to_stop()) is None:
        report = run.epoch()
        if path and run.team.leads:
            run.state.save(path)
        if on_epoch and run.team.leads:
            on_epoch(report)
    return run.result(stopped)


class _Run:
    """One fit: what stays the same in it, and the state that its epochs change."""

    def __init__(
        self,
        sequences: Sequences,
        tables: ItemTables,
        config: TriThreadConfig,
        profiles: ProfileVectors | None,
        team: Team,
        compiled: bool = False,
        phase: Phase = "search",
        scratch: Path | None = None,
    ) -> None:
        self.train, self.team = config.train, team
        self.phase: Phase = phase
        self.training = sequences.training()
        self.steps_an_epoch = batch_count(self.training, self.train.batch_size)
        if not self.steps_an_epoch:
            raise NothingToLearnError(
                "no user has two training events; lower the k-core or hold out less"
            )
        if tables.item_count != sequences.item_count:
            raise ValueError(
                f"tables of {tables.item_count} items for a catalogue of {sequences.item_count}"
            )
        hidden, width = config.model.hidden, tables.local_table.shape[1]
        if hidden != width:
            raise WidthError(
                f"model.hidden={hidden}, but the item tables are for a model of width {width}: "
                f"leave it at {width}, or refresh with tables that wide (refreshing.tables.hidden)"
            )
        self.validation = Validation(sequences, config.train, team)
        profile_width = profiles.vectors.shape[1] if profiles else None
        with torch.random.fork_rng(devices=_gpus(team.device)):
            torch.manual_seed(self.train.seed)
            self.model = TriThread(tables, sequences.domain_starts, config.model, profile_width)
        self.model.to(team.device)
        if compiled:
            _compile_threads(self.model)
        self.state = TrainingState(self.model, self.train, _identity(sequences, config), scratch)
        self.objective = Objective(self.model, self.training, self.train, profiles, team)

    def epoch(self) -> EpochReport:
        number = len(self.state.history) + 1
        begun = time.perf_counter()
        loss, count = self._pass(number)
        # The clocks of processes differ, and a time limit must end all of them at once.
        (seconds,) = self.team.from_lead([time.perf_counter() - begun])
        with self.state.validated_weights():
            ndcg, hit_rate = self.validation.measure(self.model)
            best = self.state.best()
            # NDCG is NaN where no validation event exists: the last epoch is then the best.
            is_best = not len(self.validation) or ndcg > (best.validation_ndcg if best else -1.0)
            if is_best:
                self.state.keep_as_best()
        report = EpochReport(number, loss, count, seconds, ndcg, hit_rate, is_best, self.phase)
        self.state.history.append(report)
        return report

    def reason_to_stop(self) -> StopReason | None:
        best, history = self.state.best(), self.state.history
        if best and len(self.validation):
            validations = len(history) - best.epoch
            steps = validations * self.steps_an_epoch
            if validations >= self.train.patience and steps >= self.train.patience_steps:
                return "patience"
        if len(history) >= self.train.max_epochs:
            return "max_epochs"
        return "max_seconds" if self._is_late() else None

    def _is_late(self) -> bool:
        """Whether the epochs so far have taken the time there is."""
        limit = self.train.max_seconds
        spent = sum(report.seconds for report in self.state.history)
        return limit is not None and spent >= limit

    def result(self, stopped: StopReason) -> FitResult:
        self.state.return_to_best()
        history = tuple(self.state.history)
        return FitResult(self.model.eval(), self.state.best() or history[-1], history, stopped)

    def _pass(self, number: int) -> tuple[float, int]:
        """One epoch of steps: mean loss and users seen, over all processes."""
        rng = np.random.default_rng((self.train.seed, number))
        self.model.train()
        total, count = torch.zeros((), device=self.team.device), 0
        with torch.random.fork_rng(devices=_gpus(self.team.device)), sdpa_kernel(ATTENTION):
            # The draws are the whole batch's in every process, dropout is its own in each.
            torch.manual_seed(int(rng.integers(2**62)) + self.team.rank)
            for users in bucketed_users(self.training, self.train.batch_size, rng):
                total += self._step(users, rng) * len(users)
                count += len(users)
        loss = float(self.team.sum(total)) / count
        if not np.isfinite(loss):
            raise DivergedError(
                f"loss is {loss} in epoch {number}; lower learning_rate={self.train.learning_rate}"
            )
        return loss, count

    def _step(self, users: IntArray, rng: np.random.Generator) -> Tensor:
        """One update; this process's part of the batch's loss."""
        device, total = self.team.device, torch.zeros((), device=self.team.device)
        for share in shares(self.objective, users, self.team, self.train.accumulate, rng):
            batch, draws = share.batch.to(device), share.draws.to(device)
            with torch.autocast(
                device.type, torch.bfloat16, enabled=self.train.precision == "bfloat16"
            ):
                loss = self.objective.loss(batch, draws, share.whole)
            if loss.requires_grad:  # Else the share holds nobody who learns.
                loss.backward()
            total += loss.detach()
        self.state.optimizers.step(self.team)
        self.state.follow()
        return total


def _compile_threads(model: TriThread) -> None:
    """Only the threads: what surrounds them has shapes that depend on the data."""
    for module in model.modules():
        if isinstance(module, Encoder):
            module.compile(dynamic=True)


def _gpus(device: torch.device) -> list[torch.device]:
    """Devices beside the CPU whose random state an epoch sets and then gives back."""
    return [device] if device.type == "cuda" else []


def _identity(sequences: Sequences, config: TriThreadConfig) -> str:
    """Hash of what decides the weights of an epoch; what ends a run, or follows it, may change.

    Fields at their default are left out, so that a new switch leaves a checkpoint valid.
    """
    later = {"max_epochs", "max_seconds", "patience", "patience_steps", "unmet_items"}
    deciding = config.model_dump_json(exclude={"train": later}, exclude_defaults=True)
    digest = hashlib.sha256(deciding.encode())
    for array in (sequences.offsets, sequences.items, sequences.split, sequences.domain_starts):
        digest.update(array.tobytes())
    return digest.hexdigest()
