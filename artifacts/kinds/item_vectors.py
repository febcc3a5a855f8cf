"""The item embeddings artifact (one vector per item, with its status) and the item tables artifact
(the model's item inputs, projected from the embeddings)."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import polars as pl

from artifacts.kinds.arrays import map_arrays, read_arrays, write_arrays
from artifacts.manifest import ArtifactRef
from artifacts.store import Store

STATUS = "status"

_ITEMS_FILE = "items.parquet"
_VECTORS_FILE = "vectors.safetensors"
_TABLES_FILE = "tables.safetensors"
_PROJECTIONS_FILE = "projections.safetensors"


class EmbeddingStatus(StrEnum):
    """Origin of a vector; all except ``EMBEDDED`` are the mean of their domain."""

    EMBEDDED = "embedded"
    NO_TEXT = "no text"
    FAILED = "failed"


@dataclass(frozen=True)
class ItemEmbeddings:
    """``vectors`` float32 (items + 1, width), row 0 zeros, mapped from the artifact's file;
    ``is_embedded`` bool (items + 1,)."""

    vectors: np.ndarray
    is_embedded: np.ndarray


def write_item_embeddings(folder: Path, vectors: np.ndarray, status: pl.DataFrame) -> None:
    """Writes vectors, and ``item_index, status, reason`` of every item in index order."""
    write_arrays(folder / _VECTORS_FILE, {"vectors": vectors})
    status.write_parquet(folder / _ITEMS_FILE)


def read_item_embeddings(store: Store, ref: ArtifactRef) -> ItemEmbeddings:
    """Returns the item embeddings; raises `ArtifactMissingError`."""
    folder = store.path(ref)
    status = pl.read_parquet(folder / _ITEMS_FILE, glob=False)[STATUS]
    return ItemEmbeddings(
        vectors=map_arrays(folder / _VECTORS_FILE)["vectors"],
        is_embedded=np.concatenate([[False], (status == EmbeddingStatus.EMBEDDED).to_numpy()]),
    )


@dataclass(frozen=True)
class StoredItemTables:
    """``global_table`` float32 (items + 1, k) and ``local_table`` float32 (items + 1, h), in
    item-index order with zeros in row 0. ``projections`` has for "global" and "local.<domain>" a
    ``.mean`` (width,) and ``.components`` (k or h, width): ``(e - mean) @ componentsᵀ`` projects a
    new item's embedding ``e``."""

    global_table: np.ndarray
    local_table: np.ndarray
    projections: dict[str, np.ndarray]


def write_item_tables(folder: Path, tables: StoredItemTables) -> None:
    arrays = {"global_table": tables.global_table, "local_table": tables.local_table}
    write_arrays(folder / _TABLES_FILE, arrays)
    write_arrays(folder / _PROJECTIONS_FILE, tables.projections)


def read_item_tables(store: Store, ref: ArtifactRef) -> StoredItemTables:
    """Returns the item tables; raises `ArtifactMissingError`."""
    folder = store.path(ref)
    tables = read_arrays(folder / _TABLES_FILE)
    projections = read_arrays(folder / _PROJECTIONS_FILE)
    return StoredItemTables(tables["global_table"], tables["local_table"], projections)


def projected(
    vectors: np.ndarray, projections: dict[str, np.ndarray], name: str, width: int
) -> np.ndarray:
    """Returns embeddings as rows (rows, width) of a table, "global" or "local.<domain>".

    Columns beyond the rank of the catalogue are zero, as in the table.
    """
    mean, components = projections[f"{name}.mean"], projections[f"{name}.components"]
    rows = np.zeros((len(vectors), width), np.float32)
    rows[:, : len(components)] = (vectors - mean) @ components.T
    return rows
