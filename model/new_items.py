"""Give a fitted model a changed catalogue: new items are scorable at once (METHOD 8)."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from model.sequences import IntArray
from model.tables import ItemTables
from model.tri_thread import TriThread

RIDGE = 0.03
"""Weight of the penalty, in units of the mean variance of a text dimension."""


def with_catalogue(
    model: TriThread, tables: ItemTables, domain_starts: IntArray, previous: IntArray
) -> TriThread:
    """A copy of `model` over the items of `tables`, in evaluation mode.

    `previous` (|V'| + 1,) holds each item's index in the old catalogue, 0 where it is new: known
    items keep their trained rows, and new ones get the local row that their text lets expect. Of
    `tables` the global rows count; they must be of the model's own projection. Raises ValueError
    for tables of other widths, and for a model of item ids, which has nothing to say about a new
    one.
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
    grown.global_table = torch.from_numpy(tables.global_table).to(model.device)
    local = _expected_local(model, grown, previous)
    grown.local_table = _table(local, model.local_table)
    if model.correction is not None:
        grown.correction = _table(_kept(model.correction, previous), model.correction)
    if model.memory is not None:
        grown.memory = model.memory.with_catalogue(domain_starts, previous)
    return grown


def _expected_local(model: TriThread, grown: TriThread, previous: IntArray) -> Tensor:
    """Known items keep their rows; new ones get what items of like text have come to.

    Trained rows have moved away from where their texts put them, so a new item left at its text's
    place would lie where nobody looks any more.
    """
    rows = _kept(model.local_table, previous)
    old = torch.from_numpy(previous).to(rows.device)
    for domain in range(grown.domain_count):
        items = grown.domain_items(domain)
        known, new = items[old[items] > 0], items[old[items] == 0]
        if len(new):
            text = grown.global_table
            rows[new] = _expected(text[known], rows[known], text[new])
    return rows


def _kept(table: nn.Embedding, previous: IntArray) -> Tensor:
    """The rows of known items; zeros for new ones."""
    old = torch.from_numpy(previous).to(table.weight.device)
    return table.weight.detach()[old] * (old > 0).unsqueeze(1)


def _table(rows: Tensor, like: nn.Embedding) -> nn.Embedding:
    return nn.Embedding.from_pretrained(rows, freeze=not like.weight.requires_grad, padding_idx=0)


def _expected(text: Tensor, rows: Tensor, asked: Tensor) -> Tensor:
    """Ridge regression of trained rows (n, H) on texts (n, k), at the texts asked for (m, k)."""
    centre, mean = text.mean(0), rows.mean(0)
    seen = (text - centre).double()
    moments = seen.T @ seen
    strength = RIDGE * moments.diagonal().mean() + 1e-12
    penalty = strength * torch.eye(len(moments), dtype=seen.dtype, device=seen.device)
    weights = torch.linalg.solve(moments + penalty, seen.T @ (rows - mean).double())
    return (mean + (asked - centre).double() @ weights).to(rows.dtype)
