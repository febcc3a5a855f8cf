"""The candidates artifact: what each held-out item is ranked against, the same for every model."""

from pathlib import Path

import numpy as np

from artifacts.kinds.arrays import read_arrays, write_arrays
from artifacts.manifest import ArtifactRef
from artifacts.store import Store

_FILE = "candidates.safetensors"
_ITEMS = "items"


def write_candidates(folder: Path, items: np.ndarray) -> None:
    """Writes item indices (test events, candidates), 0 where a user has fewer items left."""
    write_arrays(folder / _FILE, {_ITEMS: items.astype(np.int32)})


def read_candidates(store: Store, ref: ArtifactRef) -> np.ndarray:
    """Returns int64 (test events, candidates); raises `ArtifactMissing`."""
    return read_arrays(store.path(ref) / _FILE)[_ITEMS].astype(np.int64)
