"""Paired bootstrap over users: confidence interval and p-value of the difference of two models.

Users are resampled with replacement; both models are evaluated on the same samples.

Dimensions: R users, M rivals.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Comparison:
    """Mean difference to a rival, its 95 % interval and p-value."""

    difference: float
    low: float
    high: float
    p_value: float  # two-sided


def paired_bootstrap(
    ours: NDArray[np.float64], rivals: NDArray[np.float64], draws: int = 2000, seed: int = 0
) -> list[Comparison]:
    """Compares gains (R,) with those of rivals (R, M), over the same users in the same order.

    The p-value is twice the share of samples with the opposite sign of the difference, counting the
    observed data as one sample, so it is at least `2 / (draws + 1)`.
    """
    if not len(ours):
        raise ValueError("nothing to compare: no user was ranked")
    differences = ours[:, None] - rivals  # (R, M)
    rng = np.random.default_rng(seed)
    users = len(ours)
    means = np.empty((draws, rivals.shape[1]))
    for draw in range(draws):
        times = np.bincount(rng.integers(0, users, users), minlength=users)
        means[draw] = times @ differences / users
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    turned = np.minimum((means <= 0).sum(axis=0), (means >= 0).sum(axis=0))
    p_values = np.minimum(2 * (turned + 1) / (draws + 1), 1.0)
    observed = differences.mean(axis=0)
    return [Comparison(*map(float, row)) for row in zip(observed, low, high, p_values, strict=True)]
