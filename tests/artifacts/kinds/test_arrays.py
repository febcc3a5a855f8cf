"""Arrays are written as safetensors writes them, without a second copy in memory."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from artifacts.kinds.arrays import map_arrays, read_arrays, write_arrays

RNG = np.random.default_rng(0)
FILES: dict[str, dict[str, np.ndarray]] = {
    "profiles": {
        "vectors": RNG.standard_normal((5, 3)).astype(np.float32),
        "has_profile": np.array([True, False, True, True, False]),
    },
    "none": {},
    "no rows": {"vectors": np.zeros((0, 7), np.float32), "b": np.zeros(0, bool)},
    "mixed": {
        "z": np.arange(6, dtype=np.int64).reshape(2, 3),
        "ä": np.arange(5, dtype=np.int32),
        "a": np.ones((2, 1, 3), np.float32),
        "scalar": np.array(2.5, np.float32),
    },
    "not contiguous": {"t": np.arange(12, dtype=np.float32).reshape(3, 4).T},
}


@pytest.mark.parametrize("arrays", FILES.values(), ids=FILES)
def test_the_bytes_are_those_of_safetensors(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    write_arrays(tmp_path / "ours", arrays)
    save_file({n: np.array(a, order="C") for n, a in arrays.items()}, tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    for found in (read_arrays(tmp_path / "ours"), map_arrays(tmp_path / "ours")):
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u4", "u8", "?"])
def test_every_type_comes_back(tmp_path: Path, kind: str) -> None:
    array = RNG.integers(0, 2, (3, 2)).astype(kind)
    write_arrays(tmp_path / "one", {"a": array})
    for read in (read_arrays, map_arrays):
        found = read(tmp_path / "one")["a"]
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype


def test_mapped_arrays_take_no_memory_and_can_be_written_without_changing_the_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "large"
    write_arrays(path, {"large": np.ones((1000, 1000), np.float32), "is": np.ones(3, bool)})
    before = path.read_bytes()
    tracemalloc.start()
    try:
        found = map_arrays(path)["large"]
        assert found[1:].sum() == 999_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < found.nbytes / 4
    found[3, 4] = 7
    assert path.read_bytes() == before
    path.unlink()  # Another process cleans up: who has it open reads on.
    assert (found[3, 4], found[999, 999]) == (7, 1)


def test_writing_takes_no_copy_of_the_arrays(tmp_path: Path) -> None:
    large = np.zeros((1000, 1000), np.float32)
    tracemalloc.start()
    try:
        write_arrays(tmp_path / "large", {"large": large})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < large.nbytes / 4
