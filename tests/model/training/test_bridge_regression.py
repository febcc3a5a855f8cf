"""The regression of the bridge: features that nobody has cost nothing and change nothing."""

import torch
from torch import Tensor

from model.training.bridge_fit import RIDGES, RegressionSums, regressed


def naive(sums: RegressionSums, metric: Tensor) -> Tensor:
    """All features, by plain inverses."""
    found = []
    for ridge in RIDGES:
        penalty = ridge * torch.eye(len(sums.features), dtype=torch.float64)
        penalty[-1, -1] = 1e-3
        inverse = torch.linalg.inv(sums.features + penalty)
        mapped = inverse @ sums.moments
        cross = mapped.T @ sums.moments
        left = sums.factors - cross - cross.T + mapped.T @ sums.features @ mapped
        freedom = float((inverse * sums.features).sum()) / sums.users
        found.append((float((left * metric).sum()) / (1 - freedom) ** 2, mapped))
    return min(found, key=lambda entry: entry[0])[1]


def test_features_that_no_user_has_are_left_out_and_have_no_weight() -> None:
    torch.manual_seed(2)
    histories = torch.randn(40, 11, dtype=torch.float64)
    histories[:, [0, 3, 4, 8]] = 0
    histories[:, -1] = 1
    wanted = histories[:, 1:4] @ torch.randn(3, 5, dtype=torch.float64)
    wanted += torch.randn(40, 5, dtype=torch.float64)
    sums = RegressionSums(
        histories.T @ histories, histories.T @ wanted, wanted.T @ wanted, len(histories)
    )
    metric = torch.eye(5, dtype=torch.float64)
    found = regressed(sums, metric)
    torch.testing.assert_close(found, naive(sums, metric))
    assert not found[[0, 3, 4, 8]].any()
