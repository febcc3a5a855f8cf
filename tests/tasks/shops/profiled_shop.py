"""The stages up to the profiles, in one store against one server."""

import polars as pl

from artifacts.kinds.clusters import read_clusters
from artifacts.kinds.dataset import read_dataset
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from tasks.cluster import ClusterConfig, cluster_items
from tasks.embed import embed_items
from tasks.frame.stage import StageResult
from tasks.llm.providers.endpoints import Endpoints
from tasks.profile import ProfileConfig, profile_users
from tasks.profiling.interest_titles import titles_by_interest
from tests.fakes import FaultyServer
from tests.tasks.shops.small_shop import LENIENT, SmallShop, endpoints_at


class Refreshed:
    """The refresh of one dump in one store against one server."""

    def __init__(
        self,
        store: Store,
        server: FaultyServer,
        shop: SmallShop,
        config: ProfileConfig | None = None,
    ) -> None:
        self.store, self.server = store, server
        self.endpoints: Endpoints = endpoints_at(server.base_url, max_retries=0)
        self.config = config or ProfileConfig()
        self.dataset = shop.ingested(store)
        self.clusters: ArtifactRef | None = None

    def run(self) -> StageResult:
        embedding = self.endpoints.embedding
        embeddings = embed_items.fn(self.dataset, embedding, LENIENT, self.store.root)
        clustered = cluster_items.fn(embeddings.ref, ClusterConfig(clusters=3), self.store.root)
        self.clusters = clustered.ref
        return self.profiled()

    def titles(self) -> pl.DataFrame:
        assert self.clusters is not None
        data = read_dataset(self.store, self.dataset)
        return titles_by_interest(data, read_clusters(self.store, self.clusters))

    def profiled(self) -> StageResult:
        assert self.clusters is not None
        return profile_users.fn(
            self.dataset, self.clusters, self.endpoints, LENIENT, self.config, self.store.root
        )
