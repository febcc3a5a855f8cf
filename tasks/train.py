"""Stage 6, tables and profiles to a model: fit the tri-thread recommender (METHOD 4 and 5)."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
from filelock import FileLock, Timeout

from artifacts.drafts import Draft
from artifacts.kinds.results import LEARNING_CURVE
from artifacts.manifest import Identity, Kind, identity
from artifacts.remote.remote_lease import RemoteLease
from artifacts.store import Store
from artifacts.user_error import UserError
from model.checkpoint import save_model
from model.config import TriThreadConfig
from model.data.sequences import VALIDATION, Sequences
from model.data.tables import ItemTables
from model.scoring.measurable import unmeasured_by_domain
from model.training.large_catalogues import changes_for
from model.training.processes import ProcessGroup, alone
from model.training.table_memory import MIB, table_memory
from model.training.time_limit import Stopwatch
from model.training.trainer import FitResult, fit
from tasks.frame.epoch_progress import EpochProgress
from tasks.frame.model_inputs import (
    load_crossings,
    load_profiles,
    load_sequences,
    load_tables,
    table_room,
)
from tasks.frame.number_texts import TIME_BUDGET, duration_text
from tasks.frame.progress import progress
from tasks.frame.stage import StageResult, logger, run_stage, stage_result, stage_task
from tasks.frame.training_config import TrainingConfig
from tasks.frame.training_sources import TrainingSources, checkpoints_of, note_sources


class CatalogueTooLargeError(UserError, MemoryError):
    """The item tables exceed the available memory; the message has their size."""


@stage_task("train")
def train(
    sources: TrainingSources, config: TrainingConfig, store_root: str, spent: float = 0.0
) -> StageResult:
    """Returns the fitted model. A killed run resumes from its last complete epoch.

    `spent`: seconds of the time budget that the choice of the preset took.
    """
    return train_together(sources, config, store_root, alone(config.device), spent)


def train_together(
    sources: TrainingSources,
    config: TrainingConfig,
    store_root: str,
    process_group: ProcessGroup,
    spent: float = 0.0,
) -> StageResult:
    """Returns the model fitted by all processes of ``process_group``; each of them must call this.

    Rank 0 looks up the artifact, makes it and reports; the other ranks join the fit and then reuse
    it.
    """
    store = Store(store_root)
    resolved = config.resolved()
    wanted = identity(Kind.MODEL, resolved, sources.parents())
    workspace = checkpoints_of(wanted.fingerprint)

    def make(draft: Draft) -> None:
        fitted, names = _fitted(
            store, sources, config, process_group, store.workspace(workspace), spent
        )
        made = resolved.train.model_copy(
            update={"refit": resolved.train.refit and not fitted.refit_cut}
        )
        config_made = TriThreadConfig(model=fitted.model.config, train=made)
        save_model(draft.path, fitted.model, config_made, names)
        sequences = load_sequences(store, sources.dataset)
        draft.notes.extend(changes_for(resolved, sequences.item_count))
        draft.notes.extend(time_notes(fitted, resolved, sequences))
        validation = sequences.prefixes_of_split(VALIDATION)
        unmeasured = sum(unmeasured_by_domain(validation).values())
        curve = _learning_curve(fitted, is_measured=unmeasured < len(validation))
        curve.write_parquet(draft.path / LEARNING_CURVE)
        inputs = (store.manifest(ref) for ref in (sources.tables, sources.profiles))
        draft.notes.extend(sorted({note for each in inputs for note in each.notes}))
        draft.counts.update(_facts(fitted, is_measured=not unmeasured))
        if resolved.train.max_seconds is not None:
            draft.counts["seconds_of_budget_used"] = round(fitted.used, 1)
        if sources.crossings is not None:
            votes = fitted.model.bridge and fitted.model.bridge.votes
            draft.counts["crossing_weight"] = float(votes.weight) if votes else 0.0
        if unmeasured:
            draft.notes.append(
                f"{unmeasured:,} of {len(validation):,} validation events have too few candidates "
                "for a figure: they help to choose the epoch, and no figure of them is compared"
            )

    started = time.monotonic()
    with _sole_training(store, wanted) if process_group.is_leader else nullcontext():
        (is_made,) = process_group.from_rank_0([float(store.find(wanted) is not None)])
        if process_group.is_leader:
            result = run_stage(store, "train", wanted, make)
            process_group.wait()  # Other ranks may still be reading the checkpoint of a killed run.
            store.drop_workspace(workspace)
            return result
    if not is_made:
        _fitted(store, sources, config, process_group, store.workspace(workspace), spent)
    process_group.wait()  # Waits until rank 0 has saved it.
    return stage_result(store, "train", wanted.ref, started, reused=bool(is_made))


@contextmanager
def _sole_training(store: Store, wanted: Identity) -> Iterator[None]:
    """Waits while another run on this store, on any machine, fits the same model, because a
    checkpoint has one writer; the waiting run then reuses the artifact. Locks of killed processes
    are released immediately, those of dead machines after a minute."""
    waiting = _say_once("train: another run fits this very model; waiting for it")
    lock = FileLock(note_sources(store, wanted) / f"{wanted.fingerprint}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        if store.remote is None:
            yield
        else:
            with RemoteLease(store.remote, "leases", f"train-{wanted.fingerprint}").held(waiting):
                yield
    finally:
        lock.release()


def _say_once(words: str) -> Callable[[], None]:
    said: list[str] = []

    def say() -> None:
        if not said:
            said.append(words)
            logger.info(words)

    return say


def _fitted(
    store: Store,
    sources: TrainingSources,
    config: TrainingConfig,
    process_group: ProcessGroup,
    checkpoints: Path,
    spent: float,
) -> tuple[FitResult, tuple[str, ...]]:
    """Returns the fitted model and the names of its domains."""
    watch, resolved = Stopwatch(spent), config.resolved()
    sequences = load_sequences(store, sources.dataset)
    tables = load_tables(store, sources.tables)
    width = tables.global_table.shape[1]
    refuse_large_catalogue(tables.item_count, width, config, process_group.size)
    if process_group.is_leader:
        _announce(tables, resolved, process_group)
    with (
        progress("train", resolved.train.max_epochs)
        if process_group.is_leader
        else nullcontext() as bar
    ):
        fitted = fit(
            sequences,
            tables,
            resolved,
            profiles=load_profiles(store, sources.profiles),
            crossings=load_crossings(store, sources.crossings, sources.tables),
            checkpoint_folder=checkpoints,
            on_epoch=None if bar is None else EpochProgress(bar),
            process_group=process_group,
            compiled=config.compiled,
            watch=watch,
        )
    if process_group.is_leader and resolved.train.max_seconds is not None:
        logger.info("train: %s", _use_of_budget(fitted.used, spent, resolved.train.max_seconds))
    return fitted, sequences.domain_names


def _use_of_budget(used: float, spent: float, budget: float) -> str:
    """Returns a sentence such as "used 17s of the time budget of 20s (choice of preset: 3.1s)"."""
    said = f"used {duration_text(used)} of the {TIME_BUDGET} of {duration_text(budget)}"
    return f"{said} (choice of preset: {duration_text(spent)})" if spent >= 0.1 else said


def _announce(tables: ItemTables, config: TriThreadConfig, process_group: ProcessGroup) -> None:
    memory = table_memory(tables.item_count, tables.global_table.shape[1], config)
    processes = f"{process_group.size} processes, each" if process_group.size > 1 else "one process"
    logger.info("train: %s on %s", processes, process_group.device)
    logger.info("train: tables of %s items: %s", f"{tables.item_count:,}", memory)
    for change in changes_for(config, tables.item_count):
        logger.info("train: %s", change)


def refuse_large_catalogue(
    items: int, global_width: int, config: TrainingConfig, processes: int = 1
) -> None:
    """Raises `CatalogueTooLargeError` if tables of `items` exceed this machine's memory."""
    memory = table_memory(items, global_width, config.smallest(items))
    device = alone(config.device).device
    room, where = table_room(device, processes), f"{device} has"
    if device.type != "cuda":
        where = "this machine has"
        where += f" for each of {processes} processes" if processes > 1 else ""
    if memory.total > room:
        raise CatalogueTooLargeError(
            f"tables of {items:,} items do not fit: {memory}, and {where} {room / MIB:,.1f} MiB; "
            "train the preset `single` (one member) or with --set model.global_correction=false, "
            "or on a machine with more memory"
        )


