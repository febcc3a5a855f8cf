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
        tables = model.item_tables()
        for table in tables:
            table.sparse = True
        sparse = [table.weight for table in tables]
        self._is_lazy = config.table_update == "lazy"
        owned_elsewhere = {id(weight) for weight in sparse if self._is_lazy}
        network = [
            parameter
            for parameter in model.parameters()
            if parameter.requires_grad and id(parameter) not in owned_elsewhere
        ]
        self.members: list[Optimizer] = [_adam(network, config)]
        if self._is_lazy and sparse:
            self.members.append(SparseAdam(sparse, lr=config.learning_rate))
        self._buffers = [] if self._is_lazy else [(w, torch.zeros_like(w)) for w in sparse]

    def step(self, loss: Tensor) -> None:
        """Backward and update; no gradient is left behind."""
        loss.backward()
        written = [_spread(weight, buffer) for weight, buffer in self._buffers]
        for member in self.members:
            member.step()
            member.zero_grad(set_to_none=True)
        for (_, buffer), rows in zip(self._buffers, written, strict=True):
            if rows is not None:
                buffer.index_fill_(0, rows, 0.0)


def _spread(weight: Tensor, buffer: Tensor) -> Tensor | None:
    """Move a sparse gradient into a buffer that is zero elsewhere; the rows written, if any."""
    if weight.grad is None:
        return None
    sparse = weight.grad.coalesce()
    rows = sparse.indices()[0]
    buffer.index_copy_(0, rows, sparse.values())
    weight.grad = buffer
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
