"""Pairs of items of different domains with similar embeddings."""

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.kinds.dataset import Dataset
from tasks.reporting.facts.content import Bridge

LOOKED_AT = 3_000
"""Seeded sample of items, of which the closest pairs are shown."""
SHOWN = 8


def bridges(data: Dataset, vectors: np.ndarray) -> tuple[Bridge, ...]:
    """Returns the closest pairs across domains, with each item in at most one pair."""
    titled = data.items.filter(pl.col(col.TITLE).is_not_null())
    drawn = titled.sample(min(LOOKED_AT, titled.height), seed=0).sort(col.ITEM_INDEX)
    chosen = vectors[drawn[col.ITEM_INDEX].to_numpy()]
    unit = chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-12)
    domains = drawn[col.DOMAIN].to_numpy()
    cosines = np.where(domains[:, None] < domains[None, :], unit @ unit.T, -np.inf)
    shown: list[Bridge] = []
    used: set[int] = set()
    best = np.argsort(-cosines, axis=None)[: 50 * SHOWN]
    titles = drawn[col.TITLE].to_list()
    for left, right in np.stack(np.unravel_index(best, cosines.shape), axis=1).tolist():
        if used & {left, right} or not np.isfinite(cosines[left, right]) or len(shown) == SHOWN:
            continue
        used |= {left, right}
        shown.append(
            Bridge(
                domains=(str(domains[left]), str(domains[right])),
                titles=(titles[left], titles[right]),
                similarity=float(cosines[left, right]),
            )
        )
    return tuple(shown)
