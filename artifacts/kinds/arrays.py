"""Arrays beside tables: named float32 tensors in one safetensors file of an artifact."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes named arrays; each keeps its shape and type."""
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads every array of a file written by `write_arrays`."""
    return load_file(path)
