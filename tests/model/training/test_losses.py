"""Each loss beside a twin written as loops over float64 numbers."""

import math
from typing import Literal

import numpy as np
import pytest
import torch

from model.training.losses import (
    binary_loss,
    contrastive_loss,
    disagreement,
    sampled_candidates,
    softmax_loss,
)

RNG = np.random.default_rng(3)


def tensor(*shape: int) -> torch.Tensor:
    return torch.from_numpy(RNG.normal(size=shape))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_binary_loss_is_the_mean_over_events_of_target_and_mean_negative() -> None:
    positive, negative = tensor(5), tensor(5, 3)
    exists = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 1, 1]]).bool()
    wanted = 0.0
    for k in range(5):
        wanted -= math.log(sigmoid(float(positive[k])))
        wrong = [-math.log(1 - sigmoid(float(negative[k, n]))) for n in range(3) if exists[k, n]]
        wanted += sum(wrong) / len(wrong) if wrong else 0.0
    assert binary_loss(positive, negative, exists).mean().item() == pytest.approx(wanted / 5)


def test_full_softmax_is_the_surprise_at_the_target() -> None:
    scores, columns = tensor(4, 6), torch.tensor([5, 0, 2, 2])
    wanted = 0.0
    for k in range(4):
        total = sum(math.exp(float(s)) for s in scores[k])
        wanted -= math.log(math.exp(float(scores[k, columns[k]])) / total)
    assert softmax_loss(scores, columns).mean().item() == pytest.approx(wanted / 4)


def sampled_softmax(
    positive: torch.Tensor, negative: torch.Tensor, hit: torch.Tensor, population: int
) -> torch.Tensor:
    scores = sampled_candidates(positive, negative, hit, population)
    return softmax_loss(scores, torch.zeros(len(scores), dtype=torch.int64))


def test_sampled_softmax_lets_each_negative_stand_for_its_share_of_the_domain() -> None:
    positive, negative = tensor(4), tensor(4, 3)
    hit = torch.zeros(4, 3, dtype=torch.bool)
    hit[1, 2] = True
    wanted = 0.0
    for k in range(4):
        others = sum(60 / 3 * math.exp(float(negative[k, n])) for n in range(3) if not hit[k, n])
        target = math.exp(float(positive[k]))
        wanted -= math.log(target / (target + others))
    got = sampled_softmax(positive, negative, hit, 60)
    assert got.mean().item() == pytest.approx(wanted / 4)


def test_sampling_every_item_is_the_full_softmax() -> None:
    scores, columns = tensor(4, 6), torch.tensor([5, 0, 2, 2])
    positive = scores[torch.arange(4), columns]
    hit = torch.arange(6) == columns[:, None]
    sampled = sampled_softmax(positive, scores, hit, 6)
    torch.testing.assert_close(sampled, softmax_loss(scores, columns))


def test_disagreement_is_the_mean_of_both_divergences() -> None:
    left, right = tensor(3, 5), tensor(3, 5)
    left[1, 2] = right[1, 2] = -math.inf
    wanted = 0.0
    for k in range(3):
        one, other = ([math.exp(float(s)) for s in side[k]] for side in (left, right))
        for p, q in zip(one, other, strict=True):
            if p > 0:
                p, q = p / sum(one), q / sum(other)
                wanted += (p * math.log(p / q) + q * math.log(q / p)) / 2
    assert disagreement(left, right).sum().item() == pytest.approx(wanted)


def test_what_agrees_costs_nothing_and_hidden_items_leave_gradients_finite() -> None:
    scores = tensor(3, 5)
    scores[0, 1] = -math.inf
    assert disagreement(scores, scores).tolist() == [0.0, 0.0, 0.0]
    left, right = scores.clone().requires_grad_(), (scores * 2).requires_grad_()
    disagreement(left, right).sum().backward()
    assert left.grad is not None
    assert torch.isfinite(left.grad).all()
    assert left.grad.any()


@pytest.mark.parametrize("targets", ["soft", "identity"])
def test_contrastive_loss_matches_its_formula(targets: Literal["soft", "identity"]) -> None:
    x, y = tensor(5, 3), tensor(5, 3)

    def softmax(row: list[float]) -> list[float]:
        total = sum(math.exp(v) for v in row)
        return [math.exp(v) / total for v in row]

    logits = [[float(x[i] @ y[j]) for j in range(5)] for i in range(5)]
    wanted = [
        softmax([float(x[i] @ x[j] + y[i] @ y[j]) / 2 for j in range(5)])
        if targets == "soft"
        else [float(i == j) for j in range(5)]
        for i in range(5)
    ]
    expected = 0.0
    for i in range(5):
        rows = softmax(logits[i])
        columns = softmax([logits[j][i] for j in range(5)])
        for j in range(5):
            expected -= wanted[i][j] * math.log(rows[j]) / 10
            expected -= wanted[j][i] * math.log(columns[j]) / 10
    assert contrastive_loss(x, y, targets).item() == pytest.approx(expected)


def test_a_single_pair_has_nothing_to_tell_apart() -> None:
    assert contrastive_loss(tensor(1, 3), tensor(1, 3), "soft").item() == 0.0
