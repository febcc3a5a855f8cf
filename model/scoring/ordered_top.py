"""The largest scores of each row, in an order that no other row and no count changes.

`torch.topk` returns any of equal scores, and other ones for another count. Items that are never
bought and have near texts are often equal.
"""

import torch
from torch import Tensor


def ordered_top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the `count` largest scores of each row of (R, C), descending, and their columns; of
    equal scores those of the first columns, in their order. NaN counts as largest."""
    columns = top_columns(scores, count)
    values, place = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, place)


def top_columns(scores: Tensor, count: int) -> Tensor:
    """Returns the columns (R, count) of `ordered_top`, ascending."""
    best = torch.topk(scores, min(count + 1, scores.shape[1]), dim=1)
    columns = best.indices[:, :count].sort(dim=1).values
    if scores.shape[1] > count:
        last = best.values[:, count - 1]
        is_tied = (last == best.values[:, count]) & ~last.isneginf()
        for row in is_tied.nonzero().flatten().tolist():
            columns[row] = _first_columns(scores[row], last[row], count)
    return columns


def _first_columns(scores: Tensor, last: Tensor, count: int) -> Tensor:
    """Returns ascending columns (count,): of the scores (C,) above `last`, and the first equal."""
    above = (~(scores <= last)).nonzero().flatten()
    equal = (scores == last).nonzero().flatten()[: count - len(above)]
    return torch.cat((above, equal)).sort().values
