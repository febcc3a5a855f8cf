"""95 % intervals of metrics and of paired differences, by bootstrap over users.

Users are resampled with all their events, which are correlated. Differences are paired over the
same events, so small gains are detectable.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts import columns as col
from model.scoring.bootstrap import paired_bootstrap
from tasks.promoting.baseline_lead import bootstrap_draws
from tasks.promoting.stored_ranks import gains_at_10
from tasks.reporting.facts.content import HeldOut, MetricInterval

DRAWS = 1_000
SEED = 0
_BLOCK = 50


def metric_intervals(ranks: pl.DataFrame, ours: str) -> tuple[MetricInterval, ...]:
    """Returns NDCG@10 and HR@10 of every model by full ranking, ours first, the others best first.

    `ranks` is the table of `artifacts.kinds.results.RANKS`.
    """
    rows = ranks.filter(ranking="full").sort(col.USER_INDEX, "greater", "equal")
    models = rows["model"].unique(maintain_order=True).to_list()
    if ours not in models:
        return ()
    events = rows.filter(model=ours)[col.USER_INDEX].to_numpy()  # Equal for all models.
    _, first, sizes = np.unique(events, return_index=True, return_counts=True)
    sums = {model: np.add.reduceat(_gains(rows.filter(model=model)), first) for model in models}
    values = {model: total.sum(axis=0) / sizes.sum() for model, total in sums.items()}
    means = {model: _drawn_means(total, sizes) for model, total in sums.items()}
    # As the promotion gate compares, so that one report has one interval of a difference.
    ndcg = {model: total[:, 0] / sizes.mean() for model, total in sums.items()}
    rivals = [model for model in models if model != ours]
    compared = paired_bootstrap(
        ndcg[ours],
        np.stack([ndcg[model] for model in rivals], axis=1)
        if rivals
        else np.empty((len(sizes), 0)),
        bootstrap_draws(len(sizes)),
    )
    leads = {
        model: (found.difference, found.low, found.high)
        for model, found in zip(rivals, compared, strict=True)
    }
    order = sorted(models, key=lambda model: (model != ours, -float(values[model][0])))
    return tuple(
        MetricInterval(
            model=model,
            ndcg=_interval(values[model][0], means[model][:, 0]),
            hit_ratio=_interval(values[model][1], means[model][:, 1]),
            behind_ours=leads.get(model),
        )
        for model in order
    )


def held_out(ranks: pl.DataFrame, ours: str) -> HeldOut | None:
    """Returns the numbers of held-out events and of their users."""
    users = ranks.filter(ranking="full", model=ours)[col.USER_INDEX]
    return HeldOut(len(users), users.n_unique()) if len(users) else None


def _gains(rows: pl.DataFrame) -> NDArray[np.float64]:
    """Returns NDCG@10 and HR@10 of each event, (events, 2)."""
    return np.stack([gains_at_10(rows, metric) for metric in ("NDCG", "HR")], axis=1)


def _drawn_means(sums: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns means (draws, 2) over the events of resampled users; samples are equal for all
    models. ``sums`` (users, 2) are of each user's gains, ``sizes`` (users,) their events."""
    rng = np.random.default_rng(SEED)
    blocks = []
    for _ in range(0, DRAWS, _BLOCK):
        drawn = rng.integers(0, len(sums), (_BLOCK, len(sums)))
        blocks.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)[:, None])
    return np.concatenate(blocks)


def _interval(value: float, drawn: NDArray[np.float64]) -> tuple[float, float, float]:
    low, high = np.percentile(drawn, [2.5, 97.5]).tolist()
    return float(value), low, high
