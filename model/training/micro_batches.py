"""Division of a step's batch into micro-batches, across processes and in sequence.

Every process samples negatives of the whole batch with the same random numbers and keeps its part,
so negatives do not depend on the number of processes or micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.data.batches import CrossDomainBatch, training_batch
from model.data.sequences import IntArray
from model.training.objective import Counts, Draws, Objective
from model.training.processes import ProcessGroup


@dataclass(frozen=True)
class MicroBatch:
    """Arguments of `Objective.loss`."""

    batch: CrossDomainBatch
    draws: Draws
    whole: Counts


def shares(
    objective: Objective,
    users: IntArray,
    process_group: ProcessGroup,
    pieces: int,
    rng: np.random.Generator,
) -> Iterator[MicroBatch]:
    """Yields this process's `pieces` micro-batches of the batch of `users`; some may be empty.

    Each takes every n-th user, because the users of a batch are sorted by length; this balances the
    work.
    """
    training, longest = objective.training, objective.model.config.max_length
    batch = training_batch(training, users, longest)
    draws, whole = objective.draw(batch, rng), objective.counts(batch)
    count = process_group.size * pieces
    if count == 1:
        yield MicroBatch(batch, draws, whole)
        return
    for number in range(process_group.rank, count, process_group.size):
        own = training_batch(training, users[number::count], longest)
        yield MicroBatch(own, _part(draws, batch, number, count), whole)


def _part(draws: Draws, batch: CrossDomainBatch, number: int, count: int) -> Draws:
    """Returns the draws of the rows `number::count`.

    The first micro-batch has the pairs of all users, because it computes the regulariser of the
    whole batch exactly.
    """
    negatives = [
        _rows(drawn, queries.rows % count == number)
        for drawn, queries in zip(draws.negatives, batch.queries, strict=True)
    ]
    return Draws(tuple(negatives), draws.pairs if number == 0 else draws.pairs[:0])


def _rows(drawn: Tensor, is_own: Tensor) -> Tensor:
    """Returns the rows of per-event negatives (K, N); negatives shared by the batch (N,) are
    returned whole."""
    return drawn[torch.nonzero(is_own)[:, 0]] if drawn.dim() == 2 else drawn
