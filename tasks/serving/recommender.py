"""The Python API of a release: recommendations for any history, similar items, scores.

    from llm4cdsr import Recommender

    recommender = Recommender.load("artifacts/data")
    recommender.recommend([("food", "B001"), ("kitchen", "B002")], k=10)

It needs neither Prefect nor an LLM, and is thread-safe.
"""

import threading
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts import columns as col
from artifacts.forgotten import forgettings
from artifacts.store import Store
from model.data.sequences import IntArray
from model.scoring.top_k import Recommendations, refuse_unreal
from tasks.serving.catalogue import Catalogue, ItemName, item_rows, user_rows
from tasks.serving.served_release import (
    LATEST,
    OpenRelease,
    ReleaseFacts,
    open_release,
    release_ref,
)
from tasks.serving.state import ServingState, Wish, serving_state
from tasks.serving.user_names import UserNames

MOST_EFFECTS = 20
"""Number of latest items whose effect is computed, each by one forward pass."""

_ROW = "row"


class ItemEmbedder(Protocol):
    """Embeds item texts with the catalogue's model."""

    def embed(self, items: pl.DataFrame) -> NDArray[np.float32]:
        """Returns vectors (rows, width); NaN for items without a vector.

        The width may be 0 without any vector.
        """
        ...


class AddedItems(NamedTuple):
    """Counts of the rows given to `Recommender.add_items`.

    `without_text`: added items with the mean embedding of their domain. `known`: items that are in
    the catalogue and unchanged.
    """

    added: int
    known: int
    without_text: int


class HistoryEffects(NamedTuple):
    """Effects of a history's items, by index and oldest first, on the score of one item.

    ``effects``: its score minus the score without each item; ``rank``: among unseen items of its
    domain; ``ranks_without``: its rank after removal of each item.
    """

    items: IntArray
    effects: NDArray[np.float32]
    rank: int
    ranks_without: IntArray


