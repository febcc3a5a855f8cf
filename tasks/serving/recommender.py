"""What was trained, as an object to ask: recommendations for any history, similar items, scores.

    from llm4cdsr import Recommender

    recommender = Recommender.load("artifacts/data")
    recommender.recommend([("food", "B001"), ("kitchen", "B002")], k=10)

It needs neither Prefect nor a language model, and may be asked from several threads.
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
from tasks.serving.catalogue import Catalogue, ItemName
from tasks.serving.recommendation_rows import item_rows, user_rows
from tasks.serving.served_release import (
    LATEST,
    OpenRelease,
    ReleaseFacts,
    open_release,
    release_ref,
)
from tasks.serving.state import ServingState, Wish, serving_state

MOST_EFFECTS = 20
"""Items of a history, the latest, whose effect is asked for: each is a pass of the model."""

_ROW = "row"


class UnknownUserError(LookupError):
    """No such user in the dataset that the release was made from."""


class ItemEmbedder(Protocol):
    """Turns item texts into vectors, with the model that embedded the catalogue."""

    def embed(self, items: pl.DataFrame) -> NDArray[np.float32]:
        """Vectors (rows, width); a row of NaN for an item without a vector of its own.

        Where no item has one, the width may be 0.
        """
        ...


class AddedItems(NamedTuple):
    """What became of the rows given to `Recommender.add_items`.

    Of the `added` ones, those `without_text` stand at the mean of their domain. `known` ones were
    in the catalogue already and stay as they are.
    """

    added: int
    known: int
    without_text: int


class HistoryEffects(NamedTuple):
    """What items of a history, by index and oldest first, do to the score of one item.

    ``effects`` are its score less that without them; ``rank`` is its place among the items of its
    domain that the history lacks, ``ranks_without`` its places where the score is that without
    each.
    """

    items: IntArray
    effects: NDArray[np.float32]
    rank: int
    ranks_without: IntArray


class Recommender:
    """A release, ready to be asked. Made by `Recommender.load`."""

    def __init__(self, release: OpenRelease) -> None:
        self.facts: ReleaseFacts = release.facts
        self._forgettings = release.forgettings
        self.user_ids: list[str] = release.user_ids
        self.last_seen: IntArray = release.last_seen
        self.state: ServingState = serving_state(release)
        self._space = release.space
        self._profiles = release.profiles
        self._index_of_user = {user: index for index, user in enumerate(release.user_ids)}
        self._adding = threading.Lock()

    @classmethod
    def load(cls, store: Store | str | Path, release: str = LATEST) -> Self:
        """Opens the release in use, or another one by its fingerprint.

        Raises:
            NothingServedError: the store serves nothing yet, or has no such release.
            ReleaseDamagedError: one of its files is gone or damaged.
        """
        return cls(open_release(store, release))

    def is_latest(self, store: Store | str | Path) -> bool:
        """Returns whether the store still serves the release that this was loaded from, as it was:
        people may have been forgotten since."""
        opened = store if isinstance(store, Store) else Store(store)
        same = release_ref(opened) == self.facts.ref
        return same and len(forgettings(opened)) == self._forgettings

    @property
    def catalogue(self) -> Catalogue:
        """The items that can be recommended now, added ones included."""
        return self.state.catalogue

    def recommend(
        self,
        history: Iterable[ItemName],
        domain: str | None = None,
        k: int = 10,
        exclude_seen: bool = True,
        filter: pl.Expr | None = None,
    ) -> pl.DataFrame:
        """Returns the best next items after any history, oldest item first.

        The columns are ``domain, rank, item_id, title, score`` (`ITEM_SCHEMA`); rank 1 is best.

        A history without any item gets the most bought items of each domain; their score is their
        share of the domain's events.

        Args:
            history: item ids, or ``(domain, item id)`` where several domains share an id.
            domain: where to look; every domain where None.
            k: items a domain; fewer where the domain has no more.
            exclude_seen: leave out what is in the history.
            filter: keep items for which this holds, as ``pl.col("price") < 20``; over the columns
                of `catalogue.items`.

        Raises:
            UnknownItemError, AmbiguousItemError, UnknownDomainError: the message says what there
                is.
            NanScoreError: the model gives scores that are no numbers.
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
        """Returns `RECOMMENDATION_SCHEMA` for known users, all of them where None, domain after
        domain and in the order given; else as `recommend`. Raises `UnknownUserError` too."""
        chosen = self.user_ids if user_ids is None else list(user_ids)
        users = np.array([self.user_index(user) for user in chosen], np.int64)
        state, wish = self.state, Wish(k, exclude_seen, filter)
        numbers = state.catalogue.domain_numbers(domain)
        found = state.best(state.histories, users, numbers, wish)
        return pl.concat(user_rows(state.catalogue, best, chosen) for best in found.values())

    def score(self, history: Iterable[ItemName], items: Iterable[ItemName]) -> NDArray[np.float32]:
        """Returns the score of each item after the history, (items,). Scores of one domain can be
        compared with each other, not those of two. Raises as `recommend`."""
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
        """Returns the items whose texts are nearest in meaning (`ITEM_SCHEMA`), of one domain or
        of all; the score is the cosine of the embeddings. Raises as `recommend`."""
        state, index = self.state, self.catalogue.index(item)
        cosines = state.vectors @ state.vectors[index]  # (items + 1,)
        numbers = state.catalogue.domain_numbers(domain)
        rows = [state.catalogue.domain_rows(number) for number in numbers]
        pool = np.concatenate([np.arange(r.start + 1, r.stop + 1) for r in rows])
        pool = pool[pool != index]
        best = pool[np.argsort(-cosines[pool], kind="stable")[:k]]
        ranked = Recommendations(np.zeros(1, np.int64), best[None], cosines[best][None])
        return item_rows(state.catalogue, ranked)

    def effects(self, history: Iterable[ItemName], item: ItemName) -> "HistoryEffects":
        """Returns what each of the latest items of a history does to the score of an item: the
        whole model reads the history once more without it. Raises as `recommend`."""
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
        scores[:, met] = -np.inf  # A list leaves out what the user has met.
        ranks = (scores > own[:, None]).sum(axis=1) + 1
        return HistoryEffects(known[places], own[0] - own[1:], int(ranks[0]), ranks[1:])

    def users_of(self, domain: str) -> list[str]:
        """Returns the known users whose every event is in one domain; raises
        `UnknownDomainError`."""
        number = self.catalogue.domain_number(domain)
        only = self._active[:, number] & (self._active.sum(axis=1) == 1)
        return [self.user_ids[user] for user in np.flatnonzero(only).tolist()]

    @cached_property
    def _active(self) -> NDArray[np.bool_]:
        """Where each user has an event, (users, domains)."""
        histories = self.state.histories
        active = np.zeros((len(self.user_ids), len(self.catalogue.domains)), bool)
        users = np.repeat(np.arange(len(self.user_ids)), np.diff(histories.offsets))
        active[users, histories.domain_of(histories.items)] = True
        return active

    def history(self, user_id: str) -> list[tuple[str, str]]:
        """Returns ``(domain, item id)`` of a known user's events, oldest first; raises
        `UnknownUserError`."""
        state = self.state
        return [state.catalogue.keys[i - 1] for i in state.history(self.user_index(user_id))]

    def profile(self, user_id: str) -> str | None:
        """Returns what the language model wrote about a user, if so; raises `UnknownUserError`."""
        return self._profiles.get(self.user_ids[self.user_index(user_id)])

    def user_index(self, user_id: str) -> int:
        """Raises `UnknownUserError`."""
        if user_id not in self._index_of_user:
            raise UnknownUserError(
                f"no user {user_id!r} in the dataset of this release; give a history of items"
            )
        return self._index_of_user[user_id]

    def add_items(
        self,
        items: pl.DataFrame,
        vectors: NDArray[np.floating] | None = None,
        embedder: ItemEmbedder | None = None,
    ) -> AddedItems:
        """Takes new items into the catalogue, without a retrain and without a restart.

        They are scored by their own text and by what the known item of nearest text has come to
        (`model.scoring.new_items`, METHOD 8). Items that are known already stay as they are.

        Args:
            items: ``item_id, domain`` and where known the other columns of an items file.
            vectors: embeddings (rows, width) of the texts, by the model that embedded the
                catalogue; a row of NaN for an item without text.
            embedder: asked for the vectors where none are given; see `embed_new_items`.

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
            placed, lacking = self._space.complete(chosen, unknown[col.DOMAIN].to_list())
            self.state = self.state.with_items(unknown, placed, self._space)
        return AddedItems(unknown.height, known, lacking)


def _rows_of(
    some: pl.DataFrame, items: pl.DataFrame, vectors: NDArray[np.floating]
) -> NDArray[np.float32]:
    if len(vectors) != items.height:
        raise ValueError(f"{len(vectors)} vectors for {items.height} items; give one a row")
    key = pl.col(col.DOMAIN, col.ITEM_ID).cast(pl.String)  # As the catalogue has cast them.
    place = items.with_row_index(_ROW).select(_ROW, key)
    rows = some.join(place, on=[col.DOMAIN, col.ITEM_ID], how="left", maintain_order="left")[_ROW]
    return np.asarray(vectors, np.float32)[rows.to_numpy()]
