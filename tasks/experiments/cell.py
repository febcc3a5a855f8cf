"""One cell of an experiment: training of a model and ranks of the held-out events.

A cell is an artifact, identified by data and recipe, so all grids share finished cells; a killed
one resumes from its last complete epoch.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from pydantic import JsonValue

from artifacts import columns as col
from artifacts.drafts import Draft
from artifacts.kinds.results import COLD_DOMAIN, FULL, RANKS, read_candidates
from artifacts.manifest import ArtifactRef, Identity, Kind, identity
from artifacts.store import Store
from model.baselines.registry import BASELINES, COLD_BASELINES
from model.baselines.text_bridge import TextBridge
from model.data.overlap import has_own_domain_history, unlink
from model.data.sequences import TEST, IntArray, Prefixes, Sequences
from model.scoring.model_scorer import ModelScorer, Scorer
from model.scoring.ranking import Ranks, rank_all, rank_sampled
from model.training.processes import alone
from model.training.trainer import FitResult, fit
from tasks.experiments.grid import BaselineRecipe, Cell, NeuralRecipe, ProfileSource, Saw
from tasks.frame.epoch_progress import EpochProgress
from tasks.frame.model_inputs import load_profiles, load_sequences, load_tables
from tasks.frame.progress import progress
from tasks.promoting.stored_ranks import rank_rows
from tasks.reporting.facts.withheld_domains import withheld_items


class CellData(NamedTuple):
    """Common artifacts of a dataset's cells."""

    dataset: ArtifactRef
    tables: ArtifactRef
    profiles: dict[ProfileSource, ArtifactRef]
    candidates: dict[int, ArtifactRef]


class _Question(NamedTuple):
    """Histories to fit on, held-out events to rank, and their users."""

    sequences: Sequences
    prefixes: Prefixes
    users: IntArray  # (R,) index in the dataset
    rows: IntArray  # (R,) row of the stored candidates
    is_withheld: bool = False  # all items of withheld domains, without drawn candidates


def cell_identity(cell: Cell, data: CellData) -> Identity:
    """Returns the identity of a cell. Default fields of the configuration are excluded, so that new
    switches keep finished cells valid."""
    parents = {"dataset": data.dataset}
    parents |= {f"candidates-{count}": ref for count, ref in data.candidates.items()}
    parameters: dict[str, JsonValue] = {}
    if cell.overlap is not None:
        parameters["overlap"] = cell.overlap.model_dump(mode="json")
    if isinstance(cell.recipe, BaselineRecipe):
        parameters |= {"baseline": cell.recipe.name, "saw": cell.recipe.saw.value}
        if cell.recipe.reads_texts:
            parents["tables"] = data.tables
    else:
        parents["tables"] = data.tables
        if cell.recipe.profiles is not ProfileSource.NONE:
            parents["profiles"] = data.profiles[cell.recipe.profiles]
        config = cell.recipe.config.model_dump(mode="json", exclude_defaults=True)
        parameters |= {"config": config, "seed": cell.recipe.config.train.seed}
    return identity(Kind.CELL, parameters, parents)


def make_cell(store: Store, cell: Cell, data: CellData, device: str = "cpu") -> bool:
    """Makes a missing cell; returns False if another process is making it.

    ``device`` is where it trains ("cpu", "cuda", "auto") and no part of its identity.

    Raises:
        NanScoreError, DivergedError, NothingToLearnError, CheckpointError.
    """
    wanted = cell_identity(cell, data)
    lock = FileLock(store.workspace("cells") / f"{wanted.fingerprint}.lock")
    try:
        with lock.acquire(timeout=0):
            if store.find(wanted) is None:
                with store.create(wanted) as draft:
                    _fill(draft, store, cell, data, device)
            store.drop_workspace(_workspace(wanted))
    except Timeout:
        return False
    return True


def _workspace(wanted: Identity) -> str:
    return f"cell-{wanted.fingerprint}"


