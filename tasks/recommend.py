"""Stage 8, model to recommendations: top items of every domain for every user.

Users are processed in blocks. In large domains, candidates of a search index are scored exactly,
and the recall against exact lists is measured and reported.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from pydantic import Field

from artifacts import columns as col
from artifacts.drafts import Draft
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.kinds.results import RECOMMENDATION_SCHEMA, RECOMMENDATIONS
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from artifacts.strict import Strict
from model.checkpoint import load_model
from model.data.sequences import IntArray, Sequences
from model.scoring.model_scorer import ModelScorer, Scorer
from model.scoring.top_k import (
    EXACT_UP_TO,
    CandidateSource,
    Recommendations,
    recommend_domains,
    recommend_indexed,
)
from model.scoring.top_k import recommend as best_items
from model.training.processes import alone
from tasks.frame.model_inputs import sequences_of
from tasks.frame.progress import progress
from tasks.frame.stage import StageResult, run_stage, stage_task
from tasks.promoting.quality_guards import INDEX_RECALL, RecommendationCounts

BLOCK_USERS = 8192
"""Users per block."""

RECALL_USERS = 256
"""Number of sampled users for the recall of the index."""


class RecommendationConfig(Strict):
    """Settings of recommendations."""

    per_domain: int = Field(default=10, ge=1, description="Items per user and domain.")
    exclude_seen: bool = Field(default=True, description="Exclude items of the user's history.")
    exact_up_to: int = Field(
        default=EXACT_UP_TO,
        ge=0,
        description="Maximum items of a domain for exhaustive scoring; beyond, candidates of an "
        "index are scored exactly.",
    )


@stage_task("recommend")
def recommend(
    dataset: ArtifactRef,
    model: ArtifactRef,
    config: RecommendationConfig,
    store_root: str,
    device: str = "cpu",
) -> StageResult:
    """Returns the recommendations (`RECOMMENDATION_SCHEMA`) after each user's whole history.

    Every user gets items of every domain, including domains without events of the user, and every
    item can be recommended, including items without purchases. ``device`` is where scores are
    computed, as in `TrainingConfig`.
    """
    store = Store(store_root)
    # Without the default limit, so that older lists keep their identity.
    usual = {"exact_up_to"} if config.exact_up_to == EXACT_UP_TO else set()
    parents = {"dataset": dataset, "model": model}
    wanted = identity(Kind.RECOMMENDATIONS, config.model_dump(exclude=usual), parents)

    def make(draft: Draft) -> None:
        data = read_dataset(store, dataset)
        fitted, _ = load_model(store.path(model), alone(device).device)
        scorer, counted = ModelScorer(fitted), RecommendationCounts(data)
        searched = _indices(scorer, config)
        blocks = _blocks(data, scorer, config, searched)
        write_recommendations(draft.path / RECOMMENDATIONS, counted.each(blocks))
        draft.notes.extend(store.manifest(model).notes)
        draft.counts.update(counted.counts())
        recalls = index_recalls(data, scorer, config, searched)
        if recalls:
            draft.counts[INDEX_RECALL] = round(min(recalls.values()), 4)
            draft.notes.extend(_told(data, config, recalls))

    return run_stage(store, "recommend", wanted, make)


def recommendations(data: Dataset, scorer: Scorer, config: RecommendationConfig) -> pl.DataFrame:
    """Returns the table of recommendations of all users, by user and domain, best first."""
    return pl.concat(_blocks(data, scorer, config, _indices(scorer, config)))


def index_recalls(
    data: Dataset,
    scorer: ModelScorer,
    config: RecommendationConfig,
    searched: Mapping[int, CandidateSource],
) -> dict[int, float]:
    """Returns the recall of the index against exact lists by domain, over a seeded sample of
    users."""
    sequences = sequences_of(data)
    users = np.flatnonzero(np.diff(data.offsets) > 0)
    if len(users) > RECALL_USERS:
        users = np.sort(np.random.default_rng(0).choice(users, RECALL_USERS, replace=False))
    wish = (config.per_domain, config.exclude_seen)
    exact = recommend_domains(scorer, sequences, users, list(searched), *wish)
    proposed = recommend_indexed(scorer, searched, sequences, users, list(searched), *wish)
    recalls = {}
    for domain in searched:
        found, wanted = proposed[domain].items, exact[domain].items
        # Rows are users; item 0 pads short lists.
        hits = (wanted[:, :, None] == found[:, None, :]).any(axis=2) & (wanted > 0)
        recalls[domain] = float(hits.sum() / max(1, (wanted > 0).sum()))
    return recalls


def _indices(scorer: Scorer, config: RecommendationConfig) -> Mapping[int, CandidateSource]:
    """Returns an index of each large domain; for models only."""
    if not isinstance(scorer, ModelScorer):
        return {}
    from tasks.frame.ann_index import ann_indices  # Imports FAISS.

    return ann_indices((of.cpu().numpy() for of in scorer.vectors), config.exact_up_to)


def _told(
    data: Dataset, config: RecommendationConfig, recalls: Mapping[int, float]
) -> Iterator[str]:
    for domain, recall in recalls.items():
        items = int(data.domain_starts[domain + 1] - data.domain_starts[domain])
        yield (
            f"{data.domains[domain]}: of its {items:,} items an index proposed those that were "
            f"scored; recall of exact lists of {config.per_domain}: {recall:.1%}, on at most "
            f"{RECALL_USERS} users. `exact_up_to` of at least {items:,} scores all items"
        )


def write_recommendations(path: Path, blocks: Iterator[pl.DataFrame]) -> None:
    """Writes blocks of the table (`RECOMMENDATION_SCHEMA`), to bound memory."""
    oldest = pl.CompatLevel.oldest()
    schema = RECOMMENDATION_SCHEMA.to_frame().to_arrow(compat_level=oldest).schema
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for block in blocks:
            writer.write_table(block.to_arrow(compat_level=oldest))


def _blocks(
    data: Dataset,
    scorer: Scorer,
    config: RecommendationConfig,
    searched: Mapping[int, CandidateSource],
) -> Iterator[pl.DataFrame]:
    """Yields the table in blocks of users, ordered by id."""
    sequences = sequences_of(data)
    users = data.users.sort(col.USER_ID)[col.USER_INDEX].to_numpy().astype(np.int64)
    users = users[np.diff(data.offsets)[users] > 0]
    yield _named(data, users[:0], np.zeros((0, 1), np.int64), np.zeros((0, 1)))
    with progress("recommend", len(users)) as bar:
        for begin in range(0, len(users), BLOCK_USERS):
            block = users[begin : begin + BLOCK_USERS]
            best = _best_items(scorer, sequences, block, config, searched)
            parts = [_named(data, block, found.items, found.scores) for found in best]
            yield pl.concat(parts).sort(col.USER_ID, col.DOMAIN, col.RANK)
            bar.advance(len(block))


def _best_items(
    scorer: Scorer,
    sequences: Sequences,
    users: IntArray,
    config: RecommendationConfig,
    searched: Mapping[int, CandidateSource],
) -> list[Recommendations]:
    """Returns the top items of each domain; a model reads each history once for all exhaustively
    scored domains."""
    domains, wish = range(sequences.domain_count), (config.per_domain, config.exclude_seen)
    if not isinstance(scorer, ModelScorer):
        return [best_items(scorer, sequences, users, domain, *wish) for domain in domains]
    found = recommend_indexed(scorer, searched, sequences, users, domains, *wish)
    return [found[domain] for domain in domains]


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
