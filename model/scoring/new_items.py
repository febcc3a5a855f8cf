"""New items of a fitted model, scorable without retraining (METHOD 8).

In training, item vectors move away from their text projections, so a new item at its projection
would rank low. It therefore inherits trained rows and transitions from the known item of its domain
with the nearest text, and keeps its own text embedding. Without a near text, its local row is
predicted from its text by ridge regression.
"""

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.data.sequences import IntArray, Sequences
from model.data.tables import ItemTables
from model.network.text_similarity import least_length
from model.network.tri_thread import TriThread

RIDGE = 0.03
"""Ridge penalty, in units of the mean variance of a text dimension."""

BLOCK = 1024
"""New items per block that are compared with all known items of their domain."""
BLOCK_KNOWN = 16_384
"""Known items per block: 64 MB of cosines at a time, however large the catalogue is."""
NEAR = 0.3
"""Minimum cosine of two texts, centred on the domain mean, for inheritance."""


def with_cold_items(model: TriThread, tables: ItemTables, training: Sequences) -> TriThread:
    """Returns the model in which items without an event in `training` inherit from known ones.

    In training they occur as negatives only, which lowers their scores for all users. Domains
    without training events and models without texts are not changed. Returns `model` itself without
    changes, else a copy.
    """
    starts, count = model.domain_starts, training.item_count
    met = np.zeros(count + 1, bool)
    met[training.items] = True
    for low, high in zip(starts[:-1] + 1, starts[1:] + 1, strict=True):
        met[low:high] |= not met[low:high].any()
    if not model.reads_text or met[1:].all():
        return model
    return with_catalogue(model, tables, starts, np.where(met, np.arange(count + 1), 0))


def with_catalogue(
    model: TriThread, tables: ItemTables, domain_starts: IntArray, previous: IntArray
) -> TriThread:
    """Returns a copy of `model` over the items of `tables`, in evaluation mode.

    `previous` (|V'| + 1,): each item's index in the old catalogue, 0 for new items. Known items
    keep their rows, new ones inherit from items with similar texts. The global rows of `tables`
    must come from the model's own projection. Raises ValueError for tables of other widths, and for
    a model without texts, which cannot score new items.
    """
    if not model.reads_text:
        raise ValueError("the model reads no text, only ids; retrain it for new items")
    if tables.global_table.shape[1] != model.global_table.shape[1]:
        raise ValueError(
            f"global table of width {tables.global_table.shape[1]} for a model of width "
            f"{model.global_table.shape[1]}: project new items with the model's projection"
        )
    if len(domain_starts) != len(model.domain_starts) or len(previous) != tables.item_count + 1:
        raise ValueError("domains cannot be added, and `previous` needs a row per item and padding")
    grown = _copied_without_tables(model)
    grown.domain_starts = np.asarray(domain_starts, np.int64)
    grown.global_table = torch.from_numpy(tables.global_table).to(model.device)
    sources = _sources(grown, previous)
    grown.local_table = _table(_local_rows(model, grown, previous, sources), model.local_table)
    if model.correction is not None:
        grown.correction = _table(_kept(model.correction, sources), model.correction)
    if model.memory is not None:
        grown.memory = model.memory.with_catalogue(domain_starts, sources)
    if model.similarity is not None:
        grown.similarity = model.similarity.with_catalogue(domain_starts, grown.global_table)
    if model.bridge is not None:
        grown.bridge = model.bridge.with_catalogue(domain_starts, sources, previous)
    return grown


def _copied_without_tables(model: TriThread) -> TriThread:
    """Returns a copy in evaluation mode that shares the item tables, which are replaced next."""
    shared = (
        model.global_table,
        model.local_table,
        model.correction,
        model.memory,
        model.bridge,
        model.similarity,
    )
    return copy.deepcopy(model, {id(part): part for part in shared if part is not None}).eval()


def _sources(grown: TriThread, previous: IntArray) -> IntArray:
    """Returns the old index of each item or of its source, (|V'| + 1,); 0 without either."""
    sources = previous.copy()
    old = torch.from_numpy(previous).to(grown.device)
    for domain in range(grown.domain_count):
        items = grown.domain_items(domain)
        known, new = items[old[items] > 0], items[old[items] == 0]
        if not (len(known) and len(new)):
            continue
        theirs = grown.global_table[known]
        mean = theirs.mean(0)
        theirs -= mean
        least = least_length(theirs)
        F.normalize(theirs, dim=1, eps=least, out=theirs)
        for block in new.split(BLOCK):
            texts = F.normalize(grown.global_table[block] - mean, dim=1, eps=least)
            cosine, nearest = _nearest(texts, theirs)
            found = torch.where(cosine >= NEAR, old[known[nearest]], 0)
            sources[block.cpu().numpy()] = found.cpu().numpy()
    return sources


def _nearest(texts: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the largest product of each row of (b, k) with rows of (n, k), and that row's number;
    the first of equal ones. At most `BLOCK` x `BLOCK_KNOWN` products are in memory."""
    best = torch.full((len(texts),), -torch.inf, dtype=texts.dtype, device=texts.device)
    place = torch.zeros(len(texts), dtype=torch.int64, device=texts.device)
    for begin in range(0, len(known), BLOCK_KNOWN):
        product, row = (texts @ known[begin : begin + BLOCK_KNOWN].T).max(1)
        is_nearer = product > best
        best = torch.where(is_nearer, product, best)
        place = torch.where(is_nearer, row + begin, place)
    return best, place


def _local_rows(
    model: TriThread, grown: TriThread, previous: IntArray, sources: IntArray
) -> Tensor:
    """Returns rows of known items, inherited rows, and predicted rows of the rest."""
    rows = _kept(model.local_table, sources)
    place = torch.from_numpy(sources).to(rows.device)
    old = torch.from_numpy(previous).to(rows.device)
    for domain in range(grown.domain_count):
        items = grown.domain_items(domain)
        known, alone = items[old[items] > 0], items[place[items] == 0]
        if len(alone):
            text = grown.global_table
            rows[alone] = _expected(text[known], rows[known], text[alone])
    return rows


def _kept(table: nn.Embedding, sources: IntArray) -> Tensor:
    """Returns the rows of the old items in `sources`; zeros for 0."""
    old = torch.from_numpy(sources).to(table.weight.device)
    return table.weight.detach()[old] * (old > 0).unsqueeze(1)


def _table(rows: Tensor, like: nn.Embedding) -> nn.Embedding:
    return nn.Embedding.from_pretrained(rows, freeze=not like.weight.requires_grad, padding_idx=0)


def _expected(text: Tensor, rows: Tensor, asked: Tensor) -> Tensor:
    """Returns the prediction at texts (m, k) of a ridge regression of trained rows (n, H) on texts
    (n, k)."""
    centre, mean = text.mean(0), rows.mean(0)
    seen = (text - centre).double()
    moments = seen.T @ seen
    strength = RIDGE * moments.diagonal().mean() + 1e-12
    penalty = strength * torch.eye(len(moments), dtype=seen.dtype, device=seen.device)
    weights = torch.linalg.solve(moments + penalty, seen.T @ (rows - mean).double())
    return (mean + (asked - centre).double() @ weights).to(rows.dtype)