def _fill(draft: Draft, store: Store, cell: Cell, data: CellData, device: str) -> None:
    asked = _question(store, cell, data)
    started = time.perf_counter()
    if isinstance(cell.recipe, BaselineRecipe):
        scorer = _baseline(store, cell.recipe, data, asked.sequences)
        draft.counts["train_seconds"] = round(time.perf_counter() - started, 3)
    else:
        fitted = _fitted(store, cell, data, asked.sequences, device)
        draft.counts.update(_training_facts(fitted))
        scorer = ModelScorer(fitted.model)
    started = time.perf_counter()
    ranking = COLD_DOMAIN if asked.is_withheld else FULL
    tables = [_rank_table(ranking, rank_all(scorer, asked.prefixes), asked)]
    for count, ref in ({} if asked.is_withheld else data.candidates).items():
        drawn = read_candidates(store, ref)[asked.rows]
        ranks = rank_sampled(scorer, asked.prefixes, drawn)
        tables.append(_rank_table(str(count), ranks, asked))
    draft.counts["rank_seconds"] = round(time.perf_counter() - started, 3)
    draft.counts["test_events"] = len(asked.users)
    write_ranks(pl.concat(tables), draft.path / RANKS)


def _question(store: Store, cell: Cell, data: CellData) -> _Question:
    sequences = load_sequences(store, data.dataset)
    if len(withheld := withheld_items(sequences)):
        rows = np.arange(len(withheld))
        return _Question(sequences, withheld, withheld.users, rows, is_withheld=True)
    prefixes = sequences.prefixes_of_split(TEST)
    if cell.overlap is None:
        return _Question(sequences, prefixes, prefixes.users, np.arange(len(prefixes)))
    row_of_user = np.full(sequences.user_count, -1)
    row_of_user[prefixes.users] = np.arange(len(prefixes))
    cut = unlink(sequences, cell.overlap.share / 100, cell.overlap.seed)
    prefixes = cut.sequences.prefixes_of_split(TEST)
    prefixes = prefixes.select(np.flatnonzero(has_own_domain_history(prefixes)))
    users = cut.original_users[prefixes.users]
    return _Question(cut.sequences, prefixes, users, row_of_user[users])


def _baseline(store: Store, recipe: BaselineRecipe, data: CellData, sequences: Sequences) -> Scorer:
    if recipe.saw is Saw.TRAIN_AND_VALIDATION:
        sequences = sequences.with_validation_in_training()
    if recipe.reads_texts:
        return TextBridge.fit(sequences, load_tables(store, data.tables).global_table)
    return {**COLD_BASELINES, **BASELINES}[recipe.name](sequences)


def _fitted(
    store: Store, cell: Cell, data: CellData, sequences: Sequences, device: str
) -> FitResult:
    """Trains a model, or resumes the training of a killed process."""
    assert isinstance(cell.recipe, NeuralRecipe)
    config, profiles = cell.recipe.config, data.profiles.get(cell.recipe.profiles)
    with progress(cell.label, config.train.max_epochs) as bar:
        return fit(
            sequences,
            load_tables(store, data.tables),
            config,
            profiles=None if profiles is None else load_profiles(store, profiles),
            checkpoint_folder=store.workspace(_workspace(cell_identity(cell, data))),
            on_epoch=EpochProgress(bar),
            process_group=alone(device),
        )


def _training_facts(fitted: FitResult) -> dict[str, int | float]:
    """Returns training facts; seconds are summed over epochs, without validation."""
    was_validated = not np.isnan(fitted.best.validation_ndcg)
    return {
        "train_seconds": round(sum(report.seconds for report in fitted.history), 1),
        "epochs": len(fitted.history),
        "best_epoch": fitted.best.epoch,
        "stopped_by_limit": int(was_validated and fitted.stopped != "patience"),
        "validation_ndcg": round(float(np.nan_to_num(fitted.best.validation_ndcg)), 5),
    }


def write_ranks(ranks: pl.DataFrame, path: Path) -> None:
    """Writes a cell's rank table, compressed."""
    of_few_values = ["ranking", "equal", "candidates"]
    packed = dict.fromkeys(set(ranks.columns) - set(of_few_values), "DELTA_BINARY_PACKED")
    pq.write_table(
        ranks.to_arrow(),
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=of_few_values,  # pyright: ignore[reportArgumentType]
        column_encoding=packed,  # pyright: ignore[reportArgumentType]
    )


def _rank_table(ranking: str, ranks: Ranks, asked: _Question) -> pl.DataFrame:
    """Returns one row per held-out event or withheld item, in the dataset's order of users."""
    rows = rank_rows(replace(ranks, users=asked.users), asked.prefixes.targets)
    rows = rows.select(pl.lit(ranking).alias("ranking"), pl.all().cast(pl.Int32))
    return rows.sort(col.USER_INDEX, maintain_order=True)
