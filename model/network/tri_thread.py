"""The model: one global thread over the mixed history, one local thread per domain (METHOD 4).

What is unusual here:

- The scores of both threads are added by one inner product of concatenated vectors: `states`
  (K, 2MH) per domain and `item_vectors` (n, 2MH). In ranking, `scoring/history_reader.py`
  concatenates the same states, and `scoring/model_scorer.py` multiplies them.
- A step looks up the vectors of its distinct items once, so the gradients of the tables are sparse.
- An ensemble of M networks is one module with vectors of width M * H; scores are averaged.

Dimensions: B users, T positions, K queries, n items, k width of the global table, H hidden width,
M ensemble members, D domains, I_d items of domain d.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ModelConfig
from model.data.batches import CrossDomainBatch
from model.data.sequences import IntArray
from model.data.tables import ItemTables
from model.network.domain_bridge import DomainBridge
from model.network.encoder import Encoder
from model.network.text_similarity import TextSimilarity
from model.network.transition_memory import TransitionMemory

INITIAL_STD = 0.02


@dataclass(frozen=True)
class ItemLookup:
    """Global and local vectors of distinct items, looked up once per step.

    The only table access of a step: its gradients are non-zero for these n rows only.
    """

    ids: Tensor  # (n,) ascending
    adapted: Tensor  # (n, H) global side, `a(v)`
    local: Tensor  # (n, H)

    def member(self, number: int, hidden: int) -> ItemLookup:
        """Returns the rows of one ensemble member, (n, H)."""
        share = slice(number * hidden, (number + 1) * hidden)
        return ItemLookup(self.ids, self.adapted[:, share], self.local[:, share])

    def places(self, items: Tensor) -> Tensor:
        """Returns the row indices of `items` (any shape), which must be in `ids`."""
        return torch.searchsorted(self.ids, items.contiguous())


class Adapter(nn.Module):
    """`W2 (W1 x + b1) + b2`, width -> width / 2 -> hidden, without an activation (METHOD 2).

    The two weight matrices are multiplied first, which for many rows is cheaper than two layers.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        middle = max(width // 2, 1)
        self.first, self.second = nn.Linear(width, middle), nn.Linear(middle, hidden)

    def forward(self, vectors: Tensor) -> Tensor:
        weight = self.second.weight @ self.first.weight  # (hidden, width)
        return F.linear(vectors, weight, self.second(self.first.bias))


class Members(nn.Module):
    """Ensemble of M encoders: from vectors (B, T, M * H) to states (M, B, T, H)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.members = nn.ModuleList(Encoder(config) for _ in range(config.ensemble_size))

    def forward(self, vectors: Tensor, is_padding: Tensor) -> Tensor:
        shares = vectors.chunk(len(self.members), dim=-1)
        return torch.stack(
            [member(x, is_padding) for member, x in zip(self.members, shares, strict=True)]
        )


class TriThread(nn.Module):
    """Global thread, D local threads and their item tables."""

    def __init__(
        self,
        tables: ItemTables,
        domain_starts: IntArray,
        config: ModelConfig,
        profile_width: int | None = None,
        memory_entries: int = 0,
        crossing_answers: int = 0,
        has_similarity: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.domain_starts = np.asarray(domain_starts, np.int64)
        self.profile_width = profile_width
        text = torch.from_numpy(tables.global_table)
        start = torch.from_numpy(tables.local_table).repeat(1, config.ensemble_size)
        self.global_table: Tensor
        self.register_buffer("global_table", text)
        self.adapter = Adapter(text.shape[1], config.ensemble_size * config.hidden)
        self.identities = (
            nn.Embedding(len(text), config.ensemble_size * config.hidden, padding_idx=0)
            if config.global_items == "ids"
            else None
        )
        self.global_thread = _thread(config) if config.global_thread else None
        self.local_threads = nn.ModuleList(
            _thread(config) for _ in range(self.domain_count if config.local_threads else 0)
        )
        if config.local_start == "random":
            start = INITIAL_STD * torch.randn_like(start)
        self.local_table = nn.Embedding.from_pretrained(
            start.clone(), freeze=config.local_tables == "frozen", padding_idx=0
        )
        self.correction = (
            nn.Embedding.from_pretrained(torch.zeros_like(start), freeze=False, padding_idx=0)
            if config.global_correction
            else None
        )
        self.user_adapter = Adapter(profile_width, config.hidden) if profile_width else None
        self.memory = (
            TransitionMemory(self.domain_starts, config, memory_entries)
            if config.memory_events
            else None
        )
        self.bridge = (
            DomainBridge(self.domain_starts, config, crossing_answers)
            if config.bridge_factors and self.domain_count > 1
            else None
        )
        # Added after training if the validation likelihood improves.
        self.similarity = (
            TextSimilarity(self.domain_starts, text.shape[1], config) if has_similarity else None
        )
        self._init_weights()

    @property
    def domain_count(self) -> int:
        return len(self.domain_starts) - 1

    @property
    def reads_text(self) -> bool:
        """Whether scores depend on item texts.

        False with trainable ids in place of texts (ablation, baseline), also if local tables start
        from texts.
        """
        if self.identities is not None:
            return False
        return self.global_thread is not None or self.config.local_start == "text"

    def item_tables(self) -> list[nn.Embedding]:
        """Returns the trainable tables with one row per item."""
        tables = (self.local_table, self.correction, self.identities)
        return [table for table in tables if table is not None and table.weight.requires_grad]

    @property
    def device(self) -> torch.device:
        return self.local_table.weight.device

    def domain_items(self, domain: int) -> Tensor:
        """Returns the global indices of all items of a domain, (I_d,)."""
        low, high = self.domain_starts[domain : domain + 2].tolist()
        return torch.arange(low + 1, high + 1, device=self.device)

    def look_up(self, items: Tensor) -> ItemLookup:
        """Returns local vectors and adapter outputs (METHOD 2) of `items` (any shape, with
        repeats)."""
        ids = torch.unique(items)
        adapted = (
            self.adapter(F.embedding(ids, self.global_table))
            if self.identities is None
            else self.identities(ids)
        )
        if self.correction is not None:
            adapted = adapted + self.correction(ids)
        return ItemLookup(ids, adapted, self.local_table(ids))

    def item_vectors(self, items: Tensor, rows: ItemLookup) -> Tensor:
        """Returns the item side of the score, (..., 2MH), global part first."""
        places = rows.places(items)
        parts = []
        if self.global_thread is not None:
            parts.append(self.comparable(F.embedding(places, rows.adapted)))
        if len(self.local_threads):
            parts.append(self.comparable(F.embedding(places, rows.local)))
        return torch.cat(parts, dim=-1)

    def states(
        self, batch: CrossDomainBatch, rows: ItemLookup
    ) -> tuple[list[Tensor], Tensor | None]:
        """Returns the states at each domain's queries, (K_d, 2MH), and the members' last global
        states, (M, B, H).

        A thread without events contributes zeros, so the other thread scores alone.
        """
        states, last = self.member_states(batch, rows)
        return [self.side_by_side(found) for found in states], last

    def member_states(
        self, batch: CrossDomainBatch, rows: ItemLookup
    ) -> tuple[list[Tensor], Tensor | None]:
        """Returns `states` by member: (M, K_d, 2H) per domain, and (M, B, H)."""
        read = self._global_states(batch, rows)
        states = []
        for domain, queries in enumerate(batch.queries):
            parts = []
            if read is not None:
                parts.append(self.comparable(read[domain]))
            if len(self.local_threads):
                local = self._local_states(domain, batch, rows)
                parts.append(self.comparable(_rows_or_zero(local, queries.local_position)))
            states.append(torch.cat(parts, dim=-1))
        return states, None if read is None else read[-1]

    def _global_states(
        self, batch: CrossDomainBatch, rows: ItemLookup
    ) -> tuple[Tensor, ...] | None:
        """Returns the global thread's states at each domain's queries, (M, K_d, H), and last, (M,
        B, H).

        Gathered in one operation, because the gradient of a gather has the size of all states.
        """
        if self.global_thread is None:
            return None
        states = _run(self.global_thread, batch.mixed_items, rows, rows.adapted)
        asked = [*(queries.mixed_position for queries in batch.queries), batch.last_position]
        gathered = _rows_or_zero(states, torch.cat(asked))
        return gathered.split([len(positions) for positions in asked], dim=1)

    def scale_scores(self, products: Tensor) -> Tensor:
        """Returns scores from inner products of states and item vectors."""
        return products / self.config.temperature if self.config.scoring == "cosine" else products

    def side_by_side(self, states: Tensor) -> Tensor:
        """Returns member states (M, K, 2H) as (K, 2 * M * H) in the order of `item_vectors`,
        divided by M: the product of both is the mean of the members' scores."""
        split = states.unflatten(-1, (-1, self.config.hidden))  # (M, K, 2, H)
        return split.permute(1, 2, 0, 3).flatten(1) / self.config.ensemble_size

    def _local_states(self, domain: int, batch: CrossDomainBatch, rows: ItemLookup) -> Tensor:
        items = batch.local_items[domain]
        if not (len(batch.queries[domain]) and len(items)):
            return rows.local.new_zeros(self.config.ensemble_size, 0, self.config.hidden)
        return _run(self.local_threads[domain], items, rows, rows.local)

    def comparable(self, vectors: Tensor) -> Tensor:
        """Returns the vectors, normalised to unit length per member for cosine scores."""
        if self.config.scoring == "cosine":
            split = vectors.unflatten(-1, (-1, self.config.hidden))
            return F.normalize(split, dim=-1, eps=1e-6).flatten(-2)
        return vectors

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, Encoder):
                nn.init.normal_(module.positions.weight, std=INITIAL_STD)
        if self.identities is not None:
            nn.init.normal_(self.identities.weight, std=INITIAL_STD)


def _thread(config: ModelConfig) -> Encoder | Members:
    return Encoder(config) if config.ensemble_size == 1 else Members(config)


def _run(thread: nn.Module, items: Tensor, rows: ItemLookup, vectors: Tensor) -> Tensor:
    """Runs a thread over items (B, T) with the rows of `vectors`; returns states (M, B * T, H)."""
    states = thread(F.embedding(rows.places(items), vectors), items == 0)
    members = states if states.dim() == 4 else states[None]  # a single Encoder is one member
    return members.flatten(1, 2).float()


def _rows_or_zero(states: Tensor, positions: Tensor) -> Tensor:
    """Returns rows of `states` (M, n, H) at `positions` (K,); zeros for position -1."""
    if not states.shape[1]:
        return states.new_zeros(len(states), len(positions), states.shape[2])
    return states.index_select(1, positions.clamp_min(0)) * (positions >= 0).unsqueeze(1)
