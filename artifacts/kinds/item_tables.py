"""The item tables artifact: global and local table, their projections, and a search index."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from artifacts.kinds.arrays import read_arrays, write_arrays
from artifacts.manifest import ArtifactRef
from artifacts.store import Store

if TYPE_CHECKING:
    import faiss

_TABLES_FILE = "tables.safetensors"
_PROJECTIONS_FILE = "projections.safetensors"
_INDEX_FILE = "items.faiss"


@dataclass(frozen=True)
class StoredItemTables:
    """``global_table`` float32 (items + 1, k) and ``local_table`` float32 (items + 1, h), in
    item-index order with zeros in row 0. ``projections`` has for "global" and "local.<domain>" a
    ``.mean`` (width,) and ``.components`` (k or h, width): ``(e - mean) @ componentsᵀ`` projects a
    new item's embedding ``e``."""

    global_table: np.ndarray
    local_table: np.ndarray
    projections: dict[str, np.ndarray]


def write_item_tables(folder: Path, tables: StoredItemTables, vectors: np.ndarray) -> None:
    """Writes the tables, and an index of the embeddings ``vectors`` (items + 1, width)."""
    import faiss

    arrays = {"global_table": tables.global_table, "local_table": tables.local_table}
    write_arrays(folder / _TABLES_FILE, arrays)
    write_arrays(folder / _PROJECTIONS_FILE, tables.projections)
    faiss.write_index(_search_index(vectors), str(folder / _INDEX_FILE))


def read_item_tables(store: Store, ref: ArtifactRef) -> StoredItemTables:
    """Returns the item tables; raises `ArtifactMissingError`."""
    folder = store.path(ref)
    tables = read_arrays(folder / _TABLES_FILE)
    projections = read_arrays(folder / _PROJECTIONS_FILE)
    return StoredItemTables(tables["global_table"], tables["local_table"], projections)


def read_item_index(store: Store, ref: ArtifactRef) -> "faiss.Index":
    """Returns the search index of L2-normalised embeddings: ids are item indices, scores are
    cosines."""
    import faiss

    return faiss.read_index(str(store.path(ref) / _INDEX_FILE))


def _search_index(vectors: np.ndarray) -> "faiss.Index":
    import faiss

    normalised = vectors[1:].copy()
    faiss.normalize_L2(normalised)
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(normalised, np.arange(1, len(vectors), dtype=np.int64))  # pyright: ignore[reportCallIssue]
    return index
