"""Training loop: epochs, early stopping on validation NDCG@10, a checkpoint after every epoch.

The randomness of an epoch depends on the seed and the epoch's number only. A killed run resumes
from its last complete epoch and yields the model of an uninterrupted run; on a GPU, where sums have
no fixed order, up to rounding.
"""

from __future__ import annotations

import logging
import math
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
from model.data.tables import AnswerVectors, ItemTables, ProfileVectors
from model.network.encoder import Encoder
from model.network.tri_thread import TriThread
from model.scoring.new_items import with_cold_items
from model.training.bridge_fit import ITERATIONS, fit_bridge
from model.training.crossing_fit import add_votes, fitted_weight
from model.training.large_catalogues import for_catalogue
from model.training.memory_fit import fit_memory
from model.training.micro_batches import shares
from model.training.objective import Objective
from model.training.processes import ProcessGroup
from model.training.time_limit import Stopwatch, TrainingLimit, measured_limit
from model.training.training_state import (
    EpochReport,
    Phase,
    TrainingState,
    fit_identity,
    put_weights,
)
from model.training.validation import Validation

STATE_FILE = "training.safetensors"
ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Attention backends without cuDNN's, which PyTorch prefers in half precision on some GPUs: it
replans for every new batch shape, that is for nearly every batch."""
logger = logging.getLogger("llm4cdsr")
StopReason = Literal["patience", "max_epochs", "max_seconds"]
STEPS_BETWEEN_LOOKS = 16
"""Steps between two checks of an epoch's time limit by several processes; one checks each step."""


class NothingToLearnError(ModelInputError):
    """No user has two training events."""


class WidthError(ModelInputError):
    """Model and item tables have different widths; the message has both."""


class DivergedError(ArithmeticError):
    """The loss became NaN; the message has the epoch."""


@dataclass(frozen=True)
class FitResult:
    """The model with the weights of its best epoch, or refitted for as many epochs; in evaluation
    mode. `refit_cut`: the refit did not end in time, so the model is that of the search. `used`:
    seconds of the time budget, earlier stages and processes included."""

    model: TriThread
    best: EpochReport
    history: tuple[EpochReport, ...]
    stopped: StopReason
    refit_cut: bool = False
    used: float = 0.0


def fit(
    sequences: Sequences,
    tables: ItemTables,
    config: TriThreadConfig,
    profiles: ProfileVectors | None = None,
    checkpoint_folder: Path | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    process_group: ProcessGroup | None = None,
    compiled: bool = False,
    crossings: AnswerVectors | None = None,
    watch: Stopwatch | None = None,
) -> FitResult:
    """Trains on the training events and selects the epoch on the validation events; test events are
    not read.

    With a `checkpoint_folder` an interrupted run of the same data and configuration resumes, also
    with another number of processes; only rank 0 reads and writes it. Without validation events the
    last epoch is kept. With `refit`, a second training includes the validation events, for the best
    number of epochs. `max_seconds` limit everything since the start of `watch`, by default this
    call: the model of the search is kept where they end the refit. Cold items then inherit vectors
    (`cold_items`). All processes of the group call this with the same arguments and get the same
    model. `compiled` applies `torch.compile` to the threads. Raises NothingToLearnError,
    WidthError, DivergedError, and CheckpointError for a checkpoint of other events or another
    configuration; a folder is for one set of tables and profiles.
    """
    place, watch = process_group or ProcessGroup(), watch or Stopwatch()
    config = for_catalogue(config, sequences.item_count)
    seed = config.train.seed
    refits = config.train.refit and bool(np.any(sequences.split == VALIDATION))
    search = _Run(
        sequences, tables, config, profiles, place, watch, compiled, scratch=checkpoint_folder
    )
    if config.train.max_seconds is not None:
        search.limit = replace(
            measured_limit(search.model, sequences, config.train.max_seconds, seed, watch, place),
            refit=refits,
            fits_votes=crossings is not None,
        )
    limit = search.limit
    found = search.result(_finish(search, checkpoint_folder, on_epoch))
    best, history = found.best, found.history
    (used,) = place.from_rank_0([watch.seconds()])
    in_time = None if limit is None else limit.seconds_of_memory(used, history, best.epoch)
    fit_memory(found.model, sequences, seed, in_time, place)
    if limit is not None and found.model.bridge is not None:
        found.model.bridge.is_fitted.fill_(1.0)
    elif crossings is not None or not refits:
        fit_bridge(found.model, sequences, seed)
    weight = fitted_weight(found.model, sequences, crossings)

    def completed(fitted: FitResult, known: Sequences) -> FitResult:
        """Adds votes to the fitted bridge, then the vectors of cold items."""
        model = fitted.model
        if crossings is not None and weight:
            add_votes(model, crossings, weight)
        if config.train.cold_items != "trained":
            model = with_cold_items(model, tables, known.training())
        return replace(fitted, model=model, used=watch.seconds())

    if not refits:
        return completed(found, sequences)
    (used,) = place.from_rank_0([watch.seconds()])
    if limit is not None and used + limit.seconds_of_refit(history, best.epoch) > limit.seconds:
        return completed(replace(found, refit_cut=True), sequences)
    kept = None if limit is None else search.state.best_weights
    memory, similarity, bridge = found.model.memory, found.model.similarity, found.model.bridge
    stopped = found.stopped
    del search, found  # Frees weights, moments and copies for the refit.
    limits = {"max_epochs": best.epoch, "refit": False}
    again = config.model_copy(update={"train": config.train.model_copy(update=limits)})
    everything = sequences.with_validation_in_training()
    folder = checkpoint_folder and checkpoint_folder / f"refit-{best.epoch}"
    second = _Run(everything, tables, again, profiles, place, watch, compiled, "refit", folder)
    second.limit = limit and limit.of_refit()
    is_cut = _finish(second, folder, on_epoch) == "max_seconds"
    second.state.return_to_best()
    model = second.model.eval()
    model.memory, model.similarity = memory, similarity
    if kept is not None and is_cut:
        put_weights(model, kept)
        model.bridge = bridge
    else:
        if memory is not None:
            memory.learn(everything.training())
        fit_bridge(model, everything, seed, limit.bridge_iterations if limit else ITERATIONS)
    whole = FitResult(model, best, (*history, *second.state.history), stopped, is_cut)
    return completed(whole, sequences if is_cut else everything)


