"""Approximate search index (FAISS) of very large domains.

The index contains the concatenated vector of each item, ``[a(v); L_d[v]]``, and is queried with the
concatenated state ``[h_global; h_d]`` (METHOD 4): their inner product is the model's dense score.
Candidates are scored exactly afterwards, so errors are omissions only.
"""

import math
from collections.abc import Iterable

import faiss
import numpy as np
from numpy.typing import NDArray

from model.data.sequences import IntArray

TRAINING_ROWS = 50_000
LISTS_PER_ROOT = 2
"""Inverted lists per square root of the number of items. More would be slightly faster to query but
much slower to build."""
TRAINING_ROUNDS = 10
PROBED_SHARE, LEAST_PROBED = 0.02, 64
"""Lists looked into: the share of a large domain's, and more of a smaller one's: among 200,000
items 18 of 894 lists held .961 of the best 20, and 64 hold .986 (benchmarks/ann_recall.py)."""


class AnnIndex:
    """An inverted file over the vectors of one domain, quantised to 8 bits."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        """Builds the index of `vectors` (items, width)."""
        count, width = vectors.shape
        lists = max(1, min(count // 40, LISTS_PER_ROOT * math.isqrt(count)))
        quantizer = faiss.IndexFlatIP(width)
        self._index = faiss.IndexIVFScalarQuantizer(
            quantizer, width, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        chosen = vectors
        if count > TRAINING_ROWS:
            rows = np.random.default_rng(0).choice(count, TRAINING_ROWS, replace=False)
            chosen = vectors[np.sort(rows)]
        self._index.cp.seed, self._index.cp.niter = 0, TRAINING_ROUNDS
        self._index.train(np.ascontiguousarray(chosen))  # pyright: ignore[reportCallIssue]
        self._index.add(np.ascontiguousarray(vectors))  # pyright: ignore[reportCallIssue]
        self._index.nprobe = max(LEAST_PROBED, round(PROBED_SHARE * lists))

    def columns(self, states: NDArray[np.float32], count: int) -> IntArray:
        """Returns the rows (R, count) of the best `vectors` for each state, padded with -1."""
        found = self._index.search(np.ascontiguousarray(states), count)  # pyright: ignore[reportCallIssue]
        return found[1].astype(np.int64)


def ann_indices(vectors: Iterable[NDArray[np.float32]], exact_up_to: int) -> dict[int, AnnIndex]:
    """Returns an index of every domain with more than `exact_up_to` items; `vectors` (items, width)
    are by domain."""
    return {
        number: AnnIndex(of_domain)
        for number, of_domain in enumerate(vectors)
        if len(of_domain) > exact_up_to
    }
