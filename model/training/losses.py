"""What training minimises (METHOD 2, 3.5 and 5).

Dimensions: K targets, N negatives, B pairs, H width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def binary_loss(positive: Tensor, negative: Tensor, has_negative: Tensor) -> Tensor:
    """Binary cross-entropy of each target and its negatives, (K,).

    `positive` (K,) and `negative` (K, N) are scores; negatives that do not exist are left out.
    With N negatives their mean counts as one, so that the two classes weigh the same.
    """
    wrong = F.softplus(negative) * has_negative
    return F.softplus(-positive) + wrong.sum(1) / has_negative.sum(1).clamp_min(1)


def softmax_loss(scores: Tensor, target_columns: Tensor) -> Tensor:
    """Cross-entropy of each target among I items: scores (K, I), losses (K,)."""
    return F.cross_entropy(scores, target_columns, reduction="none")


def sampled_candidates(
    positive: Tensor, negative: Tensor, is_target: Tensor, population: int
) -> Tensor:
    """Scores of each target and N shared negatives, (K, 1 + N), the target in column 0.

    They stand for the `population` they are drawn from: the logQ correction for uniform draws is
    one constant, each negative counts `population / N` times. `positive` (K,), `negative` (K, N);
    `is_target` (K, N) marks draws that hit the target itself, which then count as no item.
    """
    weight = torch.log(torch.tensor(population / negative.shape[1], dtype=negative.dtype))
    others = (negative + weight).masked_fill(is_target, -torch.inf)
    return torch.cat((positive[:, None], others), 1)


def disagreement(left: Tensor, right: Tensor) -> Tensor:
    """Mean of both Kullback-Leibler divergences between two softmaxes (R-Drop, Liang et al. 2021).

    `left` and `right` (K, I) are scores of the same items; -inf in both is an item that does not
    count. Returns (K,), 0 where the two agree.
    """
    left, right = F.log_softmax(left, dim=1), F.log_softmax(right, dim=1)
    apart = left - right
    apart = apart.masked_fill(apart.isnan(), 0.0)  # -inf less -inf
    return ((left.exp() - right.exp()) * apart).sum(1) / 2


def contrastive_loss(left: Tensor, right: Tensor, targets: Literal["soft", "identity"]) -> Tensor:
    """Symmetric contrastive loss between B paired vectors; the other pairs are the negatives.

    With soft targets, pairs that resemble each other within their own side share the target, and
    gradient flows through that resemblance too, as in the released code.
    0 for fewer than two pairs: there is nothing to tell apart.
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