class Recommender:
    """A loaded release; create by `Recommender.load`."""

    def __init__(self, release: OpenRelease) -> None:
        self.facts: ReleaseFacts = release.facts
        self._forgettings = release.forgettings
        self.user_ids: list[str] = release.user_ids
        self.last_seen: IntArray = release.last_seen
        self.state: ServingState = serving_state(release)
        self._space = release.space
        self._profiles = release.profiles
        self.names = UserNames(release.user_ids, release.shown)
        self._adding = threading.Lock()

    @classmethod
    def load(cls, store: Store | str | Path, release: str = LATEST) -> Self:
        """Loads the served release, or another one by its fingerprint.

        Raises:
            NothingServedError: no release is served, or the release does not exist.
            ReleaseDamagedError: a file is missing or damaged.
        """
        return cls(open_release(store, release))

    def is_latest(self, store: Store | str | Path) -> bool:
        """Returns whether the loaded release is still served and reflects all removals of
        users."""
        opened = store if isinstance(store, Store) else Store(store)
        same = release_ref(opened) == self.facts.ref
        return same and len(forgettings(opened)) == self._forgettings

    @property
    def catalogue(self) -> Catalogue:
        """All recommendable items, including added ones."""
        return self.state.catalogue

    def recommend(
        self,
        history: Iterable[ItemName],
        domain: str | None = None,
        k: int = 10,
        exclude_seen: bool = True,
        filter: pl.Expr | None = None,
    ) -> pl.DataFrame:
        """Returns the top next items after any history (oldest item first).

        The columns are ``domain, rank, item_id, title, score`` (`ITEM_SCHEMA`); rank 1 is best.

        An empty history gets the most popular items of each domain, with their share of the
        domain's events as score.

        Args:
            history: item ids, or ``(domain, item id)`` if an id is not unique.
            domain: of the recommendations; all if None.
            k: items per domain; fewer if the domain has fewer.
            exclude_seen: exclude items of the history.
            filter: condition of items, as ``pl.col("price") < 20``; over the columns of
                `catalogue.items`, in each domain by itself. An item for which it is null is left
                out.

        Raises:
            TypeError: the history is a text, or an id is not; an id of digits is text too.
            InvalidFilterError: the filter is not true or false for each item.
            UnknownItemError, AmbiguousItemError, UnknownDomainError: the message lists
                alternatives.
            NanScoreError: non-finite scores.
        """
        state, wish = self.state, Wish(k, exclude_seen, filter)
        sequences = state.sequences([state.catalogue.indices(history)])
        numbers = state.catalogue.domain_numbers(domain)
        found = state.best(sequences, np.zeros(1, np.int64), numbers, wish)
        return pl.concat(item_rows(state.catalogue, best) for best in found.values())

    def recommend_users(
        self,
        user_ids: Sequence[str] | None = None,
        domain: str | None = None,
        k: int = 10,
        exclude_seen: bool = True,
        filter: pl.Expr | None = None,
    ) -> pl.DataFrame:
        """Returns `RECOMMENDATION_SCHEMA` for known users (all if None), by domain and in the given
        order; otherwise as `recommend`. Raises `UnknownUserError` too."""
        if isinstance(user_ids, str):
            raise TypeError(f"users are a list of ids, not the text {user_ids!r}; put it in a list")
        chosen = self.user_ids if user_ids is None else list(user_ids)
        users = np.array([self.names.index(user) for user in chosen], np.int64)
        state, wish = self.state, Wish(k, exclude_seen, filter)
        numbers = state.catalogue.domain_numbers(domain)
        found = state.best(state.histories, users, numbers, wish)
        return pl.concat(user_rows(state.catalogue, best, chosen) for best in found.values())

    def score(self, history: Iterable[ItemName], items: Iterable[ItemName]) -> NDArray[np.float32]:
        """Returns the score of each item after the history, (items,). Scores are comparable within
        a domain only. Raises as `recommend`."""
        state = self.state
        asked = state.catalogue.indices(items)
        sequences = state.sequences([state.catalogue.indices(history)])
        prefix = sequences.prefixes_of_users(np.zeros(1, np.int64))
        scores, numbers = np.zeros(len(asked), np.float32), sequences.domain_of(asked)
        for number in np.unique(numbers).tolist():
            own = numbers == number
            row = state.scorer.score(prefix, number)[0].float().cpu().numpy()
            scores[own] = row[asked[own] - 1 - sequences.domain_starts[number]]
        refuse_unreal(scores)
        return scores

    def similar(self, item: ItemName, domain: str | None = None, k: int = 10) -> pl.DataFrame:
        """Returns the items with the nearest text embeddings (`ITEM_SCHEMA`), of one domain or all;
        the score is the cosine. Items without text are in no list, and theirs is empty. Raises as
        `recommend`."""
        state, wish = self.state, Wish(k)
        index = state.catalogue.index(item)
        cosines = state.vectors @ state.vectors[index]  # (items + 1,)
        numbers = state.catalogue.domain_numbers(domain)
        rows = [state.catalogue.domain_rows(number) for number in numbers]
        pool = np.concatenate([np.arange(r.start + 1, r.stop + 1) for r in rows])
        pool = pool[(pool != index) & state.has_text[pool] & state.has_text[index]]
        best = pool[np.argsort(-cosines[pool], kind="stable")[: wish.k]]
        ranked = Recommendations(np.zeros(1, np.int64), best[None], cosines[best][None])
        return item_rows(state.catalogue, ranked)

    def effects(self, history: Iterable[ItemName], item: ItemName) -> "HistoryEffects":
        """Returns the effect of each of the latest items of a history on the score of an item: the
        model scores the history without it. Raises as `recommend`."""
        state = self.state
        asked, known = state.catalogue.index(item), state.catalogue.indices(history)
        places = np.arange(len(known))[-MOST_EFFECTS:]
        lists = [known, *(np.delete(known, place) for place in places)]
        sequences = state.sequences(lists)
        number = int(sequences.domain_of(np.array([asked]))[0])
        prefix = sequences.prefixes_of_users(np.arange(len(lists)))
        scores = state.scorer.score(prefix, number).float().cpu().numpy()
        refuse_unreal(scores)
        start = int(sequences.domain_starts[number]) + 1
        own = scores[:, asked - start].copy()
        met = known[sequences.domain_of(known) == number] - start
        scores[:, met] = -np.inf  # Lists exclude seen items.
        ranks = (scores > own[:, None]).sum(axis=1) + 1
        return HistoryEffects(known[places], own[0] - own[1:], int(ranks[0]), ranks[1:])

    def users_of(self, domain: str) -> list[str]:
        """Returns the known users with events in one domain only; raises `UnknownDomainError`."""
        number = self.catalogue.domain_number(domain)
        only = self._active[:, number] & (self._active.sum(axis=1) == 1)
        return [self.user_ids[user] for user in np.flatnonzero(only).tolist()]

    @cached_property
    def _active(self) -> NDArray[np.bool_]:
        return self.state.histories.activity()

    def history(self, user_id: str) -> list[tuple[str, str]]:
        """Returns ``(domain, item id)`` of a known user's events, oldest first; raises
        `UnknownUserError`."""
        state = self.state
        return [state.catalogue.keys[i - 1] for i in state.history(self.names.index(user_id))]

    def profile(self, user_id: str) -> str | None:
        """Returns a user's profile, None without one; raises `UnknownUserError`."""
        return self._profiles.get(self.user_ids[self.names.index(user_id)])

    def add_items(
        self,
        items: pl.DataFrame,
        vectors: NDArray[np.floating] | None = None,
        embedder: ItemEmbedder | None = None,
    ) -> AddedItems:
        """Adds new items to the catalogue without retraining or restart.

        They are scored by their text and by the inherited vectors of the nearest known item
        (`model.scoring.new_items`, METHOD 8). Known items are unchanged.

        Args:
            items: ``item_id, domain`` and optionally the other columns of an items file.
            vectors: text embeddings (rows, width) by the catalogue's model; NaN rows for items
                without text.
            embedder: computes the vectors if none are given; see `embed_new_items`.

        Raises:
            InvalidItemsError, WrongVectorsError.
        """
        with self._adding:
            unknown = self.catalogue.unknown(items)
            known = items.height - unknown.height
            if unknown.is_empty():
                return AddedItems(0, known, 0)
            if vectors is not None:
                chosen = _rows_of(unknown, items, vectors)
            elif embedder is not None:
                chosen = embedder.embed(unknown)
            else:
                raise ValueError("give vectors, or an embedder that makes them from the texts")
            placed, has_text = self._space.complete(chosen, unknown[col.DOMAIN].to_list())
            self.state = self.state.with_items(unknown, placed, has_text, self._space)
        return AddedItems(unknown.height, known, int((~has_text).sum()))


def _rows_of(
    some: pl.DataFrame, items: pl.DataFrame, vectors: NDArray[np.floating]
) -> NDArray[np.float32]:
    if len(vectors) != items.height:
        raise ValueError(
            f"{len(vectors)} vectors for {items.height} items; one per row is required"
        )
    key = pl.col(col.DOMAIN, col.ITEM_ID).cast(pl.String)  # As the catalogue has cast them.
    place = items.with_row_index(_ROW).select(_ROW, key)
    rows = some.join(place, on=[col.DOMAIN, col.ITEM_ID], how="left", maintain_order="left")[_ROW]
    return np.asarray(vectors, np.float32)[rows.to_numpy()]
