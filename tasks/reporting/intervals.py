"""How sure a metric is: 95 % intervals by drawing the users anew, and differences user by user.

Each user has one held-out event, so drawing events is drawing users. Differences are paired: both
models are asked for the same events, which makes small gains visible that two separate intervals
would hide.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts import columns as col
from tasks.reporting.content import MetricInterval

CUTOFF = 10
DRAWS = 1_000
SEED = 0
_BLOCK = 50


def metric_intervals(ranks: pl.DataFrame, ours: str) -> tuple[MetricInterval, ...]:
    """Returns NDCG@10 and HR@10 of every model by full ranking, ours first, the others best first.

    `ranks` is the table of `artifacts.results.RANKS`.
    """
    rows = ranks.filter(ranking="full").sort(col.USER_INDEX)
    models = rows["model"].unique(maintain_order=True).to_list()
    if ours not in models:
        return ()
    gains = {model: _gains(rows.filter(model=model)) for model in models}
    means = {model: _drawn_means(gain) for model, gain in gains.items()}
    order = sorted(models, key=lambda model: (model != ours, -float(gains[model][:, 0].mean())))
    return tuple(
        MetricInterval(
            model=model,
            ndcg=_interval(gains[model][:, 0].mean(), means[model][:, 0]),
            hit_ratio=_interval(gains[model][:, 1].mean(), means[model][:, 1]),
            behind_ours=None
            if model == ours
            else _interval(
                (gains[ours] - gains[model])[:, 0].mean(), (means[ours] - means[model])[:, 0]
            ),
        )
        for model in order
    )


def _gains(rows: pl.DataFrame) -> NDArray[np.float64]:
    """NDCG@10 and HR@10 of each event, (events, 2), expected over the order of ties."""
    position = np.arange(1, CUTOFF + 1)
    gains = np.stack((1 / np.log2(position + 1), np.ones(CUTOFF)), axis=1)
    total = np.concatenate((np.zeros((1, 2)), np.cumsum(gains, axis=0)))
    greater, equal = rows["greater"].to_numpy(), rows["equal"].to_numpy()
    first, last = np.minimum(greater, CUTOFF), np.minimum(greater + equal + 1, CUTOFF)
    return (total[last] - total[first]) / (equal + 1)[:, None]


def _drawn_means(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means (draws, 2) of events drawn with replacement; every model gets the same draws."""
    rng = np.random.default_rng(SEED)
    blocks = [
        gains[rng.integers(0, len(gains), (_BLOCK, len(gains)))].mean(axis=1)
        for _ in range(0, DRAWS, _BLOCK)
    ]
    return np.concatenate(blocks)


def _interval(value: float, drawn: NDArray[np.float64]) -> tuple[float, float, float]:
    low, high = np.percentile(drawn, [2.5, 97.5]).tolist()
    return float(value), low, high