def seconds_a_step(
    sequences: Sequences,
    tables: ItemTables,
    config: TriThreadConfig,
    profiles: ProfileVectors | None = None,
    process_group: ProcessGroup | None = None,
    steps: int = 4,
    seconds: float = math.inf,
) -> float:
    """Returns the median seconds of some training steps after one warm-up step; discards the model.

    After `seconds` no further step begins; there are at least two. All processes of the group call
    this and get the same figure. Raises the errors of `fit`.
    """
    config, watch = for_catalogue(config, sequences.item_count), Stopwatch()
    run = _Run(sequences, tables, config, profiles, process_group or ProcessGroup(), watch)
    return run.seconds_a_step(steps, seconds)


def _finish(
    run: _Run, checkpoint_folder: Path | None, on_epoch: Callable[[EpochReport], None] | None
) -> StopReason:
    """Runs epochs until a stopping criterion, from the checkpoint of an interrupted run if any;
    returns the criterion."""
    path = checkpoint_folder / STATE_FILE if checkpoint_folder else None
    run.state.resume(path, run.process_group)
    done = len(run.state.history)
    if done:
        run.watch.resume_at(run.state.history[-1].used)
    if done and run.process_group.is_leader and run.reason_to_stop() is None:
        again = " of the refit" if run.phase == "refit" else ""
        logger.info("train: resuming at epoch %d%s, from its checkpoint", done + 1, again)
    while (stopped := run.reason_to_stop()) is None:
        report = run.epoch()
        if report is None:
            return "max_seconds"
        if path and run.process_group.is_leader:
            run.state.save(path)
        if on_epoch and run.process_group.is_leader:
            on_epoch(report)
    return stopped


