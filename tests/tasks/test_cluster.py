"""Interests: repeatable, and drawn by items that have a text of their own."""

import numpy as np
import polars as pl

from artifacts.kinds.arrays import read_arrays
from artifacts.kinds.clusters import read_clusters
from artifacts.store import Store
from tasks.cluster import ClusterConfig, cluster_items
from tests.tasks.shops.small_shop import stored_embeddings

CENTRES = np.array([[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0]])


def heaps(per_heap: int = 8) -> np.ndarray:
    """(1 + 3 * per_heap, 3): three heaps far apart, padding first."""
    rng = np.random.default_rng(4)
    points = np.repeat(CENTRES, per_heap, axis=0) + rng.normal(scale=0.1, size=(3 * per_heap, 3))
    return np.vstack([np.zeros((1, 3)), points])


def labels_of(store: Store, vectors: np.ndarray, config: ClusterConfig) -> pl.DataFrame:
    embeddings = stored_embeddings(store, vectors, np.arange(len(vectors)) > 0)
    return read_clusters(store, cluster_items.fn(embeddings, config, store.root).ref)


def test_items_of_one_heap_share_a_cluster_and_know_their_distance(store: Store) -> None:
    vectors = heaps()
    found = labels_of(store, vectors, ClusterConfig(clusters=3))
    labels = found["cluster"].to_numpy().reshape(3, 8)
    assert (labels == labels[:, :1]).all()
    assert len(set(labels[:, 0])) == 3
    means = vectors[1:].reshape(3, 8, 3).mean(axis=1)
    expected = np.linalg.norm(vectors[1:] - np.repeat(means, 8, axis=0), axis=1)
    np.testing.assert_allclose(found["distance"].to_numpy(), expected, atol=1e-5)
    assert found["item_index"].to_list() == list(range(1, 25))


def test_the_seed_alone_decides(store: Store, tmp_path_factory) -> None:  # noqa: ANN001
    vectors = np.vstack([np.zeros((1, 4)), np.random.default_rng(1).normal(size=(60, 4))])
    first = labels_of(store, vectors, ClusterConfig(clusters=5, seed=1))
    again = labels_of(
        Store(tmp_path_factory.mktemp("again")), vectors, ClusterConfig(clusters=5, seed=1)
    )
    other = labels_of(store, vectors, ClusterConfig(clusters=5, seed=2))
    assert first.equals(again)
    assert not first.equals(other)


def test_items_without_an_embedding_draw_no_centroid(store: Store) -> None:
    own = heaps()
    mean = own[1:].mean(axis=0)
    vectors = np.vstack([own, np.tile(mean, (500, 1))])
    is_embedded = np.concatenate([[False], np.ones(24, bool), np.zeros(500, bool)])
    embeddings = stored_embeddings(store, vectors, is_embedded)
    made = cluster_items.fn(embeddings, ClusterConfig(clusters=3), store.root)
    centroids = read_arrays(store.path(made.ref) / "centroids.safetensors")["centroids"]
    for centre in CENTRES:
        assert np.linalg.norm(centroids - centre, axis=1).min() < 0.3
    assert read_clusters(store, made.ref).height == 524


def test_fewer_items_than_clusters_give_a_cluster_each(store: Store) -> None:
    vectors = np.vstack([np.zeros((1, 3)), CENTRES])
    found = labels_of(store, vectors, ClusterConfig(clusters=10))
    assert sorted(found["cluster"]) == [0, 1, 2]
