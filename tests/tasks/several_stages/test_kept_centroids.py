"""A refresh after a small change asks only about what changed: interests keep their centres."""

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from artifacts.bundles import REFRESHED, bundle
from artifacts.kinds.clusters import read_clusters
from artifacts.kinds.dataset import read_dataset
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from tasks.cluster import CENTROIDS, ClusterConfig, cluster_items
from tasks.embed import embed_items
from tasks.frame.stage import LlmUsage
from tasks.profile import ProfileConfig, profile_users
from tests.fakes import CHAT, EMBEDDINGS, FaultyServer, faulty_endpoint
from tests.tasks.shops.small_shop import EVENTS, LENIENT, TITLES, SmallShop, endpoints_at

pytestmark = pytest.mark.usefixtures("inline_shards")

CONFIG = ClusterConfig(clusters=3)


class Runs:
    """Refreshes of one store against one server, each as the flow does it."""

    def __init__(self, store: Store, server: FaultyServer) -> None:
        self.store, self.server = store, server
        self.endpoints = endpoints_at(server.base_url, max_retries=0)
        self.usage = LlmUsage()

    def refresh(self, shop: SmallShop, config: ClusterConfig = CONFIG) -> ArtifactRef:
        root = self.store.root
        dataset = shop.ingested(self.store)
        embedded = embed_items.fn(dataset, self.endpoints.embedding, LENIENT, root)
        clusters = cluster_items.fn(embedded.ref, config, root).ref
        profiled = profile_users.fn(
            dataset, clusters, self.endpoints, LENIENT, ProfileConfig(), root
        )
        self.usage = profiled.usage
        parts = {
            "dataset": dataset,
            "embeddings": embedded.ref,
            "clusters": clusters,
            "profiles": profiled.ref,
        }
        bundle(self.store, Kind.REFRESH, REFRESHED, parts)
        return clusters

    def asked(self) -> tuple[int, int]:
        return self.server.requests_to(CHAT), self.server.requests_to(EMBEDDINGS)

    def interests(self, clusters: ArtifactRef) -> dict[str, int]:
        embeddings = self.store.manifest(clusters).parents["embeddings"]
        dataset = self.store.manifest(embeddings).parents["dataset"]
        items = read_dataset(self.store, dataset).items
        placed = read_clusters(self.store, clusters).with_columns(pl.col("item_index"))
        return dict(items.join(placed, on="item_index").select("item_id", "cluster").iter_rows())


@pytest.fixture
def runs(store: Store):  # noqa: ANN201
    with faulty_endpoint() as server:
        yield Runs(store, server)


def with_new_item(shop: SmallShop, title: str = "A Treatise on Beekeeping") -> SmallShop:
    return replace(shop, titles={**shop.titles, ("books", "new"): title})


def test_a_new_item_costs_its_own_embedding_and_moves_no_other(runs: Runs) -> None:
    before = runs.interests(runs.refresh(SmallShop()))
    chats, embeddings = runs.asked()
    clusters = runs.refresh(with_new_item(SmallShop()))
    after = runs.interests(clusters)
    assert runs.asked() == (chats, embeddings + 1)
    assert {item: after[item] for item in before} == before
    assert "new" in after
    assert CENTROIDS in runs.store.manifest(clusters).parents


def test_an_event_of_one_user_costs_that_users_prompts_only(runs: Runs) -> None:
    runs.refresh(SmallShop())
    chats, _ = runs.asked()
    position = next(at for at, event in enumerate(EVENTS) if event[0] == "ada")
    runs.refresh(SmallShop().with_event(position, "g4", "gear"))
    # At most an interest gained, one changed, one summary: nobody else's.
    assert 0 < runs.asked()[0] - chats <= 3
    assert runs.usage.reused > 0


def test_an_unchanged_dump_finds_the_clusters_of_the_last_refresh(runs: Runs) -> None:
    runs.refresh(SmallShop())
    second = runs.refresh(with_new_item(SmallShop()))
    asked = runs.asked()
    assert runs.refresh(with_new_item(SmallShop())) == second
    assert runs.asked() == asked


def test_centres_are_those_of_the_fit_however_many_refreshes_ago(runs: Runs) -> None:
    first = runs.refresh(SmallShop())
    runs.refresh(with_new_item(SmallShop()))
    third = runs.refresh(with_new_item(SmallShop(), "Another Title"))
    assert runs.store.manifest(third).parents[CENTROIDS] == first


def test_too_much_change_or_another_setting_fits_anew(runs: Runs) -> None:
    runs.refresh(SmallShop())
    grown = replace(
        SmallShop(), titles={**TITLES, **{("books", f"n{n}"): f"Volume {n}" for n in range(9)}}
    )
    assert CENTROIDS not in runs.store.manifest(runs.refresh(grown)).parents
    runs.refresh(SmallShop())
    for config in (ClusterConfig(clusters=2), ClusterConfig(clusters=3, refit_share=0)):
        clusters = runs.refresh(with_new_item(SmallShop()), config)
        assert CENTROIDS not in runs.store.manifest(clusters).parents


@pytest.mark.parametrize("kind", [Kind.CLUSTERS, Kind.ITEM_EMBEDDINGS, Kind.DATASET, Kind.REFRESH])
def test_a_deleted_artifact_of_the_last_refresh_fits_anew(runs: Runs, kind: Kind) -> None:
    runs.refresh(SmallShop())
    shutil.rmtree(runs.store.local / kind)
    clusters = runs.refresh(with_new_item(SmallShop()))
    assert CENTROIDS not in runs.store.manifest(clusters).parents


def test_the_refresh_of_another_shop_in_the_same_store_lends_no_centres(
    runs: Runs, tmp_path: Path
) -> None:
    runs.refresh(SmallShop())
    other = replace(
        SmallShop(),
        titles={(domain, f"x{item}"): title for (domain, item), title in TITLES.items()},
        events=tuple((user, f"x{item}", *rest) for user, item, *rest in EVENTS),  # type: ignore[misc]
    )
    assert CENTROIDS not in runs.store.manifest(runs.refresh(other)).parents
