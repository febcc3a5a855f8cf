"""Domain bridge: scores for a domain in which a history has no event.

Without events the local thread contributes nothing, and the global thread alone does not model
popularity. For such a history the bridge predicts preferences in the target domain from the events
of the *other* domains (METHOD 9; as EMCDR, Man et al., IJCAI 2017, with several factorisations and
item texts).

What is unusual here: the bridge is linear. Its score is an inner product of a state and an item
vector, which are appended to those of the threads, so ranking, search indexes and exported graphs
need no special case. It is fitted in closed form after training (`model/training/bridge_fit.py`),
not by gradient descent.

Dimensions: K queries, T positions, V items, D domains, W width of the features of one domain,
R width of the predicted state.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ModelConfig
from model.data.sequences import IntArray
from model.network.crossing_votes import CrossingVotes

TEXT_WIDTH = 64
"""Number of principal components of the item texts used as features beside the factors."""
STATE_WIDTH = 64
"""Width of the predicted state; the 192 factors are reduced to the leading directions."""
PREDICTION_WEIGHT, POPULARITY_WEIGHT = 60.0, 20.0
"""Weights of the prediction (scores with standard deviation 1) and of an item's log count, relative
to the threads' scores. Selected on cold validation users, for whom the threads' scores have no
effect on sparse data and lower the quality on dense data (docs/log.md)."""
SMALLEST = 1e-9


def factor_widths(config: ModelConfig) -> tuple[int, ...]:
    """Returns the number of factors of each factorisation; their mean is more accurate than each
    one."""
    return (config.bridge_factors, 2 * config.bridge_factors)


def bridge_width(config: ModelConfig) -> int:
    """Returns the number of floats that the bridge stores per item; 0 without a bridge."""
    if not config.bridge_factors:
        return 0
    return sum(factor_widths(config)) + TEXT_WIDTH + STATE_WIDTH + 1


class DomainBridge(nn.Module):
    """Item features, a linear map from features to a state for each target domain, and item
    vectors."""

    def __init__(
        self, domain_starts: IntArray, config: ModelConfig, crossing_answers: int = 0
    ) -> None:
        super().__init__()
        self.domain_starts = np.asarray(domain_starts, np.int64)
        rows, domains = int(self.domain_starts[-1]) + 1, len(self.domain_starts) - 1
        self.widths = (*factor_widths(config), TEXT_WIDTH)
        width = sum(self.widths)
        self.unit = config.temperature if config.scoring == "cosine" else 1.0
        self.features: Tensor
        self.maps: Tensor
        self.vectors: Tensor
        self.is_fitted: Tensor
        self.register_buffer("features", torch.zeros(rows, width))
        # The additional row is the prediction without events.
        self.register_buffer("maps", torch.zeros(domains, domains * width + 1, STATE_WIDTH))
        # The last column is an item's log popularity.
        self.register_buffer("vectors", torch.zeros(rows, STATE_WIDTH + 1))
        self.register_buffer("is_fitted", torch.zeros(()))
        self.votes = CrossingVotes(rows, domains, crossing_answers) if crossing_answers else None

    @property
    def domain_count(self) -> int:
        return len(self.domain_starts) - 1

    @property
    def width(self) -> int:
        """Numbers that a state has here: R + 1, and the votes'."""
        return self.vectors.shape[1] + (0 if self.votes is None else self.votes.vectors.shape[1])

    def with_catalogue(
        self, domain_starts: IntArray, sources: IntArray, previous: IntArray
    ) -> DomainBridge:
        """Returns the bridge with the item indices of another catalogue (`new_items.py`).

        `sources` (|V'| + 1,): old item whose features each item has in a history; `previous`: its
        old index; 0: none. A new item has no item vector here, because it would duplicate its
        source item in every list; the threads score it by its text.
        """
        grown = DomainBridge.__new__(DomainBridge)
        nn.Module.__init__(grown)
        grown.domain_starts = np.asarray(domain_starts, np.int64)
        grown.widths, grown.unit = self.widths, self.unit
        grown.register_buffer("features", _rows(self.features, sources))
        grown.register_buffer("vectors", _rows(self.vectors, previous))
        grown.register_buffer("maps", self.maps.clone())
        grown.register_buffer("is_fitted", self.is_fitted.clone())
        grown.votes = self.votes and self.votes.with_catalogue(sources, previous)
        return grown

    def history_features(self, items: Tensor, domain: int) -> Tensor:
        """Returns features (K, D * W + 1) of histories (K, T), with item 0 as padding.

        Features are summed by domain and normalised to unit length by kind, so that the length of a
        history and the size of a catalogue have no effect. Events of the target `domain` are
        ignored.
        """
        parts = []
        for source in range(self.domain_count):
            if source == domain:
                parts.append(self.features.new_zeros(items.shape[0], self.features.shape[1]))
                continue
            low, high = self.domain_starts[source : source + 2].tolist()
            inside = ((items > low) & (items <= high)).unsqueeze(-1)
            summed = (F.embedding(items, self.features) * inside).sum(1)  # (K, W)
            kinds = summed.split(self.widths, dim=1)
            parts += [F.normalize(kind, dim=1, eps=SMALLEST) for kind in kinds]
        parts.append(self.features.new_ones(items.shape[0], 1))
        return torch.cat(parts, dim=1)

    def states(self, items: Tensor, domain: int) -> Tensor:
        """Returns weighted states (K, R + 1) for `domain` after histories (K, T)."""
        predicted = self.history_features(items, domain) @ self.maps[domain]
        popularity = predicted.new_full((items.shape[0], 1), POPULARITY_WEIGHT)
        found = torch.cat((PREDICTION_WEIGHT * predicted, popularity), dim=1)
        if self.votes is not None:
            found = torch.cat((found, self.votes.states(items, domain)), dim=1)
        return found * (self.is_fitted * self.unit)

    def extended(self, states: Tensor, items: Tensor, is_cold: Tensor, domain: int) -> Tensor:
        """Returns thread states (K, S) of histories (K, T) with the bridge's appended, (K, S + R +
        1).

        The bridge adds zeros unless `is_cold` (K,).
        """
        rows = is_cold.nonzero()[:, 0]
        bridged = states.new_zeros(len(states), self.width)
        bridged[rows] = self.states(items[rows], domain)
        return torch.cat((states, bridged), dim=1)

    def item_vectors(self, items: Tensor) -> Tensor:
        """Returns the item side of the bridge's score, (..., R + 1)."""
        own = F.embedding(items, self.vectors)
        if self.votes is None:
            return own
        return torch.cat((own, F.embedding(items, self.votes.vectors)), dim=-1)


def _rows(table: Tensor, old: IntArray) -> Tensor:
    """Returns the rows of the old items; zeros for index 0."""
    place = torch.from_numpy(np.asarray(old, np.int64)).to(table.device)
    return table[place] * (place > 0).unsqueeze(1)
