"""Text similarity of an item to the user's events in its domain, added to the threads' scores.

A network of this size does not retain which texts a user bought last. The texts of the history's
events in the target domain are summed, each event weighing `text_decay` times the next one, divided
by the square root of the weights' sum, and compared with the text of the item. The score is an
inner product of a state and an item vector, which are appended to those of the threads, so ranking,
search indexes and exported graphs need no special case.

The network is trained without it. The gain per domain is fitted on validation events, and the
module exists only in models whose validation likelihood it improves
(`model/training/memory_fit.py`).

Dimensions: K queries, T positions, V items, D domains, k width of the item texts.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ModelConfig
from model.data.sequences import IntArray

# Events of other domains have no effect on likelihood; a sum would favour long histories, a mean
# short ones (docs/log.md).
OTHER_DOMAINS, LENGTH_POWER = 0.0, 0.5

LEAST_LENGTH = 0.01
"""Share of the typical distance from the domain mean below which a text is uninformative."""


def least_length(centred: Tensor) -> float:
    """Returns the length below which the centred text of an item is uninformative, from those of
    its domain, (n, k): an item without text is at the mean, where its direction is rounding
    noise."""
    return max(LEAST_LENGTH * float(centred.norm(dim=1).mean()), 1e-12)


class TextSimilarity(nn.Module):
    """Centre of the texts of each domain, inverse lengths of the centred texts, and gains.

    `other_domains` and `length_power` are stored with the weights, because models of earlier
    versions have other values (`EARLIER`).
    """

    EARLIER: ClassVar[dict[str, float]] = {"other_domains": 1.0, "length_power": 0.0}

    def __init__(self, domain_starts: IntArray, width: int, config: ModelConfig) -> None:
        super().__init__()
        starts = torch.from_numpy(np.asarray(domain_starts, np.int64))
        rows, domains = int(starts[-1]) + 1, len(starts) - 1
        self.config, self.decay = config, config.text_decay
        self.unit = config.temperature if config.scoring == "cosine" else 1.0
        self.starts: Tensor
        self.centres: Tensor
        self.least: Tensor
        self.scale: Tensor
        self.gain: Tensor
        self.other_domains: Tensor
        self.length_power: Tensor
        self.register_buffer("starts", starts, persistent=False)
        self.register_buffer("centres", torch.zeros(domains, width))
        self.register_buffer("least", torch.ones(domains))
        self.register_buffer("scale", torch.zeros(rows))  # 0 for padding and missing texts
        self.register_buffer("gain", torch.zeros(domains))
        self.register_buffer("other_domains", torch.tensor(OTHER_DOMAINS))
        self.register_buffer("length_power", torch.tensor(LENGTH_POWER))

    @classmethod
    def of_texts(
        cls, domain_starts: IntArray, table: Tensor, config: ModelConfig
    ) -> TextSimilarity:
        """Returns the module for the texts of all items, `table` (V + 1, k), with gains of 0."""
        made = cls(domain_starts, table.shape[1], config).to(table.device)
        for domain, low, high in made._ranges():
            texts = table[low + 1 : high + 1]
            if len(texts):
                made.centres[domain] = texts.mean(0)
                made.least[domain] = least_length(texts - made.centres[domain])
        made._set_scale(table)
        return made

    def with_catalogue(self, domain_starts: IntArray, table: Tensor) -> TextSimilarity:
        """Returns the module for the texts `table` (V' + 1, k) of another catalogue, with the same
        centres and gains (`new_items.py`)."""
        grown = TextSimilarity(domain_starts, table.shape[1], self.config).to(table.device)
        for name in ("centres", "least", "gain", *self.EARLIER):
            getattr(grown, name).copy_(getattr(self, name))
        grown._set_scale(table)
        return grown

    def item_vectors(self, items: Tensor, table: Tensor) -> Tensor:
        """Returns centred texts of unit length, (..., k), of `items`; zeros without a text."""
        domains = (torch.bucketize(items, self.starts) - 1).clamp_min(0)
        centred = F.embedding(items, table) - F.embedding(domains, self.centres)
        return centred * self.scale[items].unsqueeze(-1)

    def states(self, histories: Tensor, table: Tensor, domain: int) -> Tensor:
        """Returns weighted states (K, k) for `domain` after histories (K, T), padded with 0 on the
        right."""
        return self.history_sums(histories, table, domain) * (self.gain[domain] * self.unit)

    def history_sums(self, histories: Tensor, table: Tensor, domain: int) -> Tensor:
        """Returns decayed sums of the texts of histories for `domain`, (K, k)."""
        length = (histories > 0).sum(1, keepdim=True)
        age = length - 1 - torch.arange(histories.shape[1], device=histories.device)
        weight = torch.where(age >= 0, self.decay ** age.clamp_min(0).to(table.dtype), 0.0)
        is_own = (histories > self.starts[domain]) & (histories <= self.starts[domain + 1])
        weight = torch.where(is_own, weight, weight * self.other_domains)
        sums = (self.item_vectors(histories, table) * weight.unsqueeze(-1)).sum(1)
        total = weight.sum(1, keepdim=True)
        return sums / torch.where(total > 0, total, 1.0) ** self.length_power

    def _set_scale(self, table: Tensor) -> None:
        for domain, low, high in self._ranges():
            lengths = (table[low + 1 : high + 1] - self.centres[domain]).norm(dim=1)
            is_text = lengths >= self.least[domain]
            self.scale[low + 1 : high + 1] = torch.where(is_text, 1 / lengths.clamp_min(1e-12), 0.0)

    def _ranges(self) -> list[tuple[int, int, int]]:
        """Returns number, first and last item less one of each domain."""
        ranges = pairwise(self.starts.tolist())
        return [(domain, low, high) for domain, (low, high) in enumerate(ranges)]
