"""Stage 8, model to recommendations: the best items of every domain for every user."""

import numpy as np
import polars as pl
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
from model.scoring.model_scorer import ModelScorer, Scorer
from model.scoring.top_k import recommend as best_items
from model.training.processes import alone
from tasks.frame.model_inputs import sequences_of
from tasks.frame.progress import progress
from tasks.frame.stage import StageResult, run_stage
from tasks.promoting.quality_guards import recommendation_counts


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
        table = recommendations(data, ModelScorer(fitted), config)
        table.write_parquet(draft.path / RECOMMENDATIONS)
        draft.notes.extend(store.manifest(model).notes)
        draft.counts.update(recommendation_counts(data, table))

    return run_stage(store, "recommend", wanted, make)


def recommendations(data: Dataset, scorer: Scorer, config: RecommendationConfig) -> pl.DataFrame:
    """Returns the table of recommendations of all users, by user and domain, best first."""
    sequences = sequences_of(data)
    users = np.flatnonzero(np.diff(data.offsets) > 0)
    parts = []
    with progress("recommend", len(data.domains)) as bar:
        for number, domain in enumerate(data.domains):
            best = best_items(
                scorer, sequences, users, number, config.per_domain, config.exclude_seen
            )
            parts.append(_named(data, users, best.items, best.scores))
            bar.advance(1, domain)
    return pl.concat(parts).sort(col.USER_ID, col.DOMAIN, col.RANK)


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
