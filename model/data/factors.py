"""Implicit-feedback matrix factorisation by alternating least squares (Hu, Koren and Volinsky, ICDM
2008): a user who chose an item prefers it with confidence 1 + alpha, every other one with 1.

Every solve is exact and its result does not depend on how rows are grouped into blocks, nor, but
for rounding, on the number of threads.

Dimensions: R rows, N factors' owners, F factors, L chosen items of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.data.sequences import IntArray

BLOCK_NUMBERS = 8_000_000
"""Factors gathered at a time: 32 MB."""


@dataclass(frozen=True)
class AlsConfig:
    """Settings of a factorisation; the defaults are usual for sparse shops."""

    factors: int = 64
    alpha: float = 10.0
    regularization: float = 0.01
    iterations: int = 15
    seed: int = 0


@dataclass(frozen=True)
class Choices:
    """Which items each of R rows chose, each once: `items[starts[r]:starts[r + 1]]`."""

    starts: IntArray  # (R + 1,)
    items: IntArray  # 0-based columns

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of_pairs(cls, rows: IntArray, items: IntArray, row_count: int) -> Choices:
        """Collects pairs in any order; repeated ones count once."""
        width = int(items.max(initial=0)) + 1
        rows, items = np.divmod(np.unique(rows * width + items), width)
        return cls(np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=row_count)))), items)

    def transposed(self, item_count: int) -> Choices:
        """Which rows chose each item."""
        rows = np.repeat(np.arange(len(self)), np.diff(self.starts))
        return Choices.of_pairs(self.items, rows, item_count)


def item_factors(choices: Choices, item_count: int, config: AlsConfig) -> Tensor:
    """Returns the factors (item_count, F) of items from users' choices, float32 on the CPU."""
    generator = torch.Generator().manual_seed(config.seed)
    items = torch.randn(item_count, config.factors, generator=generator) * 0.01
    by_item = choices.transposed(item_count)
    for _ in range(config.iterations):
        items = solved(by_item, solved(choices, items, config), config)
    return items


def solved(choices: Choices, others: Tensor, config: AlsConfig) -> Tensor:
    """Returns the factors (R, F) that fit each row's choices, those of `others` (N, F) fixed.

    A row without a choice has factors of zero.
    """
    width = others.shape[1]
    gram = (others.T @ others).double() + config.regularization * torch.eye(width)
    inverse = torch.linalg.inv(gram).float()
    found = torch.zeros(len(choices), width)
    lengths = np.diff(choices.starts)
    for length in np.unique(lengths[lengths > 0]).tolist():
        rows = np.flatnonzero(lengths == length)
        for block in np.array_split(rows, -(-len(rows) * length * width // BLOCK_NUMBERS)):
            places = choices.starts[block][:, None] + np.arange(length)
            chosen = others[torch.from_numpy(choices.items[places])]  # (R, L, F)
            found[torch.from_numpy(block)] = (
                _solve_short(chosen, inverse, config.alpha)
                if length < width
                else _solve_long(chosen, gram.float(), config.alpha)
            )
    return found


def _solve_short(chosen: Tensor, inverse: Tensor, alpha: float) -> Tensor:
    """Solves (G + aY'Y) x = (1 + a) Y'1 as x = (1 + a) G⁻¹Y' (1 + aYG⁻¹Y')⁻¹ 1: L equations."""
    projected = chosen @ inverse  # (R, L, F)
    system = alpha * projected @ chosen.transpose(1, 2)  # (R, L, L)
    system.diagonal(dim1=1, dim2=2).add_(1)
    weights = torch.linalg.solve(system, torch.ones(*chosen.shape[:2], 1))
    return (1 + alpha) * (projected.transpose(1, 2) @ weights)[:, :, 0]


def _solve_long(chosen: Tensor, gram: Tensor, alpha: float) -> Tensor:
    system = gram + alpha * chosen.transpose(1, 2) @ chosen  # (R, F, F)
    return torch.linalg.solve(system, (1 + alpha) * chosen.sum(1))
