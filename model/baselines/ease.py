"""EASE (Steck, WWW 2019): linear item-item model in closed form with zero diagonal.

Dimensions: R prefixes, I_d items of a domain, M items with weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.data.co_occurrence import shared_users
from model.data.sequences import IntArray, Prefixes, Sequences

MOST_ITEMS = 12_000
"""Maximum items with weights, because three square tables (0.6 GB each at this number) must fit in
memory. In larger catalogues only the most popular items have weights."""

RIDGE = 100.0
"""L2 penalty; 20 to 400 differ little on validation events (docs/log.md)."""


@dataclass(frozen=True)
class Ease:
    """Sums of the weights of all items of a prefix, regardless of order."""

    weights: Tensor  # (M, M) from an item of the prefix to a scored item
    places: IntArray  # (V + 1,) row of each item in the weights, -1 without one
    domain_starts: IntArray

    @classmethod
    def fit(cls, sequences: Sequences, ridge: float = RIDGE) -> Ease:
        training = sequences.training()
        (left, right, shared), own = shared_users(training)
        chosen = np.sort(np.argsort(-own[1:], kind="stable")[:MOST_ITEMS] + 1)
        places = np.full(training.item_count + 1, -1)
        places[chosen] = np.arange(len(chosen))
        both = (places[left] >= 0) & (places[right] >= 0)
        cells = torch.from_numpy(places[left[both]]), torch.from_numpy(places[right[both]])
        gram = torch.diag(torch.from_numpy(own[chosen] + ridge).float())
        gram[cells] = torch.from_numpy(shared[both]).float()
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        weights = inverse / -inverse.diagonal()
        weights.fill_diagonal_(0)
        return cls(weights, places, sequences.domain_starts)

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        low, high = self.domain_starts[domain : domain + 2].tolist()
        rows, items = prefixes.items()
        places = self.places[items]
        met = torch.zeros(len(prefixes), len(self.weights))
        met[torch.from_numpy(rows[places >= 0]), torch.from_numpy(places[places >= 0])] = 1
        wanted = self.places[low + 1 : high + 1]
        scores = torch.zeros(len(prefixes), high - low)
        scores[:, torch.from_numpy(np.flatnonzero(wanted >= 0))] = (
            met @ self.weights[:, torch.from_numpy(wanted[wanted >= 0])]
        )
        return scores
