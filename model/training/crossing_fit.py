"""Fit the votes of a language model's answers: scale them, and choose their weight on validation.

The weight is the one with the best NDCG@10 on users whose whole domain is hidden. Where its gain
over none is not significant (paired bootstrap over these users), there are no votes.

Dimensions: R questions, V items.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.data.sequences import (
    COLD_VALIDATION,
    TRAIN,
    VALIDATION,
    Prefixes,
    Sequences,
)
from model.data.tables import AnswerVectors
from model.network.crossing_votes import VOTE_WIDTH, CrossingVotes
from model.network.tri_thread import TriThread
from model.scoring.bootstrap import paired_bootstrap
from model.scoring.cold_domain_metrics import ALL_NDCG, measure_cold
from model.scoring.model_scorer import ModelScorer

WEIGHTS = (0.5, 1.0, 2.0, 4.0, 8.0, 12.0)
"""Candidate weights of votes with a standard deviation of 1 over answers and items."""
LEVEL = 0.05
MOST_USERS, FEWEST_USERS = 4_000, 30


def fitted_weight(model: TriThread, sequences: Sequences, answers: AnswerVectors | None) -> float:
    """Returns the weight of the votes, 0 without a significant gain; the model is not changed.

    Validates on users with a withheld validation domain; without these, on validation events of
    users of several domains, with their events in the validated domain hidden.
    """
    asked = _questions(sequences)
    if answers is None or len(np.unique(asked.users)) < FEWEST_USERS:
        return 0.0
    votes = add_votes(model, answers, 0.0)
    if votes is None or model.bridge is None:
        return 0.0
    scorer = ModelScorer(model)
    without = measure_cold(scorer, asked).values[ALL_NDCG]
    found = {}
    for weight in WEIGHTS:
        votes.weight.fill_(weight)
        found[weight] = measure_cold(scorer, asked).values[ALL_NDCG]
    model.bridge.votes = None
    best = max(WEIGHTS, key=lambda weight: float(found[weight].mean()))
    (compared,) = paired_bootstrap(found[best], without[:, None])
    # The best of several weights is partly best by chance, so the level is divided by their number.
    is_better = compared.difference > 0 and compared.p_value < LEVEL / len(WEIGHTS)
    return best if is_better else 0.0


def add_votes(model: TriThread, answers: AnswerVectors, weight: float) -> CrossingVotes | None:
    """Adds the votes of the answers to a model with a bridge; returns them."""
    bridge = model.bridge
    if bridge is None:
        return None
    starts, device = model.domain_starts, model.device
    votes = CrossingVotes(int(starts[-1]) + 1, len(starts) - 1, len(answers.vectors)).to(device)
    votes.answer_of.copy_(torch.from_numpy(answers.answer_of))
    table = torch.from_numpy(answers.vectors)[:, :VOTE_WIDTH].to(device)
    for domain in range(len(starts) - 1):
        low, high = starts[domain : domain + 2].tolist()
        texts = _centred(model.global_table[low + 1 : high + 1, :VOTE_WIDTH])
        used = votes.answer_of[domain].unique()
        used = used[used > 0]
        if not len(used):
            continue
        wanted = _centred(table[used])
        spread = (wanted @ texts.T).std().clamp_min(1e-9)
        width = texts.shape[1]
        votes.answers[used, :width] = wanted
        votes.vectors[low + 1 : high + 1, :width] = texts / spread
    votes.weight.fill_(weight)
    bridge.votes = votes
    return votes


def _centred(vectors: Tensor) -> Tensor:
    """Vectors (n, W) about their mean, of unit length."""
    unit = F.normalize(vectors, dim=1, eps=1e-9)
    return F.normalize(unit - unit.mean(0), dim=1, eps=1e-9)


def _questions(sequences: Sequences) -> Prefixes:
    """Questions for items of a domain in which the history has no event."""
    withheld = sequences.prefixes_of_withheld(COLD_VALIDATION)
    if not len(withheld):
        withheld = _hidden(sequences).prefixes_of_withheld(COLD_VALIDATION)
    users = np.random.default_rng(0).permutation(np.unique(withheld.users))[:MOST_USERS]
    return withheld.select(np.flatnonzero(np.isin(withheld.users, users)))


def _hidden(sequences: Sequences) -> Sequences:
    """The histories before the validation events without the events of the validated domain."""
    asked = sequences.prefixes_of_split(VALIDATION)
    asked = asked.select(np.unique(asked.users, return_index=True)[1])
    seen = asked.sequences
    domains = seen.domain_of(asked.targets)
    events, rows = asked.events()
    elsewhere = seen.domain_of(seen.items[events]) != domains[rows]
    kept = elsewhere & (seen.split[events] == TRAIN)
    events, rows = events[kept], rows[kept]
    present = np.unique(rows)
    users = np.concatenate((asked.users[rows], asked.users[present]))
    items = np.concatenate((seen.items[events], asked.targets[present]))
    marks = np.repeat([TRAIN, COLD_VALIDATION], [len(events), len(present)]).astype(np.int8)
    order = np.argsort(users, kind="stable")  # Each user's target follows the history.
    lengths = np.bincount(users, minlength=seen.user_count)
    return replace(
        seen,
        offsets=np.concatenate(([0], np.cumsum(lengths))),
        items=items[order],
        split=marks[order],
    )
