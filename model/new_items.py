"""Give a fitted model a changed catalogue: new items are scorable at once (METHOD 8)."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from model.sequences import IntArray
from model.tables import ItemTables
from model.tri_thread import TriThread


def with_catalogue(
    model: TriThread, tables: ItemTables, domain_starts: IntArray, previous: IntArray
) -> TriThread:
    """A copy of `model` over the items of `tables`, in evaluation mode.

    `previous` (|V'| + 1,) holds each item's index in the old catalogue, 0 where it is new: known
    items keep their trained rows, new ones start at their row of `tables`. The tables must come
    from the same projection as the model's own. Raises ValueError for tables of other widths, and
    for a model of item ids, which has nothing to say about a new one.
    """
    if model.config.global_items == "ids":
        raise ValueError("a model with global_items='ids' knows no text; retrain it for new items")
    if tables.global_table.shape[1] != model.global_table.shape[1]:
        raise ValueError(
            f"global table of width {tables.global_table.shape[1]} for a model of width "
            f"{model.global_table.shape[1]}: project new items with the model's projection"
        )
    if len(domain_starts) != len(model.domain_starts) or len(previous) != tables.item_count + 1:
        raise ValueError("domains cannot be added, and `previous` needs a row per item and padding")
    grown = copy.deepcopy(model).eval()
    grown.domain_starts = np.asarray(domain_starts, np.int64)
    start = torch.from_numpy(tables.local_table).repeat(1, model.config.members).to(model.device)
    grown.global_table = torch.from_numpy(tables.global_table).to(model.device)
    grown.local_table = _kept(model.local_table, start, previous)
    if model.correction is not None:
        grown.correction = _kept(model.correction, torch.zeros_like(start), previous)
    if model.memory is not None:
        grown.memory = model.memory.with_catalogue(domain_starts, previous)
    return grown


def _kept(table: nn.Embedding, start: Tensor, previous: IntArray) -> nn.Embedding:
    """`start` with the rows of known items taken over from `table`."""
    rows = start.clone()
    known = torch.from_numpy(np.flatnonzero(previous)).to(rows.device)
    rows[known] = table.weight.detach()[torch.from_numpy(previous).to(rows.device)[known]]
    return nn.Embedding.from_pretrained(rows, freeze=not table.weight.requires_grad, padding_idx=0)
