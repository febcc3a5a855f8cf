"""Adam with efficient updates of large tables with sparse gradients.

Gradients of tables are sparse. Dense gradients by autograd would allocate and clear the whole table
at each step, which on two cores takes longer than the rest of the step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer, SparseAdam

from model.config import TrainConfig
from model.network.tri_thread import TriThread
from model.training.processes import ProcessGroup


class Optimizers:
    """Optimizers of a step: fused Adam for the network, dense or lazy Adam for the tables.

    Dense is standard Adam: rows outside of the batch move by their momentum. Lazy updates rows and
    moments only in steps that use them. Tables have no weight decay.
    """

    def __init__(self, model: TriThread, config: TrainConfig) -> None:
        for table in model.item_tables():
            table.sparse = True
        self._tables = [table.weight for table in model.item_tables()]
        is_table = {id(weight) for weight in self._tables}
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._network = [parameter for parameter in trained if id(parameter) not in is_table]
        if config.table_update == "lazy":
            self.members: list[Optimizer] = [_adam(self._network, config)]
            if self._tables:
                self.members.append(SparseAdam(self._tables, lr=config.learning_rate))
            self._buffers: list[tuple[Tensor, Tensor]] = []
        else:
            self.members = [_adam(trained, config)]
            self._buffers = [(table, torch.zeros_like(table)) for table in self._tables]

    def step(self, process_group: ProcessGroup) -> None:
        """Updates parameters by the accumulated gradients of all processes, and clears these."""
        process_group.sum_gradients(self._network)
        for table in self._tables:
            process_group.sum_sparse_gradient(table)
        written = [_spread(weight, buffer) for weight, buffer in self._buffers]
        for member in self.members:
            member.step()
            member.zero_grad(set_to_none=True)
        for (_, buffer), rows in zip(self._buffers, written, strict=True):
            if rows is not None:
                buffer.index_fill_(0, rows, 0.0)


def _spread(weight: Tensor, buffer: Tensor) -> Tensor | None:
    """Copies a sparse gradient into a zero buffer; returns the written rows, None if there are
    none."""
    if weight.grad is None:
        return None
    sparse = weight.grad.coalesce()
    rows = sparse.indices()[0]
    buffer.index_copy_(0, rows, sparse.values())
    weight.grad = buffer
    return rows


def _adam(parameters: list[nn.Parameter], config: TrainConfig) -> Optimizer:
    """Returns Adam without weight decay, else AdamW with decay of matrices, not of biases and
    norms."""
    if config.weight_decay == 0:
        return Adam(parameters, lr=config.learning_rate, fused=True)
    matrices = [parameter for parameter in parameters if parameter.dim() > 1]
    vectors = [parameter for parameter in parameters if parameter.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=config.learning_rate, fused=True)
