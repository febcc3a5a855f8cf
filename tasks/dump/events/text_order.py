"""The order of many texts by their bytes, found by comparing numbers.

Comparing two texts fetches both from memory; for millions of ids in no order that is most of what
sorting them costs. Eight bytes of an id as one number tell nearly all ids apart, and processors
sort numbers quickly; only ids alike in those eight are compared as texts.
"""

from itertools import takewhile

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

_KEY_BYTES = 8


def text_order(texts: pl.Series) -> NDArray[np.int64]:
    """Returns the places (n,) of ``texts`` in ascending order of their bytes, like Polars' own
    ``arg_sort``. No text may be null or hold the character of code 0; equal texts come in no
    particular order."""
    if texts.len() < 2:
        return np.arange(texts.len())
    keys = _keys(texts, _common_prefix(texts))
    order = np.argsort(keys)
    alike = np.flatnonzero(np.diff(keys[order]) == 0)
    if len(alike):
        slots = np.union1d(alike, alike + 1)
        # Keys rise along the slots, and so do the texts: sorting these alone puts each in its own.
        tied = order[slots]
        order[slots] = tied[texts.gather(tied).arg_sort().to_numpy()]
    return order


def _common_prefix(texts: pl.Series) -> int:
    """Bytes that all of the texts begin with: those of the first and the last of them."""
    least, most = str(texts.min()).encode(), str(texts.max()).encode()
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(least, most, strict=False))
    return sum(1 for _ in alike)


def _keys(texts: pl.Series, skipped: int) -> NDArray[np.uint64]:
    """Eight bytes after the first ``skipped`` as big-endian numbers, zeros behind a text's end."""
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
