"""The scoring path as one module without Python control flow, so that it can be exported.

What is unusual here: the split of a history by domain, which training does on the CPU in NumPy,
is a sort inside the graph, and item vectors are constants.

Dimensions: B histories, T positions, H hidden width, I_d items of a domain.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.scoring import ModelScorer


class ScoringPath(nn.Module):
    """Histories (B, T) of item indices to scores per domain, (B, I_d) each.

    A history is padded with zeros on the right and no longer than the model's `max_length`; scores
    include the items of the history. Column `j` of domain `d` is item `domain_starts[d] + 1 + j`.
    """

    def __init__(self, scorer: ModelScorer) -> None:
        super().__init__()
        model = scorer.model
        self.config = model.config
        self.starts: list[int] = model.domain_starts.tolist()
        self.global_thread = model.global_thread
        self.local_threads = model.local_threads
        self.adapted = nn.Buffer(scorer.rows.adapted.detach().clone())  # (items + 1, H)
        self.local = nn.Buffer(scorer.rows.local.detach().clone())
        for number, vectors in enumerate(scorer.vectors):
            self.register_buffer(f"items_{number}", vectors.detach().clone())  # (I_d, 2H)

    def forward(self, histories: Tensor) -> tuple[Tensor, ...]:
        mixed = None
        if self.global_thread is not None:
            mixed = self._comparable(_newest(self.global_thread, histories, self.adapted))
        scores = []
        for number, (low, high) in enumerate(zip(self.starts[:-1], self.starts[1:], strict=True)):
            parts = [] if mixed is None else [mixed]
            if len(self.local_threads):
                own = _own_part(histories, low, high)
                thread = self.local_threads[number]
                parts.append(self._comparable(_newest(thread, own, self.local)))
            state = torch.cat(parts, dim=-1)  # (B, 2H)
            products = state @ self.get_buffer(f"items_{number}").T
            if self.config.scoring == "cosine":
                products = products / self.config.temperature
            scores.append(products)
        return tuple(scores)

    def _comparable(self, states: Tensor) -> Tensor:
        if self.config.scoring == "cosine":
            return F.normalize(states, dim=-1, eps=1e-6)
        return states


def _newest(thread: nn.Module, items: Tensor, table: Tensor) -> Tensor:
    """State at the newest event of each row, (B, H); zeros where the row is empty."""
    states = thread(F.embedding(items, table), items == 0)  # (B, T, H)
    length = (items != 0).sum(1)  # (B,)
    place = (length - 1).clamp_min(0)[:, None, None].expand(-1, 1, states.shape[-1])
    newest = states.gather(1, place).squeeze(1)
    return newest * (length > 0).unsqueeze(1)


def _own_part(histories: Tensor, low: int, high: int) -> Tensor:
    """The events of one domain, moved to the left in their order, zeros behind them: (B, T)."""
    own = (histories > low) & (histories <= high)
    places = torch.arange(histories.shape[1], device=histories.device)
    # Distinct keys, because not every runtime's sort is stable.
    order = (places + histories.shape[1] * (~own).long()).argsort(dim=1)
    return (histories * own).gather(1, order)
