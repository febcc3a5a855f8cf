"""The protocol of scorers (model and baselines), and its implementation by the model.

Dimensions: R prefixes, I_d items of a domain, C candidates, S width of the concatenated vectors of
threads, text similarity and bridge.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.data.batches import moved, prefix_batch
from model.data.sequences import IntArray, Prefixes
from model.network.transition_memory import Evidence, SparseAddition
from model.network.tri_thread import ItemLookup, TriThread
from model.scoring.history_reader import HistoryReader, HistoryStates, with_fitted_parts

ROUGH_FROM = 2_000
"""Minimum items of a domain for candidate selection in half precision."""


class Scorer(Protocol):
    """Protocol: scores for each item of a domain after each prefix."""

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        """Returns scores (R, I_d), column `j` for global item `domain_starts[domain] + 1 + j`."""
        ...


class ModelScorer:
    """Score of a fitted model. Item vectors are computed once, at construction.

    The threads' vectors are concatenated, so one matrix product adds the threads' scores
    (`TriThread.item_vectors`); the transition memory's scores are added to it.
    """

    def __init__(self, model: TriThread) -> None:
        self.model = model.eval()
        with torch.no_grad():
            every = torch.arange(int(model.domain_starts[-1]) + 1, device=model.device)
            self.rows = model.look_up(every)
            self.vectors = [
                scoring_vectors(model, model.domain_items(d), self.rows)  # (I_d, S)
                for d in range(model.domain_count)
            ]
            self._reader = HistoryReader(model, self.rows)

    @torch.no_grad()
    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        moments = self.read(prefixes, [domain])
        scores = self._dense(moments, domain)
        addition = self.remembered(moments, domain)
        return scores if addition is None else addition.added_to(scores)

    @torch.no_grad()
    def parts(self, prefixes: Prefixes, domain: int) -> tuple[Tensor, Evidence | None]:
        """Returns the matrix product, (R, I_d), and the additions of the transition memory."""
        moments = self.read(prefixes, [domain])
        return self._dense(moments, domain), self._evidence(moments, domain)

    @torch.no_grad()
    def read(self, prefixes: Prefixes, domains: Sequence[int]) -> HistoryStates:
        """Returns the states of prefixes for some domains, from one pass of the threads."""
        return self._reader.read(prefixes, domains)

    @torch.no_grad()
    def remembered(self, moments: HistoryStates, domain: int) -> SparseAddition | None:
        """Returns the additions of the transition memory to the scores of a domain, None without
        any."""
        evidence = self._evidence(moments, domain)
        memory = self.model.memory
        return None if evidence is None or memory is None else memory.sparse(evidence)

    @torch.no_grad()
    def rough_products(self, moments: HistoryStates, domain: int) -> Tensor:
        """Returns scores (R, I_d) without the memory's additions, accurate to 1 %, for candidate
        selection.

        Uses half precision if the processor supports it, in a third of the time.
        """
        if not self.is_rough(domain):
            return self._dense(moments, domain)
        return self._half_products[domain](self.model.scale_scores(moments.states[domain]))

    def is_rough(self, domain: int) -> bool:
        """Returns whether `rough_products` differ from exact ones."""
        many = len(self.vectors[domain]) >= ROUGH_FROM
        return many and self.model.device.type == "cpu" and is_fast_here()

    @torch.no_grad()
    def score_columns(self, states: Tensor, domain: int, columns: IntArray) -> Tensor:
        """Returns scores (R, C) of items given by column; negative columns count as 0.

        `states` (R, S) are those of `HistoryStates`.
        """
        chosen = torch.from_numpy(np.maximum(columns, 0)).to(states.device)
        vectors = F.embedding(chosen, self.vectors[domain])  # (R, C, S)
        return self.model.scale_scores((vectors @ states.unsqueeze(2)).squeeze(2))

    def _dense(self, moments: HistoryStates, domain: int) -> Tensor:
        return self.model.scale_scores(moments.states[domain]) @ self.vectors[domain].T

    def _evidence(self, moments: HistoryStates, domain: int) -> Evidence | None:
        memory = self.model.memory
        if memory is None or moments.newest is None:
            return None
        return memory.look_up(moments.newest, domain)

    @cached_property
    def _half_products(self) -> list[HalfProduct]:
        return [HalfProduct(vectors) for vectors in self.vectors]


def scoring_vectors(model: TriThread, items: Tensor, rows: ItemLookup) -> Tensor:
    """Returns the item side of scores, (..., S): vectors of the threads and, if present, of the
    text similarity and the domain bridge."""
    parts = [model.item_vectors(items, rows)]
    if model.similarity is not None:
        parts.append(model.similarity.item_vectors(items, model.global_table))
    if model.bridge is not None:
        parts.append(model.bridge.item_vectors(items))
    return torch.cat(parts, dim=-1)


class CandidateScorer:
    """Scores of selected items after each prefix, for large catalogues.

    Reads the rows of these items only; scores equal those of `ModelScorer`.
    """

    def __init__(self, model: TriThread) -> None:
        self.model = model.eval()

    @torch.inference_mode()
    def score(self, prefixes: Prefixes, domain: int, items: IntArray) -> Tensor:
        """Returns scores (R, C) of `items` (R, C) of `domain`; scores of item 0 are undefined."""
        batch = prefix_batch(prefixes, self.model.config.max_length, domain).to(self.model.device)
        asked = moved(torch.from_numpy(items), self.model.device)
        rows = self.model.look_up(torch.cat((batch.mixed_items.flatten(), asked.flatten())))
        queries = batch.queries[domain]
        states = with_fitted_parts(
            self.model, self.model.states(batch, rows)[0][domain], batch, domain
        )
        vectors = scoring_vectors(self.model, asked, rows)  # (R, C, S)
        scores = self.model.scale_scores((vectors @ states[:, :, None])[:, :, 0])
        memory = self.model.memory
        if memory is None or memory.is_blank:
            return scores
        evidence = memory.look_up(memory.newest(batch, queries), domain)
        first = int(self.model.domain_starts[domain]) + 1
        return scores + memory(evidence).gather(1, (asked - first).clamp_min(0))


ROWS_EXPECTED = 8
"""Number of states that the packing is optimised for; others are correct as well."""


class HalfProduct:
    """Item vectors (I, W) in half precision, packed once, for candidate selection.

    Eight histories against 24,000 items of width 512 take one core 8 to 10 ms in single precision
    and 2 ms in half precision: reading the item vectors dominates, and these are half as large.
    """

    def __init__(self, vectors: Tensor) -> None:
        """`vectors` (I, W) are not changed."""
        self._vectors = vectors.bfloat16()
        self._packed = _can_pack()
        if self._packed:
            self._vectors = torch.ops.mkldnn._reorder_linear_weight(self._vectors, ROWS_EXPECTED)

    def __call__(self, states: Tensor) -> Tensor:
        """Returns products (R, I) of `states` (R, W), accurate to about 1 % of the product of
        lengths."""
        halves = states.bfloat16()
        if self._packed:
            product = torch.ops.mkldnn._linear_pointwise(
                halves, self._vectors, None, "none", [], ""
            )
        else:
            product = F.linear(halves, self._vectors)
        return product.float()


@cache
def is_fast_here() -> bool:
    """Returns whether this processor multiplies half precision faster than single."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _can_pack() -> bool:
    """Uses two operations of torch's compiler without a public name."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return is_fast_here() and all(hasattr(torch.ops.mkldnn, name) for name in names)
