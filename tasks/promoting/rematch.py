"""Comparison of two models on the same held-out events.

Recorded metrics of models of different dumps, or on a sample, are not comparable. The served model
is therefore extended to the new catalogue (METHOD 8: known items keep their rows, new ones inherit
from the nearest known item by text), and both models rank the same events, on which neither was
trained.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.integrity import ArtifactError
from artifacts.kinds.dataset import Dataset, Split, read_dataset
from artifacts.kinds.item_vectors import projected, read_item_embeddings, read_item_tables
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from model.checkpoint import CheckpointError, ModelCard, load_model
from model.data.sequences import TEST, VALIDATION, Prefixes
from model.data.tables import ItemTables
from model.network.tri_thread import TriThread
from model.scoring import measurable
from model.scoring.model_scorer import ModelScorer
from model.scoring.new_items import with_catalogue
from model.scoring.ranking import rank_all, ranking_metrics
from tasks.frame.model_inputs import sequences_of

LEAST_KNOWN_SHARE = 0.5
"""Minimum share of the new catalogue that the served model knows."""

Parts = dict[str, ArtifactRef]
"""A release's artifacts by role, as returned by `artifacts.bundles.parts_of`."""


class NotComparableError(RuntimeError):
    """The served model cannot rank the new data; the message has the reason."""


class CatalogueMismatchError(NotComparableError):
    """The served model has other domains or items, so it cannot serve the new data."""


@dataclass(frozen=True)
class Rematch:
    """NDCG@10 of both models over ``targets`` events of one split."""

    served: float
    candidate: float
    targets: int
    split: str


def rematch(store: Store, served: Parts, candidate: Parts, max_events: int) -> Rematch:
    """Ranks the candidate's held-out events by both models, by full ranking.

    The events are the candidate's validation events, or its test events if it was refitted on the
    former, without training events of the served model; at most a seeded sample of ``max_events``.

    Raises:
        CatalogueMismatchError: the served model has other domains, or fewer than half of the items.
        NotComparableError: other embeddings, a missing artifact, a model of an older version, or no
            event.
    """
    try:
        data, before = (read_dataset(store, parts["dataset"]) for parts in (candidate, served))
        previous = _previous_index(data, before)
        old_model, old_card = load_model(store.path(served["model"]))
        new_model, new_card = load_model(store.path(candidate["model"]))
        grown = _with_new_catalogue(store, served, candidate, data, previous, old_model)
    except (ArtifactError, CheckpointError, ValueError) as error:
        raise NotComparableError(str(error)) from error
    split = TEST if new_card.config.train.refit else VALIDATION
    unseen = _unseen(data, before, old_card, split)
    if len(unseen):
        unseen = unseen.select(np.flatnonzero(measurable.is_measurable(unseen)))
        if not len(unseen):
            raise NotComparableError(
                f"every held-out event has fewer than {measurable.LEAST_CANDIDATES} candidates, so "
                "any model ranks it well"
            )
    asked = unseen.select(unseen.sampled_rows(max_events, np.random.default_rng(0)))
    if not len(asked):
        raise NotComparableError("every held-out event was in the training of the served model")
    found = {
        name: ranking_metrics(rank_all(ModelScorer(model), asked), (10,)).ndcg[10]
        for name, model in (("served", grown), ("candidate", new_model))
    }
    name = Split(split).name.lower()
    return Rematch(found["served"], found["candidate"], len(asked), name)


def _previous_index(data: Dataset, before: Dataset) -> np.ndarray:
    """Returns each item's index in the served catalogue, int64 (items + 1,); 0 for new items."""
    if data.domains != before.domains:
        raise CatalogueMismatchError(
            f"the served model has the domains {', '.join(before.domains)}, "
            f"the new data {', '.join(data.domains)}"
        )
    index = previous_items(data, before)
    share = float((index > 0).mean())
    if share < LEAST_KNOWN_SHARE:
        raise CatalogueMismatchError(f"the served model knows {share:.0%} of the new data's items")
    return np.concatenate([[0], index])


def previous_items(data: Dataset, before: Dataset) -> np.ndarray:
    """Returns each item's index in an earlier catalogue, int64 (items,); 0 for new items."""
    key = [col.DOMAIN, col.ITEM_ID]
    known = before.items.select(*key, pl.col(col.ITEM_INDEX).alias("previous"))
    joined = data.items.join(known, on=key, how="left", maintain_order="left")
    return joined["previous"].fill_null(0).to_numpy().astype(np.int64)


def _with_new_catalogue(
    store: Store,
    served: Parts,
    candidate: Parts,
    data: Dataset,
    previous: np.ndarray,
    model: TriThread,
) -> TriThread:
    _require_one_embedding(store, served, candidate)
    vectors = read_item_embeddings(store, candidate["embeddings"]).vectors
    tables = read_item_tables(store, served["tables"])
    place = tables.projections
    width, hidden = tables.global_table.shape[1], tables.local_table.shape[1]
    global_table = np.zeros((len(vectors), width), np.float32)
    local_table = np.zeros((len(vectors), hidden), np.float32)
    global_table[1:] = projected(vectors[1:], place, "global", width)
    for number, domain in enumerate(data.domains):
        rows = slice(data.domain_starts[number] + 1, data.domain_starts[number + 1] + 1)
        local_table[rows] = projected(vectors[rows], place, f"local.{domain}", hidden)
    return with_catalogue(
        model, ItemTables(global_table, local_table), data.domain_starts, previous
    )


def _require_one_embedding(store: Store, served: Parts, candidate: Parts) -> None:
    old, new = (store.manifest(parts["embeddings"]).parameters for parts in (served, candidate))
    if old != new:
        raise NotComparableError(
            "item texts are embedded by another model or template than the served model's"
        )


def _unseen(data: Dataset, before: Dataset, card: ModelCard, split: int) -> Prefixes:
    """Returns the events of a split that are not training events of the served model."""
    learnt = {Split.TRAIN, Split.VALIDATION} if card.config.train.refit else {Split.TRAIN}
    old = _events(before).filter(pl.col(col.SPLIT).is_in([int(part) for part in learnt]))
    key = [col.USER_ID, col.DOMAIN, col.ITEM_ID, col.TIMESTAMP]
    asked = _events(data).filter(pl.col(col.SPLIT) == split)
    fresh = asked.join(old, on=key, how="anti", maintain_order="left")["row"].to_numpy()
    prefixes = sequences_of(data).prefixes_of_split(split)
    return prefixes.select(np.flatnonzero(np.isin(prefixes.stop, fresh)))


def _events(data: Dataset) -> pl.DataFrame:
    """Returns ``row, split, user_id, domain, item_id, timestamp`` of all events outside of withheld
    domains."""
    events = pl.DataFrame(
        {
            col.SPLIT: data.splits,
            col.USER_INDEX: data.user_of_event.astype(np.uint32),
            col.ITEM_INDEX: data.item_indices.astype(np.uint32),
            col.TIMESTAMP: data.timestamps,
        }
    )
    seen = events.filter(pl.col(col.SPLIT) <= Split.TEST)
    events = seen.with_columns(row=pl.int_range(seen.height))
    users = data.users.select(pl.col(col.USER_INDEX).cast(pl.UInt32), col.USER_ID)
    items = data.items.select(pl.col(col.ITEM_INDEX).cast(pl.UInt32), col.ITEM_ID, col.DOMAIN)
    return events.join(users, on=col.USER_INDEX, maintain_order="left").join(
        items, on=col.ITEM_INDEX, maintain_order="left"
    )
