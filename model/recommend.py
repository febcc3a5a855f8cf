"""The best items of a domain for each user, those the user has met left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.ranking import BLOCK_SCORES
from model.scoring import Scorer
from model.sequences import IntArray, Sequences, concatenate_ranges


@dataclass(frozen=True)
class Recommendations:
    """Best first; a user with too few unseen items has item 0 and score -inf at the end."""

    users: IntArray  # (R,)
    items: IntArray  # (R, k) global item index
    scores: NDArray[np.float32]  # (R, k)


def recommend(
    scorer: Scorer,
    sequences: Sequences,
    users: IntArray,
    domain: int,
    count: int = 10,
    exclude_seen: bool = True,
) -> Recommendations:
    """Top `count` items of `domain` after each user's whole history, in `sequences` as given.

    Users and items need not have been trained on: any history over the scorer's items will do.
    """
    users = np.asarray(users, np.int64)
    size, first = sequences.domain_size(domain), int(sequences.domain_starts[domain]) + 1
    count = min(count, size)
    items = np.zeros((len(users), count), np.int64)
    best = np.zeros((len(users), count), np.float32)
    block = max(1, min(2048, BLOCK_SCORES // size))
    prefixes = sequences.prefixes_of_users(users)
    by_length = np.argsort(prefixes.stop - prefixes.start, kind="stable")
    for begin in range(0, len(users), block):
        rows = by_length[begin : begin + block]
        asked = prefixes.select(rows)
        scores = scorer.score(asked, domain).float().clone()  # (b, I_d)
        if exclude_seen:
            events, row = concatenate_ranges(asked.start, asked.stop)
            columns = sequences.items[events] - first
            own = (columns >= 0) & (columns < size)
            scores[torch.from_numpy(row[own]), torch.from_numpy(columns[own])] = -torch.inf
        top, place = (found.cpu().numpy() for found in torch.topk(scores, count, dim=1))
        best[rows] = top
        items[rows] = np.where(np.isneginf(top), 0, place + first)
    return Recommendations(users, items, best)
