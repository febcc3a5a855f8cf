"""Stage 8, model to recommendations: the best items of every domain for every user."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from artifacts import columns as col
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.kinds.results import RECOMMENDATION_SCHEMA, RECOMMENDATIONS
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Draft, Store
from artifacts.strict import Strict
from model.checkpoint import load_model
from model.data.sequences import IntArray, Sequences
from model.scoring.model_scorer import ModelScorer, Scorer
from model.scoring.top_k import Recommendations, recommend_domains
from model.scoring.top_k import recommend as best_items
from model.training.processes import alone
from tasks.frame.model_inputs import sequences_of
from tasks.frame.progress import progress
from tasks.frame.stage import StageResult, run_stage
from tasks.promoting.quality_guards import recommendation_counts

BLOCK_USERS = 8192
"""Users whose recommendations are in memory at a time."""


class RecommendationConfig(Strict):
    """What is recommended."""

    per_domain: int = Field(default=10, ge=1, description="Items a user and domain.")
    exclude_seen: bool = Field(default=True, description="Leave out what the user has met.")


@task(name="recommend", task_run_name="recommend", cache_policy=NO_CACHE)
def recommend(
    dataset: ArtifactRef,
    model: ArtifactRef,
    config: RecommendationConfig,
    store_root: str,
    device: str = "cpu",
) -> StageResult:
    """Returns the recommendations (`RECOMMENDATION_SCHEMA`) after each user's whole history.

    Every user gets items of every domain, also of those in which the user was never active, and
    every item can be recommended, also one that nobody bought. ``device`` is where scores are
    computed, as in `TrainingConfig`.
    """
    store = Store(store_root)
    wanted = identity(Kind.RECOMMENDATIONS, config, {"dataset": dataset, "model": model})

    def make(draft: Draft) -> None:
        data = read_dataset(store, dataset)
        fitted, _ = load_model(store.path(model), alone(device).device)
        path = draft.path / RECOMMENDATIONS
        _write(path, _blocks(data, ModelScorer(fitted), config))
        draft.notes.extend(store.manifest(model).notes)
        listed = pl.read_parquet(path, columns=[col.USER_ID, col.DOMAIN, col.ITEM_ID], glob=False)
        draft.counts.update(recommendation_counts(data, listed))

    return run_stage(store, "recommend", wanted, make)


def recommendations(data: Dataset, scorer: Scorer, config: RecommendationConfig) -> pl.DataFrame:
    """Returns the table of recommendations of all users, by user and domain, best first."""
    return pl.concat(_blocks(data, scorer, config))


def _write(path: Path, blocks: Iterator[pl.DataFrame]) -> None:
    """Writes block after block: only one is in memory."""
    oldest = pl.CompatLevel.oldest()
    schema = RECOMMENDATION_SCHEMA.to_frame().to_arrow(compat_level=oldest).schema
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for block in blocks:
            writer.write_table(block.to_arrow(compat_level=oldest))


def _blocks(data: Dataset, scorer: Scorer, config: RecommendationConfig) -> Iterator[pl.DataFrame]:
    """Gives the table in blocks of users, who are in the order of their ids."""
    sequences = sequences_of(data)
    users = data.users.sort(col.USER_ID)[col.USER_INDEX].to_numpy().astype(np.int64)
    users = users[np.diff(data.offsets)[users] > 0]
    yield _named(data, users[:0], np.zeros((0, 1), np.int64), np.zeros((0, 1)))
    with progress("recommend", len(users)) as bar:
        for begin in range(0, len(users), BLOCK_USERS):
            block = users[begin : begin + BLOCK_USERS]
            best = _best_items(scorer, sequences, block, config)
            parts = [_named(data, block, found.items, found.scores) for found in best]
            yield pl.concat(parts).sort(col.USER_ID, col.DOMAIN, col.RANK)
            bar.advance(len(block))


def _best_items(
    scorer: Scorer, sequences: Sequences, users: IntArray, config: RecommendationConfig
) -> list[Recommendations]:
    """Returns the best items of each domain; a model reads a history once for all of them."""
    domains, wish = range(sequences.domain_count), (config.per_domain, config.exclude_seen)
    if isinstance(scorer, ModelScorer):
        return list(recommend_domains(scorer, sequences, users, domains, *wish).values())
    return [best_items(scorer, sequences, users, domain, *wish) for domain in domains]


def _named(data: Dataset, users: np.ndarray, items: np.ndarray, scores: np.ndarray) -> pl.DataFrame:
    count = items.shape[1]
    flat = pl.DataFrame(
        {
            col.USER_INDEX: np.repeat(users, count).astype(np.uint32),
            col.ITEM_INDEX: items.reshape(-1).astype(np.uint32),
            col.RANK: np.tile(np.arange(1, count + 1, dtype=np.int32), len(users)),
            col.SCORE: scores.reshape(-1).astype(np.float32),
        }
    ).filter(pl.col(col.ITEM_INDEX) > 0)
    return (
        flat.join(data.users.select(col.USER_INDEX, col.USER_ID), on=col.USER_INDEX)
        .join(
            data.items.select(col.ITEM_INDEX, col.ITEM_ID, col.DOMAIN, col.TITLE), on=col.ITEM_INDEX
        )
        .select(list(RECOMMENDATION_SCHEMA))
    )
