"""Item tables: what is stored is enough to place an item that comes later."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

import tasks.project
from artifacts.kinds.dataset import read_dataset
from artifacts.kinds.item_vectors import StoredItemTables, read_item_tables
from artifacts.store import Store
from tasks.project import ProjectConfig, project_items, project_vectors
from tests.tasks.shops.small_shop import SmallShop, stored_embeddings

WIDTH = 6


def shop_of(gear: int, books: int) -> SmallShop:
    titles: dict[tuple[str, str], str | None] = {
        **{("books", f"b{number:02}"): "A Book" for number in range(books)},
        **{("gear", f"g{number:02}"): "A Thing" for number in range(gear)},
    }
    events = (("u", "b00", "books", 1), ("u", "g00", "gear", 2))
    return replace(SmallShop(), events=events, titles=titles)


def tables_of(
    store: Store, gear: int, books: int, config: ProjectConfig, missing: tuple[int, ...] = ()
) -> tuple[StoredItemTables, np.ndarray, Path]:
    dataset = shop_of(gear, books).ingested(store)
    rng = np.random.default_rng(gear)
    vectors = rng.normal(size=(1 + gear + books, WIDTH)).astype(np.float32)
    vectors[0] = 0
    is_embedded = ~np.isin(np.arange(len(vectors)), [0, *missing])
    embeddings = stored_embeddings(store, vectors, is_embedded)
    made = project_items.fn(dataset, embeddings, config, store.root)
    return read_item_tables(store, made.ref), vectors, store.path(made.ref)


def test_the_stored_projections_reproduce_the_tables(store: Store) -> None:
    tables, vectors, _ = tables_of(store, 14, 9, ProjectConfig(global_width=4, hidden=3))
    assert tables.global_table.shape == (24, 4)
    assert tables.local_table.shape == (24, 3)
    p = tables.projections
    placed = (vectors[1:] - p["global.mean"]) @ p["global.components"].T
    np.testing.assert_allclose(placed, tables.global_table[1:], atol=1e-5)
    for domain, rows in (("books", slice(1, 10)), ("gear", slice(10, 24))):
        local = (vectors[rows] - p[f"local.{domain}.mean"]) @ p[f"local.{domain}.components"].T
        np.testing.assert_allclose(local, tables.local_table[rows], atol=1e-5)
    assert not tables.global_table[0].any()
    assert not tables.local_table[0].any()


def test_a_new_item_lands_where_pca_puts_it(store: Store) -> None:
    tables, vectors, _ = tables_of(store, 14, 9, ProjectConfig(global_width=4, hidden=3))
    new = np.random.default_rng(9).normal(size=(1, WIDTH)).astype(np.float32)
    p = tables.projections
    own = PCA(3, svd_solver="full").fit(vectors[10:24]).transform(new)
    placed = (new - p["local.gear.mean"]) @ p["local.gear.components"].T
    np.testing.assert_allclose(np.abs(placed), np.abs(own), atol=1e-4)


def test_distances_survive_where_no_width_is_lost(store: Store) -> None:
    tables, vectors, _ = tables_of(store, 14, 9, ProjectConfig())
    assert tables.global_table.shape == (24, WIDTH)
    between = np.linalg.norm(vectors[1] - vectors[15])
    kept = np.linalg.norm(tables.global_table[1] - tables.global_table[15])
    assert kept == pytest.approx(between, rel=1e-4)


@pytest.mark.parametrize(("gear", "books"), [(1, 1), (1, 7), (2, 1), (3, 4)])
def test_few_items_are_padded_with_zero_columns(store: Store, gear: int, books: int) -> None:
    tables, _, _ = tables_of(store, gear, books, ProjectConfig(hidden=5))
    items = gear + books
    assert tables.global_table.shape == (1 + items, min(WIDTH, items - 1))
    assert tables.local_table.shape == (1 + items, 5)
    for rows, count in ((slice(1, 1 + books), books), (slice(1 + books, None), gear)):
        assert not tables.local_table[rows][:, min(count, 5) :].any()
    assert np.isfinite(tables.local_table).all()
    assert np.isfinite(tables.global_table).all()


def test_items_without_an_embedding_shape_no_projection_but_have_a_place(store: Store) -> None:
    config = ProjectConfig(global_width=4, hidden=3)
    tables, vectors, _ = tables_of(store, 14, 9, config, missing=(12, 13))
    own = [i for i in range(1, 24) if i not in (12, 13)]
    np.testing.assert_allclose(
        tables.projections["global.mean"], vectors[own].mean(axis=0), atol=1e-6
    )
    assert tables.global_table[12].any()


def test_the_same_inputs_give_the_same_tables(store: Store, tmp_path: Path) -> None:
    first, _, _ = tables_of(store, 14, 9, ProjectConfig(hidden=3))
    again, _, _ = tables_of(Store(tmp_path / "b" / "s"), 14, 9, ProjectConfig(hidden=3))
    np.testing.assert_array_equal(first.global_table, again.global_table)
    np.testing.assert_array_equal(first.local_table, again.local_table)


def test_tables_are_in_the_order_of_the_dataset(store: Store) -> None:
    data = read_dataset(store, shop_of(2, 3).ingested(store))
    assert data.domains == ("books", "gear")
    assert data.domain_starts.tolist() == [0, 3, 5]


def test_a_domain_of_equal_texts_has_a_place_all_the_same(store: Store) -> None:
    dataset = shop_of(3, 2).ingested(store)
    vectors = np.vstack([np.zeros(WIDTH), np.eye(WIDTH)[[0, 1, 2, 2, 2]]])
    embeddings = stored_embeddings(store, vectors, np.arange(6) > 0)
    made = project_items.fn(dataset, embeddings, ProjectConfig(hidden=2), store.root)
    tables = read_item_tables(store, made.ref)
    assert np.isfinite(tables.local_table).all()
    assert np.isfinite(tables.global_table).all()


@pytest.mark.parametrize("items", [1, 4, 5])
def test_tables_do_not_depend_on_how_many_items_are_projected_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, items: int
) -> None:
    config = ProjectConfig(global_width=4, hidden=3)
    whole, _, _ = tables_of(Store(tmp_path / "whole"), 14, 9, config, missing=(2, 20))
    monkeypatch.setattr(tasks.project, "BLOCK_ITEMS", items)
    found, _, _ = tables_of(Store(tmp_path / "blocks"), 14, 9, config, missing=(2, 20))
    np.testing.assert_allclose(found.global_table, whole.global_table, atol=1e-6)
    np.testing.assert_allclose(found.local_table, whole.local_table, atol=1e-6)


def test_projections_of_many_items_are_fitted_on_a_sample_and_take_one_table_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks.project, "FIT_ITEMS", 500)
    monkeypatch.setattr(tasks.project, "BLOCK_ITEMS", 500)
    items, width = 20_000, 32
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(items + 1, width)).astype(np.float32)
    is_embedded = rng.random(items + 1) < 0.9
    is_embedded[0] = False
    config = ProjectConfig(global_width=width, hidden=8)
    PCA(2).fit(vectors[:50])  # What scikit-learn imports late is no memory of the tables.
    tracemalloc.start()
    try:
        starts = np.array([0, items // 2, items])
        made = project_vectors(vectors, is_embedded, ("a", "b"), starts, config)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.3 * (made.global_table.nbytes + made.local_table.nbytes)
    # As numpy draws from the rows themselves.
    own = np.random.default_rng(config.seed).choice(vectors[is_embedded], 500, replace=False)
    np.testing.assert_allclose(made.projections["global.mean"], own.mean(axis=0), atol=1e-6)
