"""Implicit-feedback matrix factorisation by alternating least squares (Hu, Koren and Volinsky, ICDM
2008): chosen items have confidence 1 + alpha, others 1.

Every solve is exact and independent of the grouping into blocks and, up to rounding, of the number
of threads.

Dimensions: R rows, N factors' owners, F factors, L chosen items of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.data.sequences import IntArray

BLOCK_NUMBERS = 8_000_000
"""Factors per gather: 32 MB."""


@dataclass(frozen=True)
class AlsConfig:
    """Settings of a factorisation; defaults for sparse data."""

    factors: int = 64
    alpha: float = 10.0
    regularization: float = 0.01
    iterations: int = 15
    seed: int = 0


@dataclass(frozen=True)
class Choices:
    """Distinct items of each of R rows: `items[starts[r]:starts[r + 1]]`."""

    starts: IntArray  # (R + 1,)
    items: IntArray  # 0-based columns

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of_pairs(cls, rows: IntArray, items: IntArray, row_count: int) -> Choices:
        """Returns the choices of unordered pairs; duplicates count once."""
        width = int(items.max(initial=0)) + 1
        rows, items = np.divmod(np.unique(rows * width + items), width)
        return cls(np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=row_count)))), items)

    def transposed(self, item_count: int) -> Choices:
        """Returns the transposed choices: rows of each item."""
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
    """Returns the factors (R, F) of each row's choices, given the factors of `others` (N, F).

    Zeros for rows without a choice.
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
    """Solves (G + aY'Y) x = (1 + a) Y'1 as x = (1 + a) G⁻¹Y' (1 + aYG⁻¹Y')⁻¹ 1, with L
    equations."""
    projected = chosen @ inverse  # (R, L, F)
    system = alpha * projected @ chosen.transpose(1, 2)  # (R, L, L)
    system.diagonal(dim1=1, dim2=2).add_(1)
    weights = torch.linalg.solve(system, torch.ones(*chosen.shape[:2], 1))
    return (1 + alpha) * (projected.transpose(1, 2) @ weights)[:, :, 0]


def _solve_long(chosen: Tensor, gram: Tensor, alpha: float) -> Tensor:
    system = gram + alpha * chosen.transpose(1, 2) @ chosen  # (R, F, F)
    return torch.linalg.solve(system, (1 + alpha) * chosen.sum(1))
