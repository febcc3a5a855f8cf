"""What was trained, as an object to ask: recommendations for any history, similar items, scores.

    from tasks.recommender import Recommender

    recommender = Recommender.load("artifacts/data")
    recommender.recommend([("food", "B001"), ("kitchen", "B002")], k=10)

It needs neither Prefect nor a language model, and may be asked from several threads. A release
that the scorer ranks exactly up to `EXACT_UP_TO` items a domain; beyond, an index proposes and the
model scores what it proposes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts import columns as col
from artifacts.results import RECOMMENDATION_SCHEMA
from artifacts.store import Store
from model.new_items import with_catalogue
from model.recommend import Recommendations, recommend, recommend_among
from model.scoring import ModelScorer
from model.sequences import IntArray, Sequences, sequences_from_lists
from model.tables import ItemTables
from tasks.ann_index import EXACT_UP_TO, AnnIndex
from tasks.catalogue import Catalogue, ItemName
from tasks.release import LATEST, OpenRelease, ReleaseFacts, open_release
from tasks.text_space import TextSpace

ITEM_SCHEMA = pl.Schema(
    {name: kind for name, kind in RECOMMENDATION_SCHEMA.items() if name != col.USER_ID}
)
"""``domain, rank, item_id, title, score``: a list of items, rank 1 first."""


class UnknownUser(LookupError):
    """No such user in the dataset that the release was made from."""


class ItemEmbedder(Protocol):
    """Turns item texts into vectors, with the model that embedded the catalogue."""

    def embed(self, items: pl.DataFrame) -> NDArray[np.float32]:
        """Vectors (rows, width); a row of NaN for an item without a usable text."""
        ...


class AddedItems(NamedTuple):
    """What became of the rows given to `Recommender.add_items`.

    Of the `added` ones, those `without_text` stand at the mean of their domain. `known` ones were
    in the catalogue already and stay as they are.
    """

    added: int
    known: int
    without_text: int


class Reason(NamedTuple):
    """An item of the history, by index, and the cosine of its text with the recommended one's."""

    item: int
    similarity: float


@dataclass(frozen=True)
class _Served:
    """All that changes when items are added, replaced as one: no reader sees half of it."""

    catalogue: Catalogue
    scorer: ModelScorer
    vectors: NDArray[np.float32]  # (items + 1, width), L2-normalised
    histories: Sequences
    indices: dict[int, AnnIndex]


