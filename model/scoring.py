"""What can be ranked: one protocol for the model and all baselines, and the model's side of it.

Dimensions: R prefixes, I_d items of a domain, C candidates, H hidden width.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from model.batches import moved, prefix_batch
from model.memory import Evidence, SparseAddition
from model.sequences import IntArray, Prefixes
from model.tri_thread import TriThread


class Scorer(Protocol):
    """Anything that gives each item of a domain a score after each prefix."""

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        """Scores (R, I_d), column `j` for global item `domain_starts[domain] + 1 + j`."""
        ...


class ModelScorer:
    """The fused score of a fitted model. Item vectors are computed once, when this is made."""

    def __init__(self, model: TriThread) -> None:
        self.model = model.eval()
        with torch.no_grad():
            every = torch.arange(int(model.domain_starts[-1]) + 1, device=model.device)
            self.rows = model.look_up(every)
            self.vectors = [
                model.item_vectors(model.domain_items(d), self.rows)  # (I_d, 2H)
                for d in range(model.domain_count)
            ]

    @torch.no_grad()
    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        dense, evidence = self.parts(prefixes, domain)
        if evidence is None or self.model.memory is None:
            return dense
        addition = self.model.memory.sparse(evidence)
        cells = addition.queries * addition.size + addition.columns
        dense.view(-1).index_add_(0, cells, addition.values)  # each cell once
        return dense

    @torch.no_grad()
    def parts(self, prefixes: Prefixes, domain: int) -> tuple[Tensor, Evidence | None]:
        """The matrix product alone, (R, I_d), and what the transition memory would add to it."""
        batch = prefix_batch(prefixes, self.model.config.max_length, domain).to(self.model.device)
        states, _ = self.model.states(batch, self.rows)
        dense = self.model.scale_scores(states[domain] @ self.vectors[domain].T)
        memory = self.model.memory
        if memory is None or memory.is_blank:
            return dense, None
        return dense, memory.look_up(memory.newest(batch, batch.queries[domain]), domain)

    @torch.no_grad()
    def remembered(self, prefixes: Prefixes, domain: int) -> SparseAddition | None:
        """What the transition memory adds to the scores after each prefix, where it knows any."""
        memory = self.model.memory
        if memory is None or memory.is_blank:
            return None
        batch = prefix_batch(prefixes, self.model.config.max_length, domain).to(self.model.device)
        newest = memory.newest(batch, batch.queries[domain])
        return memory.sparse(memory.look_up(newest, domain))

    @torch.inference_mode()
    def score_columns(self, states: Tensor, domain: int, columns: IntArray) -> Tensor:
        """Scores (R, C) of some items of a domain, given by column; any column below 0 counts as 0.

        `states` (R, 2H) are those of `states`.
        """
        chosen = torch.from_numpy(np.maximum(columns, 0)).to(states.device)
        vectors = self.vectors[domain][chosen]  # (R, C, 2H)
        return self.model.scale_scores((vectors @ states.unsqueeze(2)).squeeze(2))

    @torch.inference_mode()
    def states(self, prefixes: Prefixes, domain: int) -> Tensor:
        """The query side of the score, (R, 2H)."""
        batch = prefix_batch(prefixes, self.model.config.max_length, domain).to(self.model.device)
        states, _ = self.model.states(batch, self.rows)
        return states[domain]


class CandidateScorer:
    """The fused score of a few items after each prefix, for catalogues too large to score.

    Reads the rows of the items involved and no others: the same scores as `ModelScorer`'s.
    """

    def __init__(self, model: TriThread) -> None:
        self.model = model.eval()

    @torch.inference_mode()
    def score(self, prefixes: Prefixes, domain: int, items: IntArray) -> Tensor:
        """Scores (R, C) of `items` (R, C) of `domain`; the scores of item 0 mean nothing."""
        batch = prefix_batch(prefixes, self.model.config.max_length, domain).to(self.model.device)
        asked = moved(torch.from_numpy(items), self.model.device)
        rows = self.model.look_up(torch.cat((batch.mixed_items.flatten(), asked.flatten())))
        states, _ = self.model.states(batch, rows)
        vectors = self.model.item_vectors(asked, rows)  # (R, C, 2H)
        scores = self.model.scale_scores((vectors @ states[domain][:, :, None])[:, :, 0])
        memory = self.model.memory
        if memory is None or memory.is_blank:
            return scores
        evidence = memory.look_up(memory.newest(batch, batch.queries[domain]), domain)
        first = int(self.model.domain_starts[domain]) + 1
        return scores + memory(evidence).gather(1, (asked - first).clamp_min(0))
