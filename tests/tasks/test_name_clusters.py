"""Names of clusters: asked once, from the central titles, and never a reason for a run to fail."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from artifacts.kinds.clusters import central_titles, read_cluster_names, read_clusters
from artifacts.kinds.dataset import read_dataset
from artifacts.manifest import COMPLETE, ArtifactRef
from artifacts.store import Store
from tasks.cluster import ClusterConfig, cluster_items
from tasks.embed import embed_items
from tasks.frame.stage import StageResult
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import LlmConfig
from tasks.llm.shards import shard_run
from tasks.name_clusters import NAME_CHARACTERS, name_clusters
from tasks.report import LABEL_CHARACTERS, cluster_labels
from tests.fakes import CHAT, FaultPlan, FaultyServer, faulty_endpoint
from tests.tasks.shops.small_shop import InlineShards, SmallShop, endpoints_at


class Clustered:
    """The clusters of the small shop, and who names them."""

    def __init__(self, store: Store, server: FaultyServer) -> None:
        self.store, self.server, self.llm = store, server, LlmConfig()
        endpoints = endpoints_at(server.base_url, max_retries=0)
        self.endpoint: Endpoint = endpoints.chat
        self.dataset: ArtifactRef = SmallShop().ingested(store)
        vectors = embed_items.fn(self.dataset, endpoints.embedding, self.llm, store.root).ref
        config = ClusterConfig(clusters=3)
        self.clusters = cluster_items.fn(vectors, config, store.root).ref

    def named(self) -> StageResult:
        return name_clusters.fn(
            self.dataset, self.clusters, self.endpoint, self.llm, self.store.root
        )

    def labels(self, names: dict[int, str]) -> dict[int, str]:
        data = read_dataset(self.store, self.dataset)
        return cluster_labels(data, read_clusters(self.store, self.clusters), names)


@pytest.fixture
def clustered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clustered]:
    monkeypatch.setattr(shard_run, "answer_shard", InlineShards())
    with faulty_endpoint() as server:
        yield Clustered(Store(tmp_path / "store"), server)


def test_every_cluster_with_titles_is_named_by_one_question(clustered: Clustered) -> None:
    made = clustered.named()
    data = read_dataset(clustered.store, clustered.dataset)
    central = central_titles(data, read_clusters(clustered.store, clustered.clusters), 12)
    assert made.usage.requests == clustered.server.requests_to(CHAT) == central.height
    names = read_cluster_names(clustered.store, made.ref)
    assert sorted(names) == central["cluster"].to_list()
    assert all(0 < len(name) <= NAME_CHARACTERS for name in names.values())
    assert made.counts == {"named": central.height, "failed": 0}


def test_a_second_run_asks_nothing(clustered: Clustered) -> None:
    first = clustered.named()
    asked = clustered.server.requests_to(CHAT)
    again = clustered.named()
    assert again.reused
    assert again.ref == first.ref
    assert clustered.server.requests_to(CHAT) == asked


def test_a_cluster_without_a_name_fails_no_run_and_is_asked_again(clustered: Clustered) -> None:
    clustered.server.plan = FaultPlan(refuse="Name the shelf")
    failed = clustered.named()
    assert failed.counts["named"] == 0
    assert failed.counts["failed"] == failed.usage.requests > 1
    assert clustered.store.manifest(failed.ref).outcome != COMPLETE
    clustered.server.plan = FaultPlan()
    mended = clustered.named()
    assert mended.counts["failed"] == 0
    assert mended.ref != failed.ref


def test_a_cluster_is_called_by_its_name_or_else_its_most_central_title(
    clustered: Clustered,
) -> None:
    data = read_dataset(clustered.store, clustered.dataset)
    central = central_titles(data, read_clusters(clustered.store, clustered.clusters), 1)
    titles = {cluster: found[0] for cluster, found in central.iter_rows()}
    labels = clustered.labels({0: "Things " + "to brew with " * 9})
    assert labels[0].startswith("0 · Things to brew with")
    assert len(labels[0]) == LABEL_CHARACTERS + len("0 · ")
    for cluster in titles.keys() - {0}:
        assert labels[cluster] == f"{cluster} · {titles[cluster]}"