class Recommender:
    """A release, ready to be asked. Made by `Recommender.load`."""

    def __init__(self, release: OpenRelease) -> None:
        self.facts: ReleaseFacts = release.facts
        self.user_ids: list[str] = release.user_ids
        self.last_seen: IntArray = release.last_seen
        self._index_of_user = {user: index for index, user in enumerate(release.user_ids)}
        self._profiles = release.profiles
        self._space: TextSpace = release.space
        scorer = ModelScorer(release.model)
        vectors = _normalised(release.vectors)
        self._served = _Served(
            release.catalogue, scorer, vectors, release.histories, _indices(scorer)
        )

    @classmethod
    def load(cls, store: Store | str | Path, release: str = LATEST) -> Self:
        """Opens the release in use, or another one by its fingerprint.

        Raises:
            NothingServed: the store serves nothing yet, or has no such release.
        """
        return cls(open_release(store, release))

    @property
    def catalogue(self) -> Catalogue:
        """The items that can be recommended now, added ones included."""
        return self._served.catalogue

    def recommend(
        self,
        history: Iterable[ItemName],
        domain: str | None = None,
        k: int = 10,
        exclude_seen: bool = True,
        filter: pl.Expr | None = None,
    ) -> pl.DataFrame:
        """Returns the best next items (`ITEM_SCHEMA`) after any history, oldest item first.

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
            UnknownItem, AmbiguousItem, UnknownDomain: see `catalogue`.
        """
        served = self._served
        indices = served.catalogue.indices(history)
        found = self._top([indices], _domains(served, domain), k, exclude_seen, filter, served)
        return pl.concat([_table(served.catalogue, n, best) for n, best in found.items()]).select(
            list(ITEM_SCHEMA)
        )

    def recommend_users(
        self,
        user_ids: Sequence[str] | None = None,
        domain: str | None = None,
        k: int = 10,
        exclude_seen: bool = True,
        filter: pl.Expr | None = None,
    ) -> pl.DataFrame:
        """Returns `RECOMMENDATION_SCHEMA` for known users, all of them where None; else as
        `recommend`. Raises `UnknownUser`."""
        chosen = self.user_ids if user_ids is None else user_ids
        users = np.array([self.user_index(user) for user in chosen], np.int64)
        served, parts = self._served, []
        for number in _domains(served, domain):
            best = _best(served, served.histories, users, number, k, exclude_seen, filter)
            parts.append(_table(served.catalogue, number, best))
        names = pl.Series(col.USER_ID, chosen, pl.String)
        return (
            pl.concat(parts)
            .with_columns(names.gather(pl.concat(parts)["row"]).alias(col.USER_ID))
            .select(list(RECOMMENDATION_SCHEMA))
        )

    def top_items(
        self,
        histories: Sequence[IntArray],
        domains: Sequence[int],
        k: int,
        exclude_seen: bool = True,
    ) -> dict[int, Recommendations]:
        """Returns by domain the best item indices of many histories at once: row ``r`` of each is
        ``histories[r]``. The form for services; `recommend` is the one for people."""
        return self._top(histories, domains, k, exclude_seen, None, self._served)

    def score(
        self, history: Iterable[ItemName], items: Iterable[ItemName]
    ) -> NDArray[np.float32]:
        """Returns the score of each item after the history, (items,). Scores of one domain can be
        compared with each other. Raises as `recommend`."""
        served = self._served
        asked = served.catalogue.indices(items)
        sequences = _sequences(served.catalogue, [served.catalogue.indices(history)])
        prefix = sequences.prefixes_of_users(np.zeros(1, np.int64))
        scores = np.zeros(len(asked), np.float32)
        numbers = sequences.domain_of(asked)
        for number in np.unique(numbers).tolist():
            own = numbers == number
            row = served.scorer.score(prefix, number)[0].float().cpu().numpy()
            scores[own] = row[asked[own] - 1 - sequences.domain_starts[number]]
        return scores

    def similar(self, item: ItemName, domain: str | None = None, k: int = 10) -> pl.DataFrame:
        """Returns the items whose texts are nearest in meaning (`ITEM_SCHEMA`), of one domain or
        of all; the score is the cosine of the embeddings. Raises as `recommend`."""
        served = self._served
        index = served.catalogue.index(item)
        cosines = served.vectors @ served.vectors[index]  # (items + 1,)
        allowed = np.zeros(len(cosines), bool)
        for number in _domains(served, domain):
            rows = served.catalogue.domain_rows(number)
            allowed[rows.start + 1 : rows.stop + 1] = True
        allowed[index] = False
        best = np.argsort(np.where(allowed, -cosines, np.inf), kind="stable")
        best = best[: min(k, int(allowed.sum()))]
        return _rows(served.catalogue, best, cosines[best]).with_columns(
            pl.int_range(1, len(best) + 1, dtype=pl.Int32, eager=True).alias(col.RANK)
        ).select(list(ITEM_SCHEMA))

    def reasons(self, history: IntArray, item: int, count: int = 2) -> list[Reason]:
        """Returns the items of a history nearest in meaning to a recommended one, by index."""
        distinct = np.unique(history)
        vectors = self._served.vectors
        cosines = vectors[distinct] @ vectors[item]
        best = np.argsort(-cosines, kind="stable")[:count]
        return [Reason(int(distinct[place]), float(cosines[place])) for place in best]

    def history(self, user_id: str) -> IntArray:
        """Returns the item indices of a user's events, oldest first; raises `UnknownUser`."""
        histories, user = self._served.histories, self.user_index(user_id)
        return histories.items[histories.offsets[user] : histories.offsets[user + 1]]

    def profile(self, user_id: str) -> str | None:
        """Returns what the language model wrote about a user, if it did; raises `UnknownUser`."""
        return self._profiles.get(self.user_ids[self.user_index(user_id)])

    def user_index(self, user_id: str) -> int:
        """Raises `UnknownUser`."""
        if user_id not in self._index_of_user:
            raise UnknownUser(
                f"no user {user_id!r} in the dataset of this release; give a history of items"
            )
        return self._index_of_user[user_id]

    def add_items(
        self,
        items: pl.DataFrame,
        vectors: NDArray[np.float32] | None = None,
        embedder: ItemEmbedder | None = None,
    ) -> AddedItems:
        """Takes new items into the catalogue, without a retrain and without a restart.

        Both threads score them from their text: the global one through the adapter, the local one
        from the stored projection (METHOD 8). Items that are known already stay as they are.

        Args:
            items: ``item_id, domain`` and where known the other columns of an items file.
            vectors: embeddings (rows, width) of the texts, by the model that embedded the
                catalogue; a row of NaN for an item without text.
            embedder: asked for the vectors where none are given; see `tasks.embed_new_items`.

        Raises:
            InvalidItems, WrongVectors.
        """
        served = self._served
        unknown = served.catalogue.unknown(items)
        known = items.height - unknown.height
        if unknown.is_empty():
            return AddedItems(0, known, 0)
        if vectors is not None:
            place = items.with_row_index("row").select("row", col.DOMAIN, col.ITEM_ID)
            rows = unknown.join(place, on=[col.DOMAIN, col.ITEM_ID], maintain_order="left")["row"]
            chosen = np.asarray(vectors, np.float32)[rows.to_numpy()]
        elif embedder is not None:
            chosen = embedder.embed(unknown)
        else:
            raise ValueError("give vectors, or an embedder that makes them from the texts")
        domains = unknown[col.DOMAIN].to_list()
        placed, without_text = self._space.complete(chosen, domains)
        self._served = _grown(served, self._space, unknown, placed)
        return AddedItems(unknown.height, known, without_text)

    def _top(
        self,
        histories: Sequence[IntArray],
        domains: Sequence[int],
        k: int,
        exclude_seen: bool,
        filter: pl.Expr | None,
        served: _Served,
    ) -> dict[int, Recommendations]:
        sequences = _sequences(served.catalogue, histories)
        users = np.arange(len(histories))
        return {
            number: _best(served, sequences, users, number, k, exclude_seen, filter)
            for number in domains
        }


