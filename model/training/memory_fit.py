"""Fit the weights of the memory of item pairs to validation events.

The network has seen its training events and is surer of them than of new ones; the memory's counts
hold them too. Only events that neither has met can tell how the two compare. A dozen numbers are
fitted to them by maximum likelihood, with a pull towards where they start for small shops; the
network stays as it is.

Likelihood always finds a use for co-occurrences, and often too small a one: it asks for every
target's probability, a list for its first ten. So their gain is multiplied by what ranks the same
events best, and they stay only where that is clearly ahead of successions alone.

Dimensions: R validation events, I_d items of a domain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from model.data.sequences import VALIDATION, Prefixes, Sequences, concatenate_ranges
from model.network.transition_memory import Evidence, TransitionMemory
from model.network.tri_thread import TriThread
from model.scoring.model_scorer import ModelScorer

GAINS = ("gain", "co_gain")
READING = ("fading", "other", "prior", "floor", "co_fading", "co_other", "co_floor", *GAINS)
SCORES_PER_DOMAIN = 12_000_000  # validation events are sampled down to this many scores
STEPS = 40
CO_SCALES = (1.0, 1.5, 2.3, 3.5, 5.0, 8.0, 12.0)
CUTOFF = 10


@dataclass(frozen=True)
class _Questions:
    """Validation events of one domain with all that the fit leaves as it is."""

    dense: Tensor  # (R, I_d)
    is_seen: Tensor  # (R, I_d) items met before: they are not among the answers
    evidence: Evidence
    columns: Tensor  # (R,) of the targets


def remember(model: TriThread, sequences: Sequences, seed: int) -> None:
    """Fill the model's memory from training events, then fit its reading to validation events.

    Without validation events the reading stays as it starts. Test events are not looked at.
    """
    if model.memory is None:
        return
    memory, training = model.memory, sequences.training()
    memory.learn(training)
    validation = sequences.prefixes_of_split(VALIDATION)
    if not len(validation):
        return
    questions = _questions(ModelScorer(model), validation, seed)
    if not memory.neighbours:
        _fit_reading(memory, questions)
    elif not _fit_both(memory, questions):
        memory.drop_co_occurrences(training)


def _fit_both(memory: TransitionMemory, questions: list[_Questions]) -> bool:
    """Fit successions alone, then with co-occurrences; keep what ranks the targets better.

    Returns whether that is the latter, by NDCG@10 and more than two standard errors of the
    difference: else the reading is that of successions alone.
    """
    start = {name: value.clone() for name, value in memory.named_buffers() if name in READING}
    alone = [
        replace(asked, evidence=replace(asked.evidence, affinities=None)) for asked in questions
    ]
    _fit_reading(memory, alone)
    before = torch.cat([_ranking_gains(memory, asked, (1.0,)) for asked in alone], 1)
    fitted = {name: getattr(memory, name).clone() for name in start}
    for name, value in start.items():
        getattr(memory, name).copy_(value)
    _fit_reading(memory, questions)
    after = torch.cat([_ranking_gains(memory, asked, CO_SCALES) for asked in questions], 1)
    leads = (after - before).double()  # (scales, R)
    best = int(leads.mean(1).argmax())
    error = leads[best].std(correction=0) / len(leads[best]) ** 0.5
    if leads[best].mean() > 2 * error:
        memory.co_gain *= CO_SCALES[best]
        return True
    for name, value in fitted.items():
        getattr(memory, name).copy_(value)
    return False


def _questions(scorer: ModelScorer, validation: Prefixes, seed: int) -> list[_Questions]:
    rng = np.random.default_rng(seed)
    found = []
    for domain in range(scorer.model.domain_count):
        asked = validation.of_domain(domain)
        limit = max(1, SCORES_PER_DOMAIN // asked.sequences.domain_size(domain))
        asked = asked.select(asked.sampled_rows(limit, rng))
        if len(asked):
            found.append(_ask(scorer, asked, domain))
    return found


def _ask(scorer: ModelScorer, asked: Prefixes, domain: int) -> _Questions:
    low, high = asked.sequences.domain_starts[domain : domain + 2].tolist()
    dense, evidence = scorer.parts(asked, domain)
    columns = asked.targets - low - 1
    events, rows = concatenate_ranges(asked.start, asked.stop)
    seen = asked.sequences.items[events]
    own = (seen > low) & (seen <= high) & (seen != asked.targets[rows])
    is_seen = torch.zeros(dense.shape, dtype=torch.bool)
    is_seen[torch.from_numpy(rows[own]), torch.from_numpy(seen[own] - low - 1)] = True
    assert evidence is not None, "the memory has just been filled"
    return _Questions(
        dense, is_seen.to(dense.device), evidence, torch.from_numpy(columns).to(dense.device)
    )


def _fit_reading(memory: TransitionMemory, questions: list[_Questions]) -> None:
    """Maximum likelihood by L-BFGS, over the reading and one temperature of the network a domain.

    Only the ratio of memory to network matters for a ranking: the temperature goes into the gain.
    """
    start = {name: value.clone() for name, value in memory.named_buffers() if name in READING}
    start["sharpness"] = torch.zeros_like(memory.gain)  # log of the inverse temperature
    values = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    events = sum(len(asked.columns) for asked in questions)
    optimizer = torch.optim.LBFGS(
        list(values.values()), max_iter=STEPS, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        pull = sum(((values[name] - start[name]) ** 2).sum() / 2 for name in values)
        total = pull + sum(_surprise(memory, values, asked) for asked in questions)
        assert isinstance(total, Tensor)
        (total / events).backward()
        return total.detach() / events

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]
    sharpness = values.pop("sharpness").detach().exp()
    for name, value in values.items():
        getattr(memory, name).copy_(value.detach())
        if name in GAINS:
            getattr(memory, name).div_(sharpness)


def _surprise(memory: TransitionMemory, values: dict[str, Tensor], asked: _Questions) -> Tensor:
    """Negative log-likelihood of the targets among the items not seen before."""
    reading = {name: value for name, value in values.items() if name in READING}
    added = functional_call(memory, reading, (asked.evidence,))
    scores = asked.dense * values["sharpness"][asked.evidence.domain].exp() + added
    return F.cross_entropy(
        scores.masked_fill(asked.is_seen, -torch.inf), asked.columns, reduction="sum"
    )


@torch.no_grad()
def _ranking_gains(
    memory: TransitionMemory, asked: _Questions, co_scales: tuple[float, ...]
) -> Tensor:
    """NDCG@10 of each validation event under each multiple of `co_gain`, (scales, R)."""
    followed = memory(replace(asked.evidence, affinities=None))
    met = memory(asked.evidence) - followed
    rest = (asked.dense + followed).masked_fill(asked.is_seen, -torch.inf)
    found = []
    for scale in co_scales:
        scores = rest + scale * met
        rank = (scores > scores.gather(1, asked.columns[:, None])).sum(1)
        found.append(torch.where(rank < CUTOFF, 1 / torch.log2(rank + 2.0), 0.0))
    return torch.stack(found)
