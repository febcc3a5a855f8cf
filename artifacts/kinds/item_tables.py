"""The item tables artifact: the model's item inputs, and the projections that made them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from artifacts.kinds.arrays import read_arrays, write_arrays
from artifacts.manifest import ArtifactRef
from artifacts.store import Store

_TABLES_FILE = "tables.safetensors"
_PROJECTIONS_FILE = "projections.safetensors"


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
