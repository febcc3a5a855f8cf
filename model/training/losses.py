"""Loss functions (METHOD 2, 3.5 and 5).

Dimensions: K targets, N negatives, B pairs, H width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def binary_loss(positive: Tensor, negative: Tensor, has_negative: Tensor) -> Tensor:
    """Returns the binary cross-entropy of each target and its negatives, (K,).

    `positive` (K,) and `negative` (K, N) are scores; missing negatives are masked. N negatives
    contribute their mean, so that both classes have equal weight.
    """
    wrong = F.softplus(negative) * has_negative
    return F.softplus(-positive) + wrong.sum(1) / has_negative.sum(1).clamp_min(1)


def softmax_loss(scores: Tensor, target_columns: Tensor) -> Tensor:
    """Returns the cross-entropy of each target among I items: from scores (K, I) to losses (K,)."""
    return F.cross_entropy(scores, target_columns, reduction="none")


def sampled_candidates(
    positive: Tensor, negative: Tensor, is_target: Tensor, population: int
) -> Tensor:
    """Returns scores of each target and N shared negatives, (K, 1 + N), with the target in column
    0.

    Corrected for sampling from `population` items: with uniform sampling the logQ correction is a
    constant, each negative counts `population / N` times. `positive` (K,), `negative` (K, N);
    `is_target` (K, N) masks draws of the target itself.
    """
    weight = torch.log(torch.tensor(population / negative.shape[1], dtype=negative.dtype))
    others = (negative + weight).masked_fill(is_target, -torch.inf)
    return torch.cat((positive[:, None], others), 1)


def disagreement(left: Tensor, right: Tensor) -> Tensor:
    """Returns the symmetric Kullback-Leibler divergence of two softmaxes (R-Drop, Liang et al.
    2021).

    `left` and `right` (K, I) are scores of the same items; -inf in both masks an item. Result (K,),
    0 for equal distributions.
    """
    left, right = F.log_softmax(left, dim=1), F.log_softmax(right, dim=1)
    apart = left - right
    apart = apart.masked_fill(apart.isnan(), 0.0)  # -inf minus -inf
    return ((left.exp() - right.exp()) * apart).sum(1) / 2


def recency_weights(later: Tensor, half_weight: float) -> Tensor:
    """Returns `half_weight / (half_weight + later)`, (K,): the weight of targets with `later` (K,)
    newer targets of the same user; 1 for a `half_weight` of 0.

    The model ranks the event after a user's newest one, and what is chosen changes over time.
    """
    if not half_weight:
        return torch.ones_like(later, dtype=torch.float32)
    return half_weight / (half_weight + later.float())


def contrastive_loss(left: Tensor, right: Tensor, targets: Literal["soft", "identity"]) -> Tensor:
    """Returns the symmetric contrastive loss of B paired vectors, with other pairs as negatives.

    Soft targets are the similarities within each side; gradients flow through them, as in the
    released code. 0 for fewer than two pairs.
    """
    if len(left) < 2:
        return left.new_zeros(())
    logits = left @ right.T  # (B, B)
    if targets == "identity":
        wanted = torch.eye(len(left), device=left.device, dtype=left.dtype)
    else:
        wanted = torch.softmax((left @ left.T + right @ right.T) / 2, dim=1)
    return (_cross_entropy(logits, wanted) + _cross_entropy(logits.T, wanted.T)) / 2


def _cross_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    return -(wanted * F.log_softmax(logits, dim=1)).sum(1).mean()
