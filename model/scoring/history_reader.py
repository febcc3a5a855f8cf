"""States of histories for ranking: one pass of the global and of each requested local thread.

Dimensions: R prefixes, M members, H width, L newest events, S score factors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.data.batches import CrossDomainBatch, prefix_batch
from model.data.sequences import Prefixes
from model.network.encoder import Encoder
from model.network.tri_thread import ItemLookup, Members, TriThread
from model.scoring.last_states import LastStates


@dataclass(frozen=True)
class HistoryStates:
    """States of R prefixes at their last events."""

    states: dict[int, Tensor]  # by domain (R, S), the query side of the score
    newest: Tensor | None  # (R, L) newest items, padded with 0; None without a transition memory


class HistoryReader:
    """Threads of a fitted model, with the weights at construction."""

    def __init__(self, model: TriThread, rows: ItemLookup) -> None:
        """`rows` contain all items, so an item's index is its row."""
        self.model, self.rows = model, rows
        self._global = None if model.global_thread is None else _last_states(model.global_thread)
        self._local = [_last_states(thread) for thread in model.local_threads]

    def read(self, prefixes: Prefixes, domains: Sequence[int]) -> HistoryStates:
        """Returns the states of each prefix for each of the domains (at least one)."""
        model = self.model
        batch = prefix_batch(prefixes, model.config.max_length, domains).to(model.device)
        mixed = self._mixed(batch)
        states = {domain: self._state(batch, domain, mixed) for domain in domains}
        newest = None
        if model.memory is not None and not model.memory.is_blank:
            newest = model.memory.newest(batch, batch.queries[domains[0]])
        return HistoryStates(states, newest)

    def _mixed(self, batch: CrossDomainBatch) -> Tensor | None:
        if self._global is None:
            return None
        present = batch.last_position >= 0
        return self._last(self._global, batch.mixed_items[present], self.rows.adapted, present)

    def _state(self, batch: CrossDomainBatch, domain: int, mixed: Tensor | None) -> Tensor:
        parts = [] if mixed is None else [self.model.comparable(mixed)]
        if self._local:
            present = batch.queries[domain].local_position >= 0
            items = batch.local_items[domain]
            local = self._last(self._local[domain], items, self.rows.local, present)
            parts.append(self.model.comparable(local))
        states = self.model.side_by_side(torch.cat(parts, dim=-1))
        return with_fitted_parts(self.model, states, batch, domain)

    def _last(self, thread: LastStates, items: Tensor, table: Tensor, present: Tensor) -> Tensor:
        """Returns states (M, R, H); zeros for prefixes without events of the thread."""
        config = self.model.config
        states = table.new_zeros(config.ensemble_size, len(present), config.hidden)
        if len(items):
            states[:, present] = thread(F.embedding(items, table), items == 0)
        return states


def with_fitted_parts(
    model: TriThread, states: Tensor, batch: CrossDomainBatch, domain: int
) -> Tensor:
    """Returns thread states (K, 2MH) at the queries of `domain` with those of the text similarity
    and of the domain bridge appended, (K, S), as `scoring_vectors` has them."""
    queries = batch.queries[domain]
    histories = batch.mixed_items[queries.rows]
    if model.similarity is not None:
        texts = model.similarity.states(histories, model.global_table, domain)
        states = torch.cat((states, texts), dim=1)
    if model.bridge is not None:
        states = model.bridge.extended(states, histories, queries.local_position < 0, domain)
    return states


def _last_states(thread: nn.Module) -> LastStates:
    members = thread.members if isinstance(thread, Members) else [thread]
    return LastStates([member for member in members if isinstance(member, Encoder)])
