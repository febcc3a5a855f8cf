"""Adam, with a cheap way to step a big table of which a batch uses few rows.

A table's gradient arrives sparse. Turning it dense by autograd would allocate and clear the whole
table once a step, which on two cores takes longer than the rest of the step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer, SparseAdam

from model.config import TrainConfig
from model.tri_thread import TriThread


class Optimizers:
    """All that a step updates: the network by fused Adam, the local table densely or lazily.

    Dense is plain Adam: rows that the batch does not use keep moving by their momentum. Lazy
    updates a row, and decays its moments, only in steps that use it; weight decay spares the table.
    """

    def __init__(self, model: TriThread, config: TrainConfig) -> None:
        table = model.local_table
        self._table = table.weight if table.weight.requires_grad else None
        table.sparse = self._table is not None
        is_lazy = config.table_update == "lazy" and self._table is not None
        dense = [
            parameter
            for parameter in model.parameters()
            if parameter.requires_grad and not (is_lazy and parameter is self._table)
        ]
        self.members: list[Optimizer] = [_adam(dense, config)]
        if is_lazy and self._table is not None:
            self.members.append(SparseAdam([self._table], lr=config.learning_rate))
        self._buffer = (
            torch.zeros_like(self._table) if self._table is not None and not is_lazy else None
        )

    def step(self, loss: Tensor) -> None:
        """Backward and update; no gradient is left behind."""
        loss.backward()
        rows = self._spread_table_gradient()
        for member in self.members:
            member.step()
            member.zero_grad(set_to_none=True)
        if rows is not None and self._buffer is not None:
            self._buffer.index_fill_(0, rows, 0.0)

    def _spread_table_gradient(self) -> Tensor | None:
        """Write the sparse gradient into a buffer that is otherwise zero; the rows written."""
        if self._buffer is None or self._table is None or self._table.grad is None:
            return None
        sparse = self._table.grad.coalesce()
        rows = sparse.indices()[0]
        self._buffer.index_copy_(0, rows, sparse.values())
        self._table.grad = self._buffer
        return rows


def _adam(parameters: list[nn.Parameter], config: TrainConfig) -> Optimizer:
    """Plain Adam without weight decay; else AdamW that decays matrices, not biases and norms."""
    if config.weight_decay == 0:
        return Adam(parameters, lr=config.learning_rate, fused=True)
    matrices = [parameter for parameter in parameters if parameter.dim() > 1]
    vectors = [parameter for parameter in parameters if parameter.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=config.learning_rate, fused=True)
