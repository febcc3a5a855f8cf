"""Immutable state of a service: catalogue, scorer, histories.

Adding items makes a new state, so item indices of a state remain valid.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts import columns as col
from artifacts.kinds.item_vectors import projected
from artifacts.user_error import UserError
from model.data.sequences import IntArray, Sequences, sequences_from_lists
from model.data.tables import ItemTables
from model.scoring.model_scorer import ModelScorer
from model.scoring.new_items import with_catalogue
from model.scoring.top_k import EXACT_UP_TO, Recommendations, recommend_indexed
from tasks.frame.ann_index import AnnIndex, ann_indices
from tasks.serving.catalogue import Catalogue
from tasks.serving.served_release import OpenRelease
from tasks.serving.text_space import TextSpace


class InvalidFilterError(UserError, ValueError):
    """The filter is not a condition of items."""


class Reason(NamedTuple):
    """An item of the history, by index, and the cosine of its text with the recommended one's."""

    item: int
    similarity: float


@dataclass(frozen=True)
class Wish:
    """Options of a request: `k` items per domain, of those that match `filter`."""

    k: int = 10
    exclude_seen: bool = True
    filter: pl.Expr | None = None

    def __post_init__(self) -> None:
        if operator.index(self.k) < 1:
            raise ValueError(f"k={self.k}: at least one item is required")


@dataclass(frozen=True)
class ServingState:
    """`vectors` (items + 1, width) are the texts' embeddings, L2-normalised; `has_text` marks the
    items with one, (items + 1,), the others are at the mean of their domain; `indices`: search
    indices of large domains."""

    catalogue: Catalogue
    scorer: ModelScorer
    vectors: NDArray[np.float32]
    has_text: NDArray[np.bool_]
    histories: Sequences
    indices: dict[int, AnnIndex]

    def best(
        self, sequences: Sequences, users: IntArray, domains: Sequence[int], wish: Wish
    ) -> dict[int, Recommendations]:
        """Returns the top items of some domains after the histories of some rows of `sequences`.

        For empty histories these are the most popular items, with their share of the domain's
        events as score.
        """
        allowed = {} if wish.filter is None else self._allowed(domains, wish.filter)
        found = recommend_indexed(
            self.scorer, self.indices, sequences, users, domains, wish.k, wish.exclude_seen, allowed
        )
        for domain in domains:
            self._fill_empty(sequences, found[domain], domain, allowed.get(domain))
        return found

    def sequences(self, histories: Sequence[IntArray]) -> Sequences:
        """Returns given histories in the model's format."""
        starts = self.catalogue.domain_starts.tolist()
        lists = [history.tolist() for history in histories]
        return sequences_from_lists(lists, starts, self.catalogue.domains)

    def history(self, user: int) -> IntArray:
        """Returns the item indices of a known user's events, oldest first."""
        offsets = self.histories.offsets
        return self.histories.items[offsets[user] : offsets[user + 1]]

    def reasons(self, history: IntArray, item: int, count: int = 2) -> list[Reason]:
        """Returns the items of a history with the nearest text embeddings to a recommended item;
        none without a text."""
        distinct = np.unique(history)
        distinct = distinct[self.has_text[distinct] & self.has_text[item]]
        cosines = self.vectors[distinct] @ self.vectors[item]
        best = np.argsort(-cosines, kind="stable")[:count]
        return [Reason(int(distinct[place]), float(cosines[place])) for place in best]

    def with_items(
        self,
        items: pl.DataFrame,
        vectors: NDArray[np.float32],
        has_text: NDArray[np.bool_],
        space: TextSpace,
    ) -> "ServingState":
        """Returns the state with added items; `vectors` (rows, width) and `has_text` (rows,) are of
        their texts."""
        catalogue, previous = self.catalogue.with_items(items)
        new = np.flatnonzero(previous == 0)[1:]
        # The catalogue groups by domain, so the order of new rows may differ from `items`.
        place = {key: row for row, key in enumerate(items.select(_KEY).iter_rows())}
        keys = [catalogue.keys[index - 1] for index in new.tolist()]
        rows = [place[key] for key in keys]
        placed = vectors[rows]

        model = self.scorer.model
        global_table = model.global_table.detach().cpu().numpy()[previous]
        global_table[new] = projected(placed, space.projections, "global", global_table.shape[1])
        # `with_catalogue` computes local rows.
        blank = np.zeros((len(previous), model.config.hidden), np.float32)
        tables = ItemTables(global_table, blank)
        scorer = ModelScorer(with_catalogue(model, tables, catalogue.domain_starts, previous))
        normalised = self.vectors[previous]
        normalised[new] = unit_rows(placed)
        marked = self.has_text[previous]
        marked[new] = has_text[rows]
        histories = _renumbered(self.histories, catalogue, previous)
        return ServingState(catalogue, scorer, normalised, marked, histories, _indices(scorer))

    def _allowed(self, domains: Sequence[int], filter: pl.Expr) -> dict[int, NDArray[np.bool_]]:
        if not isinstance(filter, pl.Expr):
            raise InvalidFilterError(
                f"a filter is a Polars expression, as pl.col('price') < 20; got a "
                f"{type(filter).__name__}"
            )
        return {
            domain: _held(self.catalogue.items[self.catalogue.domain_rows(domain)], filter)
            for domain in domains
        }

    def _fill_empty(
        self,
        sequences: Sequences,
        best: Recommendations,
        domain: int,
        allowed: NDArray[np.bool_] | None,
    ) -> None:
        lengths = sequences.offsets[best.users + 1] - sequences.offsets[best.users]
        empty = np.flatnonzero(lengths == 0)
        if not len(empty):
            return
        popular = self.catalogue.most_popular(domain)
        bought = self.catalogue.popularity[popular]
        if allowed is not None:
            kept = allowed[popular - 1 - self.catalogue.domain_starts[domain]]
            popular = popular[kept]
        popular = popular[: best.items.shape[1]]
        best.items[empty], best.scores[empty] = 0, -np.inf
        best.items[empty, : len(popular)] = popular
        shares = self.catalogue.popularity[popular] / max(1, bought.sum())
        best.scores[empty, : len(popular)] = shares


def serving_state(release: OpenRelease) -> ServingState:
    """Returns the state of a release without added items."""
    scorer = ModelScorer(release.model)
    return ServingState(
        release.catalogue,
        scorer,
        unit_rows(release.vectors),
        release.has_text,
        release.histories,
        _indices(scorer),
    )


def _indices(scorer: ModelScorer) -> dict[int, AnnIndex]:
    return ann_indices((of.cpu().numpy() for of in scorer.vectors), EXACT_UP_TO)


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns rows normalised to unit length; zero rows are unchanged."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


def _held(items: pl.DataFrame, filter: pl.Expr) -> NDArray[np.bool_]:
    try:
        held = items.with_columns(filter.alias(_HELD))[_HELD]
    except pl.exceptions.PolarsError as error:
        raise InvalidFilterError(f"the filter cannot be computed: {error}") from error
    if held.dtype != pl.Boolean:
        raise InvalidFilterError(
            f"the filter is {held.dtype} and not true or false; compare it, as pl.col('price') < 20"
        )
    return held.fill_null(False).to_numpy()


def _renumbered(histories: Sequences, catalogue: Catalogue, previous: IntArray) -> Sequences:
    now = np.zeros(histories.item_count + 1, np.int64)
    now[previous] = np.arange(len(previous))
    return Sequences(
        histories.offsets,
        now[histories.items],
        histories.split,
        catalogue.domain_starts,
        catalogue.domains,
    )


_HELD = "held"
_KEY = (col.DOMAIN, col.ITEM_ID)