class _Run:
    """One training: its fixed inputs and its state."""

    def __init__(
        self,
        sequences: Sequences,
        tables: ItemTables,
        config: TriThreadConfig,
        profiles: ProfileVectors | None,
        process_group: ProcessGroup,
        watch: Stopwatch,
        compiled: bool = False,
        phase: Phase = "search",
        scratch: Path | None = None,
    ) -> None:
        self.train, self.process_group, self.watch = config.train, process_group, watch
        self.limit: TrainingLimit | None = None
        self.phase: Phase = phase
        self.training = sequences.training()
        self.steps_an_epoch = batch_count(self.training, self.train.batch_size)
        if not self.steps_an_epoch:
            raise NothingToLearnError(
                "no user has two training events; lower the k-core or hold out fewer events"
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
        self.validation = Validation(sequences, config.train, process_group)
        profile_width = profiles.vectors.shape[1] if profiles else None
        with torch.random.fork_rng(devices=_gpus(process_group.device)):
            torch.manual_seed(self.train.seed)
            self.model = TriThread(tables, sequences.domain_starts, config.model, profile_width)
        self.model.to(process_group.device)
        if compiled:
            _compile_threads(self.model)
        self.state = TrainingState(self.model, self.train, fit_identity(sequences, config), scratch)
        self.objective = Objective(self.model, self.training, self.train, profiles, process_group)

    def epoch(self) -> EpochReport | None:
        """Returns the report of the next epoch; None where the time limit ended it."""
        number = len(self.state.history) + 1
        begun = self.watch.seconds()
        made = self._pass(number)
        if made is None:
            return None
        loss, count = made
        # Clocks of processes differ; a time limit must stop all of them in the same epoch.
        (seconds,) = self.process_group.from_rank_0([self.watch.seconds() - begun])
        begun = self.watch.seconds()
        with self.state.validated_weights():
            ndcg, hit_rate = self.validation.measure(self.model)
            used = self.watch.seconds()
            validating, used = self.process_group.from_rank_0([used - begun, used])
            best = self.state.best()
            # NDCG is NaN where no validation event exists: the last epoch is then the best.
            is_best = not len(self.validation) or ndcg > (best.validation_ndcg if best else -1.0)
            if is_best:
                self.state.keep_as_best()
        if np.isnan(ndcg):
            validating = 0.0
        report = EpochReport(
            number, loss, count, seconds, ndcg, hit_rate, is_best, self.phase, validating, used
        )
        self.state.history.append(report)
        return report

    def seconds_a_step(self, steps: int, limit: float) -> float:
        rng, taken = np.random.default_rng(self.train.seed), list[float]()
        self.model.train()
        with (
            torch.random.fork_rng(devices=_gpus(self.process_group.device)),
            sdpa_kernel(ATTENTION),
        ):
            torch.manual_seed(self.train.seed)
            is_over = False
            while not is_over:
                for users in bucketed_users(self.training, self.train.batch_size, rng):
                    begun = self.watch.seconds()
                    float(self._step(users, rng))  # Waits for a GPU.
                    now = self.watch.seconds()
                    taken.append(now - begun)
                    (now,) = self.process_group.from_rank_0([now])
                    is_over = len(taken) > steps or (len(taken) > 1 and now >= limit)
                    if is_over:
                        break
        (seconds,) = self.process_group.from_rank_0([float(np.median(taken[1:]))])
        return seconds

    def reason_to_stop(self) -> StopReason | None:
        best, history = self.state.best(), self.state.history
        if best and len(self.validation):
            validations = len(history) - best.epoch
            steps = validations * self.steps_an_epoch
            if validations >= self.train.patience and steps >= self.train.patience_steps:
                return "patience"
        if len(history) >= self.train.max_epochs:
            return "max_epochs"
        if self.limit is None:
            return None
        if self.phase == "refit":
            is_over = bool(history) and history[-1].used >= self.limit.seconds
        else:
            is_over = not self.limit.another_epoch_fits(history)
        return "max_seconds" if is_over else None

    def result(self, stopped: StopReason) -> FitResult:
        self.state.return_to_best()
        history = tuple(self.state.history)
        return FitResult(self.model.eval(), self.state.best() or history[-1], history, stopped)

    def _pass(self, number: int) -> tuple[float, int] | None:
        """Runs one epoch; returns mean loss and number of users over all processes.

        The time limit shortens a first epoch; from a later one, None is returned.
        """
        rng = np.random.default_rng((self.train.seed, number))
        self.model.train()
        total, count = torch.zeros((), device=self.process_group.device), 0
        end = self._end_of_epoch()
        interval = STEPS_BETWEEN_LOOKS if self.process_group.size > 1 else 1
        with (
            torch.random.fork_rng(devices=_gpus(self.process_group.device)),
            sdpa_kernel(ATTENTION),
        ):
            # Draws are those of the whole batch in every process; dropout differs by process.
            torch.manual_seed(int(rng.integers(2**62)) + self.process_group.rank)
            batches = bucketed_users(self.training, self.train.batch_size, rng)
            for step, users in enumerate(batches, start=1):
                total += self._step(users, rng) * len(users)
                count += len(users)
                if step % interval or step == self.steps_an_epoch:
                    continue
                if self.process_group.from_rank_0([self.watch.seconds()])[0] >= end:
                    if number > 1 or self.phase == "refit":
                        return None
                    break
        loss = float(self.process_group.sum(total)) / count
        if not np.isfinite(loss):
            raise DivergedError(
                f"loss is {loss} in epoch {number}; lower learning_rate={self.train.learning_rate}"
            )
        return loss, count

    def _end_of_epoch(self) -> float:
        """Returns the reading of the watch at which the next epoch is ended."""
        if self.limit is None or self.phase == "refit":
            return math.inf if self.limit is None else self.limit.seconds
        best = self.state.best()
        (used,) = self.process_group.from_rank_0([self.watch.seconds()])
        return self.limit.end_of_epoch(self.state.history, used, best.epoch if best else 1)

    def _step(self, users: IntArray, rng: np.random.Generator) -> Tensor:
        """Makes one update; returns this process's part of the batch's loss."""
        device, total = self.process_group.device, torch.zeros((), device=self.process_group.device)
        for share in shares(self.objective, users, self.process_group, self.train.accumulate, rng):
            batch, draws = share.batch.to(device), share.draws.to(device)
            with torch.autocast(
                device.type, torch.bfloat16, enabled=self.train.precision == "bfloat16"
            ):
                loss = self.objective.loss(batch, draws, share.whole)
            if loss.requires_grad:  # Otherwise the micro-batch has no query in the loss.
                loss.backward()
            total += loss.detach()
        self.state.optimizers.step(self.process_group)
        self.state.follow()
        return total


def _compile_threads(model: TriThread) -> None:
    """Compiles the threads only; other parts have data-dependent shapes."""
    for module in model.modules():
        if isinstance(module, Encoder):
            module.compile(dynamic=True)


def _gpus(device: torch.device) -> list[torch.device]:
    """Returns the GPUs whose random state an epoch sets and restores."""
    return [device] if device.type == "cuda" else []
