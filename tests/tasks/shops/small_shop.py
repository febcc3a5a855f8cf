"""A dump small enough to reason about by hand, and endpoints that point at a server of a test."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from artifacts.fingerprint import sha256_of
from artifacts.kinds.item_vectors import STATUS, EmbeddingStatus, write_item_embeddings
from artifacts.ledger.answers import Role
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from tasks.dump.dump_config import DumpConfig
from tasks.ingest import ingest
from tasks.llm.providers import dummy_models
from tasks.llm.providers.endpoints import Endpoint, Endpoints
from tasks.llm.settings.llm_config import EndpointSpec, LlmConfig
from tasks.llm.shards.shard import Shard, ShardOutcome
from tasks.llm.shards.shard_run import answer_shard

Event = tuple[str, str, str, int]
"""user_id, item_id, domain, timestamp."""

TITLES = {
    ("gear", "g1"): "Moka Pot Six Cups",
    ("gear", "g2"): "Espresso Grinder Steel",
    ("gear", "g3"): "Trail Running Vest",
    ("gear", "g4"): "Yoga Strap Cotton",
    ("gear", "g5"): None,
    ("books", "b1"): "The Coffee Roasters Handbook",
    ("books", "b2"): "Running Over the Alps",
    ("books", "b3"): "A History of Yoga",
    ("books", "b4"): None,
}
"""Items of a domain without a title have no text at all."""

EVENTS: tuple[Event, ...] = (
    ("ada", "g1", "gear", 1),
    ("ada", "b1", "books", 2),
    ("ada", "g2", "gear", 3),
    ("ada", "g4", "gear", 4),
    ("ada", "b3", "books", 5),
    ("bob", "g3", "gear", 1),
    ("bob", "b2", "books", 2),
    ("bob", "g3", "gear", 3),
    ("bob", "g1", "gear", 4),
    ("cyd", "g5", "gear", 1),
    ("cyd", "g5", "gear", 2),
    ("cyd", "g1", "gear", 3),
    ("cyd", "b1", "books", 4),
    ("dan", "b2", "books", 1),
    ("dan", "g3", "gear", 2),
    ("dan", "b1", "books", 3),
    ("dan", "b3", "books", 4),
    ("eve", "b3", "books", 1),
)
"""cyd's training events have no title; eve has too few events for any to be held out."""


@dataclass(frozen=True)
class SmallShop:
    """A dump in memory; `ingested` writes it and makes its dataset."""

    events: tuple[Event, ...] = EVENTS
    titles: dict[tuple[str, str], str | None] = field(default_factory=lambda: dict(TITLES))
    images: dict[str, str] = field(default_factory=dict)
    """Places of images by item id; without any the dump has no such column."""

    def with_event(self, position: int, item: str, domain: str) -> "SmallShop":
        """The same dump, one event changed to another item."""
        user, _, _, time = self.events[position]
        changed = (user, item, domain, time)
        events = (*self.events[:position], changed, *self.events[position + 1 :])
        return replace(self, events=events)

    def in_order(self, order: Sequence[int]) -> "SmallShop":
        """The same dump with its rows permuted."""
        return replace(self, events=tuple(self.events[i] for i in order))

    def renamed(self, names: dict[str, str]) -> "SmallShop":
        """The same dump with other user ids."""
        return replace(self, events=tuple((names[user], *rest) for user, *rest in self.events))  # type: ignore[misc]

    def ingested(self, store: Store) -> ArtifactRef:
        folder = store.local.parent / "dump"
        folder.mkdir(parents=True, exist_ok=True)
        columns = ["user_id", "item_id", "domain", "timestamp"]
        pl.DataFrame(self.events, schema=columns, orient="row").write_parquet(folder / "e.parquet")
        items = [(item, domain, title) for (domain, item), title in self.titles.items()]
        schema = {"item_id": pl.String, "domain": pl.String, "title": pl.String}
        table = pl.DataFrame(items, schema=schema, orient="row")
        if self.images:
            places = [self.images.get(item) for item in table["item_id"]]
            table = table.with_columns(pl.Series("image", places, pl.String))
        table.write_parquet(folder / "i.parquet")
        dump = DumpConfig(interactions=str(folder / "e.parquet"), items=str(folder / "i.parquet"))
        return ingest.fn(dump, store.root).ref


MODELS = {Role.CHAT: dummy_models.CHAT_MODEL, Role.EMBEDDING: dummy_models.EMBEDDING_MODEL}


def spec_of(
    base_url: str,
    role: Role = Role.EMBEDDING,
    *,
    concurrency: int = 4,
    batch_size: int = 4,
    max_retries: int = 3,
    timeout_seconds: float = 20.0,
    model: str | None = None,
    key_variable: str | None = None,
    outage_seconds: float = 60.0,
) -> EndpointSpec:
    """A spec of the dummy models at any URL."""
    return EndpointSpec(
        role=role,
        base_url=base_url,
        model=model or MODELS[role],
        concurrency=concurrency,
        timeout_seconds=timeout_seconds,
        max_retries=max_retries,
        batch_size=batch_size,
        key_variable=key_variable,
        outage_seconds=outage_seconds,
    )


def endpoint_of(spec: EndpointSpec) -> Endpoint:
    """An endpoint whose server is already there."""
    return Endpoint(spec.model, {}, (), lambda: spec)


def endpoints_at(base_url: str, max_retries: int = 1) -> Endpoints:
    """Both models at one URL."""
    return Endpoints(
        chat=endpoint_of(spec_of(base_url, Role.CHAT, max_retries=max_retries)),
        embedding=endpoint_of(spec_of(base_url, Role.EMBEDDING, max_retries=max_retries)),
    )


LENIENT = LlmConfig(max_failed_share=1.0)
"""For tests of what becomes of failures."""


def stored_embeddings(store: Store, vectors: np.ndarray, is_embedded: np.ndarray) -> ArtifactRef:
    """Item embeddings made by hand: both arrays over items 0 (padding) to the last."""
    made = identity(Kind.ITEM_EMBEDDINGS, {"made": sha256_of(vectors.tolist())}, {})
    word = {True: EmbeddingStatus.EMBEDDED.value, False: EmbeddingStatus.NO_TEXT.value}
    status = pl.DataFrame(
        {
            "item_index": range(1, len(vectors)),
            STATUS: [word[bool(flag)] for flag in is_embedded[1:]],
            "reason": pl.Series([None] * (len(vectors) - 1), dtype=pl.String),
        }
    )
    with store.create(made) as draft:
        write_item_embeddings(draft.path, vectors.astype(np.float32), status)
    return made.ref


class InlineShards:
    """Asks shards one after the other, without a task run a shard."""

    def map(self, shards: list[Shard]) -> "InlineShards":
        self._outcomes = [answer_shard.fn(shard) for shard in shards]
        return self

    def result(self, raise_on_failure: bool = True) -> list[ShardOutcome]:
        return self._outcomes
