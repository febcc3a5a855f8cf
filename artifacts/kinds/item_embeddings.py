"""The item embeddings artifact: one vector per item, with its status."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import polars as pl

from artifacts.kinds.arrays import map_arrays, write_arrays
from artifacts.manifest import ArtifactRef
from artifacts.store import Store

STATUS = "status"

_ITEMS_FILE = "items.parquet"
_VECTORS_FILE = "vectors.safetensors"


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
