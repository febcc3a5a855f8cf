"""The scoring path as one module without Python control flow, for export.

What is unusual here: a history is split by domain by a sort inside the graph, not by NumPy on the
CPU; item vectors and the memory's counts are constants.

Dimensions: B histories, T positions, H hidden width, M ensemble members, I_d items of a domain, L
newest events read by the memory, E stored pairs of those events.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.network.transition_memory import Evidence, TransitionMemory
from model.scoring.model_scorer import ModelScorer


class ScoringPath(nn.Module):
    """From histories (B, T) of item indices to scores per domain, (B, I_d) each.

    Histories have the oldest item first and are padded with zeros, at either end, up to the model's
    `max_length`; items of the history are scored as well. Column `j` of domain `d` is item
    `domain_starts[d] + 1 + j`.
    """

    def __init__(self, scorer: ModelScorer) -> None:
        super().__init__()
        model = scorer.model
        self.config = model.config
        self.starts: list[int] = model.domain_starts.tolist()
        self.global_thread = model.global_thread
        self.local_threads = model.local_threads
        self.memory = None
        if model.memory is not None and not model.memory.is_blank:
            self.memory = MemoryPath(model.memory)
        self.similarity, self.bridge = model.similarity, model.bridge
        if model.similarity is not None:
            self.texts = nn.Buffer(model.global_table.detach().clone())  # (items + 1, k)
        self.adapted = nn.Buffer(scorer.rows.adapted.detach().clone())  # (items + 1, M * H)
        self.local = nn.Buffer(scorer.rows.local.detach().clone())
        for number, vectors in enumerate(scorer.vectors):
            self.register_buffer(f"items_{number}", vectors.detach().clone())  # (I_d, S)

    def forward(self, histories: Tensor) -> tuple[Tensor, ...]:
        histories = _left_aligned(histories, histories > 0)
        mixed = None
        if self.global_thread is not None:
            mixed = self._comparable(_newest(self.global_thread, histories, self.adapted))
        scores = []
        for number, (low, high) in enumerate(zip(self.starts[:-1], self.starts[1:], strict=True)):
            parts = [] if mixed is None else [mixed]
            if len(self.local_threads):
                own = _left_aligned(histories, (histories > low) & (histories <= high))
                thread = self.local_threads[number]
                parts.append(self._comparable(_newest(thread, own, self.local)))
            state = torch.cat(parts, dim=-1)  # (B, 2MH)
            if self.similarity is not None:
                texts = self.similarity.states(histories, self.texts, number)
                state = torch.cat((state, texts), dim=1)
            if self.bridge is not None:
                inside = (histories > low) & (histories <= high)
                cold = ~inside.any(1, keepdim=True)
                bridged = torch.where(cold, self.bridge.states(histories, number), 0.0)
                state = torch.cat((state, bridged), dim=1)
            products = state @ self.get_buffer(f"items_{number}").T
            if self.config.scoring == "cosine":
                products = products / self.config.temperature
            scores.append(products)
        if self.memory is None:
            return tuple(scores)
        added = self.memory(histories)
        return tuple(dense + more for dense, more in zip(scores, added, strict=True))

    def _comparable(self, states: Tensor) -> Tensor:
        """Returns member states (M, B, H) concatenated as (B, M * H) and divided by M."""
        if self.config.scoring == "cosine":
            states = F.normalize(states, dim=-1, eps=1e-6)
        return states.transpose(0, 1).flatten(1) / self.config.ensemble_size


class MemoryPath(nn.Module):
    """Additions of the transition memory to the scores, (B, I_d) per domain.

    As `TransitionMemory.look_up`, with rows padded to the longest row and padding masked.
    """

    def __init__(self, memory: TransitionMemory) -> None:
        super().__init__()
        self.memory = memory
        self.widest = int(memory.row_starts.diff().max())
        self.starts: list[int] = memory.domain_starts.tolist()

    def forward(self, histories: Tensor) -> tuple[Tensor, ...]:
        newest = self._newest(histories)  # (B, L)
        begin = self.memory.row_starts[newest.flatten()]
        length = self.memory.row_starts[newest.flatten() + 1] - begin
        offsets = torch.arange(self.widest, device=histories.device)
        event, offset = torch.nonzero(offsets < length[:, None]).unbind(1)  # (E,) each
        entries = begin[event] + offset
        later, counts = self.memory.items[entries].long(), self.memory.counts[entries]
        affinities = None if self.memory.affinities is None else self.memory.affinities[entries]
        return tuple(
            self.memory(self._evidence(domain, newest, event, later, counts, affinities))
            for domain in range(len(self.starts) - 1)
        )

    def _newest(self, histories: Tensor) -> Tensor:
        length = (histories != 0).sum(1, keepdim=True)
        age = torch.arange(self.memory.newest_events, device=histories.device)
        column = length - 1 - age
        return torch.where(column >= 0, histories.gather(1, column.clamp_min(0)), 0)

    def _evidence(
        self,
        domain: int,
        newest: Tensor,
        event: Tensor,
        later: Tensor,
        counts: Tensor,
        affinities: Tensor | None,
    ) -> Evidence:
        low, high = self.starts[domain : domain + 2]
        inside = (later > low) & (later <= high)
        column = (later - low - 1).clamp(0, high - low - 1)
        return Evidence(
            domain,
            (newest.shape[0], high - low),
            event // self.memory.newest_events * (high - low) + column,
            event,
            counts * inside,
            None if affinities is None else affinities * inside,
            self.memory.totals[:, domain][newest],
            (newest > low) & (newest <= high),
            newest > 0,
        )


def _newest(thread: nn.Module, items: Tensor, table: Tensor) -> Tensor:
    """Returns the state at the newest event of each row, (M, B, H); zeros for empty rows."""
    states = thread(F.embedding(items, table), items == 0)
    if states.dim() == 3:  # a single Encoder is one member
        states = states.unsqueeze(0)  # (M, B, T, H)
    length = (items != 0).sum(1)  # (B,)
    place = (length - 1).clamp_min(0)[None, :, None, None]
    newest = states.gather(2, place.expand(len(states), -1, 1, states.shape[-1])).squeeze(2)
    return newest * (length > 0).unsqueeze(1)


def _left_aligned(histories: Tensor, kept: Tensor) -> Tensor:
    """Returns the kept events first, in order, and zeros for the others, (B, T)."""
    places = torch.arange(histories.shape[1], device=histories.device)
    # Distinct keys, because not every runtime's sort is stable.
    order = (places + histories.shape[1] * (~kept).long()).argsort(dim=1)
    return (histories * kept).gather(1, order)
