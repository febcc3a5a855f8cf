"""Named arrays in a safetensors file of an artifact."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

_LETTERS = {"f": "F", "i": "I", "u": "U"}


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes named arrays with their shapes and dtypes.

    Output is identical to `safetensors.numpy.save_file`, without its copy of all arrays.
    """
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, object] = {}
    end = 0
    for name in names:
        start, end = end, end + arrays[name].nbytes
        shape = list(arrays[name].shape)
        kind = _kind(arrays[name].dtype)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            np.ascontiguousarray(arrays[name]).tofile(file)


def _kind(dtype: np.dtype) -> str:
    return "BOOL" if dtype.kind == "b" else f"{_LETTERS[dtype.kind]}{8 * dtype.itemsize}"


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads every array of a file written by `write_arrays`."""
    return load_file(path)


def map_arrays(path: Path) -> dict[str, np.ndarray]:
    """Maps every array of a file written by `write_arrays`: the system reads pages as they are
    used, and may drop them again. Writes to an array are private to this process."""
    with path.open("rb") as file:
        begin = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(begin - 8))
    return {
        name: _mapped(path, _dtype(of["dtype"]), tuple(of["shape"]), begin + of["data_offsets"][0])
        for name, of in header.items()
    }


def _mapped(path: Path, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> np.ndarray:
    if 0 in shape:  # Nothing to map.
        return np.zeros(shape, dtype)
    return np.asarray(np.memmap(path, dtype, "c", offset, shape))


def _dtype(kind: str) -> np.dtype:
    if kind == "BOOL":
        return np.dtype(bool)
    return np.dtype(f"{kind[0].lower()}{int(kind[1:]) // 8}")
