"""Scores from an LLM's answers for a domain in which a history has no event.

The LLM was asked, once for all users, which items of the other domain users of an item (or of its
cluster) look for (`tasks/cross_domains.py`). The score of an item (its vote) is the weighted cosine
between the mean of the embedded answers to the history's items and the item's text. It is a part of
the bridge between domains: an inner product of a state and an item vector.

Dimensions: A answers, K queries, T positions, V items, D domains, W width of an embedded answer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.data.sequences import IntArray

VOTE_WIDTH = 64
"""Leading principal components of texts and answers that are compared."""


class CrossingVotes(nn.Module):
    """Embedded answers, the answer that each item leads to, and the item side of the score."""

    def __init__(self, rows: int, domains: int, answers: int) -> None:
        super().__init__()
        self.answers: Tensor
        self.answer_of: Tensor
        self.vectors: Tensor
        self.weight: Tensor
        self.register_buffer("answers", torch.zeros(answers, VOTE_WIDTH))
        self.register_buffer("answer_of", torch.zeros(domains, rows, dtype=torch.int64))
        self.register_buffer("vectors", torch.zeros(rows, VOTE_WIDTH))
        self.register_buffer("weight", torch.zeros(()))

    def with_catalogue(self, sources: IntArray, previous: IntArray) -> CrossingVotes:
        """Returns the votes with the item indices of another catalogue.

        `sources` and `previous` (|V'| + 1,) as in `DomainBridge.with_catalogue`.
        """
        grown = CrossingVotes(len(sources), len(self.answer_of), len(self.answers))
        device = self.vectors.device
        as_history, known = (torch.from_numpy(old).to(device) for old in (sources, previous))
        grown.answers, grown.weight = self.answers.clone(), self.weight.clone()
        grown.answer_of = self.answer_of[:, as_history]
        grown.vectors = self.vectors[known]
        return grown

    def states(self, items: Tensor, domain: int) -> Tensor:
        """Returns weighted states (K, W) for `domain` after histories (K, T), item 0 as padding."""
        answers = F.embedding(self.answer_of[domain][items], self.answers)  # (K, T, W)
        return F.normalize(answers.sum(1), dim=1, eps=1e-9) * self.weight
