"""One step's batch in shares: processes, and micro-batches one after another, that add up to it.

Every process draws for the whole batch from the same random numbers and keeps its share. So the
negatives of an event do not depend on how many processes or micro-batches there are.
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
from model.training.processes import Team


@dataclass(frozen=True)
class Share:
    """What `Objective.loss` takes."""

    batch: CrossDomainBatch
    draws: Draws
    whole: Counts


def shares(
    objective: Objective, users: IntArray, team: Team, pieces: int, rng: np.random.Generator
) -> Iterator[Share]:
    """This process's `pieces` micro-batches of the batch of `users`; some may hold nobody.

    A share is every n-th user, because the users of a batch are sorted by length: the work is then
    spread evenly.
    """
    training, longest = objective.training, objective.model.config.max_length
    batch = training_batch(training, users, longest)
    draws, whole = objective.draw(batch, rng), objective.counts(batch)
    count = team.size * pieces
    if count == 1:
        yield Share(batch, draws, whole)
        return
    for number in range(team.rank, count, team.size):
        own = training_batch(training, users[number::count], longest)
        yield Share(own, _part(draws, batch, number, count), whole)


def _part(draws: Draws, batch: CrossDomainBatch, number: int, count: int) -> Draws:
    """The draws of the rows `number::count`.

    The first share has the pairs of all users: the regulariser reads nothing but them and the
    adapter, so that one share can compute it for everybody, exactly.
    """
    negatives = [
        _rows(drawn, queries.rows % count == number)
        for drawn, queries in zip(draws.negatives, batch.queries, strict=True)
    ]
    return Draws(tuple(negatives), draws.pairs if number == 0 else draws.pairs[:0])


def _rows(drawn: Tensor, is_own: Tensor) -> Tensor:
    """Each event's own negatives (K, N) are divided; items shared by the batch (N,) are not."""
    return drawn[torch.nonzero(is_own)[:, 0]] if drawn.dim() == 2 else drawn