def _best(
    served: _Served,
    sequences: Sequences,
    users: IntArray,
    domain: int,
    k: int,
    exclude_seen: bool,
    filter: pl.Expr | None,
) -> Recommendations:
    if k < 1:
        raise ValueError(f"k={k}: ask for at least one item")
    allowed = None if filter is None else _allowed(served.catalogue, domain, filter)
    index = served.indices.get(domain)
    if index is not None and allowed is None:
        best = recommend_among(
            served.scorer, index, sequences, users, domain, k, exclude_seen
        )
    else:
        best = recommend(served.scorer, sequences, users, domain, k, exclude_seen, allowed)
    _fill_empty(served.catalogue, sequences, best, domain, allowed)
    return best


def _fill_empty(
    catalogue: Catalogue,
    sequences: Sequences,
    best: Recommendations,
    domain: int,
    allowed: NDArray[np.bool_] | None,
) -> None:
    """Gives users without any event the most bought items: the model has no opinion about them."""
    empty = np.flatnonzero(sequences.offsets[best.users + 1] == sequences.offsets[best.users])
    if not len(empty):
        return
    popular = catalogue.most_popular(domain)
    if allowed is not None:
        popular = popular[allowed[popular - 1 - catalogue.domain_starts[domain]]]
    popular = popular[: best.items.shape[1]]
    bought = catalogue.popularity[popular]
    rows = catalogue.domain_rows(domain)
    total = catalogue.popularity[rows.start + 1 : rows.stop + 1].sum()
    best.items[empty], best.scores[empty] = 0, -np.inf
    best.items[empty, : len(popular)] = popular
    best.scores[empty, : len(popular)] = bought / max(1, total)