def _learning_curve(fitted: FitResult, *, is_measured: bool) -> pl.DataFrame:
    """Returns the epochs of the search; a refit has no validation. Metrics are null without
    measurable validation events."""
    search = [report for report in fitted.history if report.phase == "search"]
    curve = pl.DataFrame(
        {
            "epoch": [report.epoch for report in search],
            "loss": [report.loss for report in search],
            "validation_ndcg": [report.validation_ndcg for report in search],
            "validation_hr": [report.validation_hit_rate for report in search],
            "seconds": [report.seconds for report in search],
        }
    )
    figures = pl.col("validation_ndcg", "validation_hr").fill_nan(None)
    return curve.with_columns(pl.when(is_measured).then(figures))


def _facts(fitted: FitResult, *, is_measured: bool) -> dict[str, int | float]:
    """Returns counts of a training; its metric only if all validation events are measurable, as
    required by the gate."""
    search = [report for report in fitted.history if report.phase == "search"]
    facts: dict[str, int | float] = {"epochs": len(search), "best_epoch": fitted.best.epoch}
    if is_measured and not math.isnan(fitted.best.validation_ndcg):
        facts["validation_ndcg"] = round(fitted.best.validation_ndcg, 4)
    facts["sequences_per_second"] = round(
        median(report.sequences_per_second for report in fitted.history)
    )
    return facts


def time_notes(fitted: FitResult, config: TriThreadConfig, sequences: Sequences) -> list[str]:
    """Returns notes about parts of the training that the time budget ended."""
    if fitted.stopped != "max_seconds" and not fitted.refit_cut:
        return []
    search = [report for report in fitted.history if report.phase == "search"]
    budget = duration_text(config.train.max_seconds or 0)
    notes = []
    if fitted.stopped == "max_seconds":
        notes.append(
            f"training ended by the {TIME_BUDGET} ({budget}) at epoch {len(search)} of at most "
            f"{config.train.max_epochs}; the best is epoch {fitted.best.epoch}"
        )
        users = int((np.diff(sequences.training().offsets) >= 2).sum())
        if search[0].sequences < users:
            notes[0] += f", which saw {search[0].sequences:,} of {users:,} users"
    if fitted.refit_cut:
        notes.append(
            f"the {TIME_BUDGET} ({budget}) left no time for the refit: the model was trained "
            "without the validation events"
        )
    return notes
