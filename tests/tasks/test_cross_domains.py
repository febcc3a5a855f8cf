"""Questions across domains: one a cluster and direction, of training events, never a failed run."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from artifacts.kinds.clusters import read_clusters
from artifacts.kinds.crossing_answers import read_crossing_answers
from artifacts.kinds.dataset import read_dataset
from artifacts.manifest import COMPLETE, ArtifactRef
from artifacts.store import Store
from tasks.cluster import ClusterConfig, cluster_items
from tasks.cross_domains import CrossingConfig, cross_domains
from tasks.embed import embed_items
from tasks.frame.stage import StageResult
from tasks.llm.settings.llm_config import LlmConfig
from tasks.llm.shards import shard_run
from tests.fakes import CHAT, EMBEDDINGS, FaultPlan, FaultyServer, faulty_endpoint
from tests.tasks.shops.small_shop import EVENTS, InlineShards, SmallShop, endpoints_at

CLUSTERS_ALONE, TWO_ITEMS = CrossingConfig(enabled=True), CrossingConfig(enabled=True, items=2)
HELD_OUT = [3, 4, 7, 8, 11, 12, 15, 16]
"""Positions in EVENTS of the last two events of those users."""


class Crossed:
    """The clusters of a small shop, and whoever is asked across its domains."""

    def __init__(self, store: Store, server: FaultyServer, shop: SmallShop | None = None) -> None:
        self.store, self.server, self.llm = store, server, LlmConfig()
        self.endpoints = endpoints_at(server.base_url, max_retries=0)
        self.dataset: ArtifactRef = (shop or SmallShop()).ingested(store)
        embedding = self.endpoints.embedding
        vectors = embed_items.fn(self.dataset, embedding, self.llm, store.root).ref
        config = ClusterConfig(clusters=3)
        self.clusters = cluster_items.fn(vectors, config, store.root).ref

    def asked(self, config: CrossingConfig = CLUSTERS_ALONE) -> StageResult:
        return cross_domains.fn(
            self.dataset, self.clusters, self.endpoints, self.llm, config, self.store.root
        )

    def prompts(self) -> set[str]:
        return {text for e in self.server.answered if e.route == CHAT for text in e.prompts}


@pytest.fixture(autouse=True)
def inline_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_run, "answer_shard", InlineShards())


@pytest.fixture
def crossed(tmp_path: Path) -> Iterator[Crossed]:
    with faulty_endpoint() as server:
        yield Crossed(Store(tmp_path / "store"), server)


def test_each_cluster_of_a_domain_with_titles_is_asked_once_towards_the_other(
    crossed: Crossed,
) -> None:
    made = crossed.asked()
    data = read_dataset(crossed.store, crossed.dataset)
    grouped = read_clusters(crossed.store, crossed.clusters).with_columns(
        pl.Series("domain", data.items["domain"]), pl.Series("title", data.items["title"])
    )
    expected = grouped.drop_nulls("title").select("domain", "cluster").unique()
    questions = pl.read_parquet(crossed.store.path(made.ref) / "answers.parquet")
    assert questions["item_index"].null_count() == questions.height == expected.height
    assert set(questions.select("source", "cluster").iter_rows()) == set(expected.iter_rows())
    assert all(
        source != domain for source, domain in questions.select("source", "domain").iter_rows()
    )
    assert crossed.server.requests_to(CHAT) == expected.height
    assert made.counts == {"questions": expected.height, "answered": expected.height, "failed": 0}


def test_an_item_leads_to_its_own_answer_before_that_of_its_cluster(crossed: Crossed) -> None:
    of_clusters = read_crossing_answers(crossed.store, crossed.asked().ref)
    asked_before = crossed.server.requests_to(CHAT)
    made = crossed.asked(TWO_ITEMS)
    questions = pl.read_parquet(crossed.store.path(made.ref) / "answers.parquet")
    own = questions.filter(pl.col("item_index").is_not_null())
    assert own["source"].value_counts().sort("source").rows() == [("books", 2), ("gear", 2)]
    # An item alone in its cluster is the same question.
    assert asked_before < crossed.server.requests_to(CHAT) <= asked_before + own.height
    answers = read_crossing_answers(crossed.store, made.ref)
    data = read_dataset(crossed.store, crossed.dataset)
    low, high = data.domain_starts[:2]
    for row, (domain, item) in enumerate(questions.select("domain", "item_index").iter_rows(), 1):
        if item is not None:
            assert answers.answer_of[data.domains.index(domain), item] == row
    assert not answers.answer_of[0, low + 1 : high + 1].any()  # Nothing leads to its own domain.
    same = (of_clusters.answer_of > 0) <= (answers.answer_of > 0)
    assert same.all()
    lengths = np.linalg.norm(answers.vectors, axis=1)
    assert lengths[0] == 0
    assert (lengths[1:] > 0).all()


def test_a_second_run_asks_nothing(crossed: Crossed) -> None:
    first = crossed.asked(TWO_ITEMS)
    before = crossed.server.requests_to(CHAT), crossed.server.requests_to(EMBEDDINGS)
    again = crossed.asked(TWO_ITEMS)
    assert again.reused
    assert again.ref == first.ref
    assert (crossed.server.requests_to(CHAT), crossed.server.requests_to(EMBEDDINGS)) == before


def test_no_held_out_event_changes_a_question(crossed: Crossed, tmp_path: Path) -> None:
    crossed.asked(TWO_ITEMS)
    mutated = SmallShop()
    for position in HELD_OUT:
        _, item, domain, _ = EVENTS[position]
        other = ("gear", "g4") if (domain, item) != ("gear", "g4") else ("books", "b2")
        mutated = mutated.with_event(position, other[1], other[0])
    with faulty_endpoint() as server:
        after = Crossed(Store(tmp_path / "other" / "store"), server, mutated)
        after.asked(TWO_ITEMS)
        assert after.prompts() == crossed.prompts()


def test_questions_without_an_answer_fail_no_run_and_are_asked_again(tmp_path: Path) -> None:
    plan = FaultPlan(refuse="What do they look for in")
    with faulty_endpoint(plan) as server:
        crossed = Crossed(Store(tmp_path / "store"), server)
        made = crossed.asked()
        assert crossed.store.manifest(made.ref).outcome != COMPLETE
        assert made.counts["answered"] == 0
        assert made.counts["failed"] == made.counts["questions"] > 0
        assert not read_crossing_answers(crossed.store, made.ref).answer_of.any()
        server.plan = FaultPlan()
        mended = crossed.asked()
    assert mended.counts["answered"] == made.counts["questions"]