def _grown(
    served: _Served, space: TextSpace, items: pl.DataFrame, vectors: NDArray[np.float32]
) -> _Served:
    catalogue, previous = served.catalogue.with_items(items)
    new = np.flatnonzero(previous[1:] == 0) + 1
    # The catalogue groups by domain, so its new rows may stand in another order than `items`.
    place = {(d, i): row for row, (d, i) in enumerate(items.select(_KEY).iter_rows())}
    order = [place[catalogue.keys[index - 1]] for index in new.tolist()]
    placed, domains = vectors[order], [catalogue.keys[index - 1].domain for index in new.tolist()]

    model = served.scorer.model
    old_table = model.global_table.detach().cpu().numpy()
    global_table = old_table[previous]
    global_table[new] = space.global_rows(placed)
    local_table = np.zeros((len(previous), model.config.hidden), np.float32)
    local_table[new] = space.local_rows(placed, domains, model.config.hidden)
    tables = ItemTables(global_table, local_table)
    scorer = ModelScorer(with_catalogue(model, tables, catalogue.domain_starts, previous))

    normalised = served.vectors[previous]
    normalised[new] = _normalised(placed)
    return _Served(
        catalogue,
        scorer,
        normalised,
        _renumbered(served.histories, catalogue, previous),
        _indices(scorer),
    )


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


def _indices(scorer: ModelScorer) -> dict[int, AnnIndex]:
    return {
        number: AnnIndex(vectors.cpu().numpy())
        for number, vectors in enumerate(scorer.vectors)
        if len(vectors) > EXACT_UP_TO
    }


def _domains(served: _Served, domain: str | None) -> list[int]:
    catalogue = served.catalogue
    return (
        list(range(len(catalogue.domains)))
        if domain is None
        else [catalogue.domain_number(domain)]
    )


def _sequences(catalogue: Catalogue, histories: Sequence[IntArray]) -> Sequences:
    return sequences_from_lists(histories, catalogue.domain_starts, catalogue.domains)


def _allowed(catalogue: Catalogue, domain: int, filter: pl.Expr) -> NDArray[np.bool_]:
    rows = catalogue.domain_rows(domain)
    kept = catalogue.items[rows].select(filter.fill_null(False).alias("kept"))["kept"]
    return kept.cast(pl.Boolean).to_numpy()


def _table(catalogue: Catalogue, domain: int, best: Recommendations) -> pl.DataFrame:
    """``row`` (of `best`) and the columns of `ITEM_SCHEMA`; places without an item left out."""
    real = best.items > 0
    ranks = np.broadcast_to(np.arange(1, best.items.shape[1] + 1, dtype=np.int32), real.shape)
    table = _rows(catalogue, best.items[real], best.scores[real])
    return table.with_columns(
        pl.Series("row", np.nonzero(real)[0]), pl.Series(col.RANK, ranks[real])
    )


def _rows(catalogue: Catalogue, items: IntArray, scores: NDArray[np.float32]) -> pl.DataFrame:
    names = catalogue.items.select(col.DOMAIN, col.ITEM_ID, col.TITLE)[items - 1]
    return names.with_columns(pl.Series(col.SCORE, scores, pl.Float32))


def _normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)


_KEY = (col.DOMAIN, col.ITEM_ID)
