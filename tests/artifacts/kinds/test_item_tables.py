"""Arrays of item tables come back as they were written."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from artifacts.kinds.item_vectors import (
    StoredItemTables,
    read_item_tables,
    write_item_tables,
)
from artifacts.kinds.user_profiles import UserProfiles, read_user_profiles, write_user_profiles
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store

ITEMS, WIDTH, GLOBAL, LOCAL = 6, 5, 4, 3


def vectors() -> np.ndarray:
    drawn = np.random.default_rng(3).normal(size=(ITEMS + 1, WIDTH)).astype(np.float32)
    drawn[0] = 0
    return drawn


def tables() -> StoredItemTables:
    draw = np.random.default_rng(4)
    return StoredItemTables(
        global_table=draw.normal(size=(ITEMS + 1, GLOBAL)).astype(np.float32),
        local_table=draw.normal(size=(LOCAL, ITEMS + 1)).astype(np.float32).T,
        projections={
            "global.mean": draw.normal(size=WIDTH).astype(np.float32),
            "local.a.components": draw.normal(size=(LOCAL, WIDTH)).astype(np.float32),
        },
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def ref(store: Store) -> ArtifactRef:
    made = identity(Kind.ITEM_TABLES, {}, {})
    with store.create(made) as draft:
        write_item_tables(draft.path, tables())
    return made.ref


def test_tables_come_back_bit_for_bit(store: Store, ref: ArtifactRef) -> None:
    read, written = read_item_tables(store, ref), tables()
    np.testing.assert_array_equal(read.global_table, written.global_table)
    np.testing.assert_array_equal(read.local_table, written.local_table)  # It was transposed.
    assert read.projections.keys() == written.projections.keys()
    for name, array in written.projections.items():
        np.testing.assert_array_equal(read.projections[name], array)


def test_profiles_come_back_as_they_were_written(store: Store) -> None:
    written = UserProfiles(
        profiles=pl.DataFrame({"user_index": [1], "profile": ["likes té"], "cut": [False]}),
        interests=pl.DataFrame({"user_index": [1], "cluster": [2], "interest": ["tea"]}),
        failures=pl.DataFrame(schema={"key": pl.String, "reason": pl.String}),
        vectors=vectors()[:2],
        has_profile=np.array([False, True]),
    )
    made = identity(Kind.USER_PROFILES, {}, {})
    with store.create(made) as draft:
        write_user_profiles(draft.path, written)
    read = read_user_profiles(store, made.ref)
    assert read.profiles.equals(written.profiles)
    assert read.interests.equals(written.interests)
    assert read.failures.schema == written.failures.schema
    np.testing.assert_array_equal(read.vectors, written.vectors)
    assert read.has_profile.tolist() == [False, True]
    assert read.has_profile.dtype == bool
