"""Sort order of many texts by integer keys.

For millions of unordered ids, random memory access dominates the cost of comparing texts. Eight
bytes of an id as one integer distinguish nearly all ids and sort fast; only ids with equal integers
are compared as texts.
"""

from itertools import takewhile

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

_KEY_BYTES = 8


def text_order(texts: pl.Series) -> NDArray[np.int64]:
    """Returns the places (n,) of ``texts`` in ascending order of their bytes, like Polars' own
    ``arg_sort``. Texts must not be null or contain NUL; the order of equal texts is unspecified."""
    if texts.len() < 2:
        return np.arange(texts.len())
    keys = _keys(texts, _common_prefix(texts))
    order = np.argsort(keys)
    alike = np.flatnonzero(np.diff(keys[order]) == 0)
    if len(alike):
        slots = np.union1d(alike, alike + 1)
        # Keys and texts ascend together, so sorting these texts suffices.
        tied = order[slots]
        order[slots] = tied[texts.gather(tied).arg_sort().to_numpy()]
    return order


def _common_prefix(texts: pl.Series) -> int:
    """Returns the length of the common prefix, from the first and the last text."""
    least, most = str(texts.min()).encode(), str(texts.max()).encode()
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(least, most, strict=False))
    return sum(1 for _ in alike)


def _keys(texts: pl.Series, skipped: int) -> NDArray[np.uint64]:
    """Returns eight bytes after the first ``skipped`` as big-endian integers, padded with zeros."""
    flat = texts.to_arrow().cast(pa.large_binary())
    _, offsets, data = flat.buffers()
    bounds = np.frombuffer(offsets, np.int64)[flat.offset : flat.offset + len(flat) + 1]
    content = np.zeros(int(bounds[-1]) + skipped + _KEY_BYTES, np.uint8)
    content[: bounds[-1]] = np.frombuffer(data, np.uint8)[: bounds[-1]]
    keys = np.zeros(len(flat), np.uint64)
    for place in range(skipped, skipped + _KEY_BYTES):
        at = bounds[:-1] + place
        keys = (keys << np.uint64(8)) | np.where(at < bounds[1:], content[at], 0).astype(np.uint64)
    return keys
