"""Fits the weights of the transition memory and of the text similarity on validation events.

Network and counts are both fitted on training events, so only held-out events show their relative
reliability. A dozen weights are fitted by maximum likelihood, regularised towards their initial
values for small data sets; the network is fixed.

The likelihood depends on all ranks, recommendation lists on the top ten. Therefore the gain of
co-occurrences is scaled by the factor with the best ranking of the same events, and co-occurrences
are kept only if they are significantly better than transitions alone. The text similarity, one gain
per domain, is kept if the likelihood of these events is better by two standard errors and their
ranking is not worse by two: the likelihood shows small gains that a thousand rankings do not.

Dimensions: R validation events, I_d items of a domain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from model.data.batches import prefix_batch
from model.data.sequences import VALIDATION, Prefixes, Sequences
from model.network.text_similarity import TextSimilarity
from model.network.transition_memory import Evidence, TransitionMemory
from model.network.tri_thread import TriThread
from model.scoring.model_scorer import ModelScorer
from model.training.processes import ProcessGroup
from model.training.time_limit import Stopwatch

GAINS = ("gain", "co_gain")
SIMILARITY_GAIN, SHARPNESS = "similarity_gain", "sharpness"
READING = ("fading", "other", "prior", "floor", "co_fading", "co_other", "co_floor", *GAINS)
SCORES_PER_DOMAIN = 12_000_000  # limit of scores; more validation events are sampled
SCORES_PER_BLOCK = 3_000_000
"""Scores whose likelihood is evaluated together: larger tensors are returned to the operating
system after each use, and page faults then take longer than the arithmetic."""
STEPS = 40
EVALUATIONS = 200
"""Approximate cost of a whole fit, rankings included, in evaluations of the likelihood."""
CO_SCALES = (1.0, 1.5, 2.3, 3.5, 5.0, 8.0, 12.0)
CUTOFF = 10
BLOCK = 256  # validation events whose histories are read at once


@dataclass(frozen=True)
class _Questions:
    """Some validation events of one domain, with the fixed inputs of the fit."""

    prefixes: Prefixes  # R
    dense: Tensor  # (R, I_d)
    is_seen: Tensor  # (R, I_d) seen items, excluded from the candidates
    evidence: Evidence
    columns: Tensor  # (R,) of the targets
    similar: Tensor | None = None  # (R, I_d) text similarity with a gain of 1


def fit_memory(
    model: TriThread,
    sequences: Sequences,
    seed: int,
    seconds: float | None = None,
    process_group: ProcessGroup | None = None,
) -> None:
    """Counts training transitions; fits memory and text similarity on validation events.

    Without validation events the weights keep their initial values. Test events are not read. If
    the fit would take longer than `seconds`, it samples validation events; rank 0 decides how many.
    """
    if model.memory is None:
        return
    watch = Stopwatch()
    memory, training = model.memory, sequences.training()
    memory.learn(training)
    validation = sequences.prefixes_of_split(VALIDATION)
    if not len(validation):
        return
    questions = _questions(ModelScorer(model), validation, seed)
    if seconds is not None:
        left = seconds - watch.seconds()
        (share,) = (process_group or ProcessGroup()).from_rank_0(
            [_share_within(memory, questions, left)]
        )
        if share < 1:
            questions = _questions(ModelScorer(model), validation, seed, share)
    if not memory.neighbours:
        _fit_reading(memory, questions)
    elif not _fit_both(memory, questions):
        memory.drop_co_occurrences(training)
        questions = _without_affinities(questions)
    if model.config.text_decay and model.reads_text:
        model.similarity = _fitted_similarity(model, memory, questions)


def _share_within(memory: TransitionMemory, questions: list[_Questions], seconds: float) -> float:
    """Returns the share of events that a fit handles in `seconds`, by one timed evaluation."""
    start = {name: value for name, value in memory.named_buffers() if name in READING}
    values = {name: value.clone().requires_grad_() for name, value in start.items()}
    values[SHARPNESS] = torch.zeros_like(memory.gain, requires_grad=True)
    watch = Stopwatch()
    for asked in questions:
        _surprises(memory, values, asked).sum().backward()
    taken = EVALUATIONS * watch.seconds()
    return min(1.0, max(seconds, 0.0) / taken)


def _fitted_similarity(
    model: TriThread, memory: TransitionMemory, questions: list[_Questions]
) -> TextSimilarity | None:
    """Returns the text similarity with its gains, and adapts the memory's gains to it.

    Returns None, with the memory unchanged, unless the likelihood is better by two standard errors
    of the difference and NDCG@10 is not worse by two.
    """
    similarity = TextSimilarity.of_texts(model.domain_starts, model.global_table, model.config)
    with_texts = [replace(asked, similar=_similar(model, similarity, asked)) for asked in questions]
    before = torch.cat([_ranking_gains(memory, asked, (1.0,)) for asked in questions], 1)
    kept = {name: getattr(memory, name).clone() for name in GAINS if hasattr(memory, name)}
    _, alone = _fit_similarity(memory, questions)
    _put_back(memory, kept)
    gain, likely = _fit_similarity(memory, with_texts)
    after = torch.cat([_ranking_gains(memory, asked, (1.0,), gain) for asked in with_texts], 1)
    if _standard_errors(alone - likely) > 2 and _standard_errors((after - before)[0]) > -2:
        similarity.gain.copy_(gain)
        return similarity
    _put_back(memory, kept)
    return None


@torch.no_grad()
def _similar(model: TriThread, similarity: TextSimilarity, asked: _Questions) -> Tensor:
    domain, sums = asked.evidence.domain, []
    for rows in np.array_split(np.arange(len(asked.prefixes)), -(-len(asked.prefixes) // BLOCK)):
        prefixes = asked.prefixes.select(rows)
        batch = prefix_batch(prefixes, model.config.max_length, domain).to(model.device)
        histories = batch.mixed_items[batch.queries[domain].rows]
        sums.append(similarity.history_sums(histories, model.global_table, domain))
    vectors = similarity.item_vectors(model.domain_items(domain), model.global_table)
    return torch.cat(sums) @ vectors.T


def _fit_both(memory: TransitionMemory, questions: list[_Questions]) -> bool:
    """Fits transitions alone, then with co-occurrences; keeps the better ranking.

    Returns whether co-occurrences are kept: NDCG@10 must be better by two standard errors of the
    difference.
    """
    start = {name: value.clone() for name, value in memory.named_buffers() if name in READING}
    alone = _without_affinities(questions)
    _fit_reading(memory, alone)
    before = torch.cat([_ranking_gains(memory, asked, (1.0,)) for asked in alone], 1)
    fitted = {name: getattr(memory, name).clone() for name in start}
    _put_back(memory, start)
    _fit_reading(memory, questions)
    after = torch.cat([_ranking_gains(memory, asked, CO_SCALES) for asked in questions], 1)
    leads = after - before  # (scales, R)
    best = int(leads.mean(1).argmax())
    if _standard_errors(leads[best]) > 2:
        memory.co_gain *= CO_SCALES[best]
        return True
    _put_back(memory, fitted)
    return False


def _standard_errors(differences: Tensor) -> float:
    """Returns the mean of paired differences (R,) in standard errors; 0 without a difference."""
    found = differences.double()
    error = found.std(correction=0) / len(found) ** 0.5
    return float(found.mean() / error) if error > 0 else 0.0


def _put_back(memory: TransitionMemory, values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        getattr(memory, name).copy_(value)


def _without_affinities(questions: list[_Questions]) -> list[_Questions]:
    return [
        replace(asked, evidence=replace(asked.evidence, affinities=None)) for asked in questions
    ]


def _questions(
    scorer: ModelScorer, validation: Prefixes, seed: int, share: float = 1.0
) -> list[_Questions]:
    rng = np.random.default_rng(seed)
    found = []
    for domain in range(scorer.model.domain_count):
        asked = validation.of_domain(domain)
        limit = min(len(asked), SCORES_PER_DOMAIN // asked.sequences.domain_size(domain))
        asked = asked.select(asked.sampled_rows(max(1, int(share * limit)), rng))
        rows_at_once = max(1, SCORES_PER_BLOCK // asked.sequences.domain_size(domain))
        for first in range(0, len(asked), rows_at_once):
            rows = np.arange(first, min(first + rows_at_once, len(asked)))
            found.append(_ask(scorer, asked.select(rows), domain))
    return found


def _ask(scorer: ModelScorer, asked: Prefixes, domain: int) -> _Questions:
    dense, evidence = scorer.parts(asked, domain)
    columns = asked.targets - asked.sequences.domain_starts[domain] - 1
    rows, seen = asked.columns_in(domain)
    is_seen = torch.zeros(dense.shape, dtype=torch.bool)
    is_seen[torch.from_numpy(rows), torch.from_numpy(seen)] = True
    is_seen[torch.arange(len(asked)), torch.from_numpy(columns)] = False  # The target counts.
    assert evidence is not None, "the memory has just been filled"
    return _Questions(
        asked, dense, is_seen.to(dense.device), evidence, torch.from_numpy(columns).to(dense.device)
    )


def _fit_reading(memory: TransitionMemory, questions: list[_Questions]) -> None:
    """Fits the memory's weights and one temperature per domain.

    A ranking depends only on the ratio of memory to network, so the temperature is folded into the
    gains.
    """
    start = {name: value.clone() for name, value in memory.named_buffers() if name in READING}
    values = _most_likely(memory, questions, start | {SHARPNESS: torch.zeros_like(memory.gain)})
    _put(memory, values, values[SHARPNESS].exp())


def _fit_similarity(memory: TransitionMemory, questions: list[_Questions]) -> tuple[Tensor, Tensor]:
    """Fits the gain of the text similarity, that of transitions and a temperature, one each per
    domain; returns the first, (D,), and the negative log-likelihood of each event.

    Questions without similarities have a gain of 0.
    """
    zero = torch.zeros_like(memory.gain)
    start = {"gain": memory.gain.clone(), SIMILARITY_GAIN: zero, SHARPNESS: zero}
    values = _most_likely(memory, questions, start)
    with torch.no_grad():
        surprises = torch.cat([_surprises(memory, values, asked) for asked in questions])
    sharpness = values[SHARPNESS].exp()
    if memory.neighbours:
        values["co_gain"] = memory.co_gain
    _put(memory, values, sharpness)
    return values[SIMILARITY_GAIN] / sharpness, surprises


def _put(memory: TransitionMemory, values: dict[str, Tensor], sharpness: Tensor) -> None:
    for name in values.keys() & set(READING):
        value = values[name] / sharpness if name in GAINS else values[name]
        getattr(memory, name).copy_(value)


def _most_likely(
    memory: TransitionMemory, questions: list[_Questions], start: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Returns the values of maximum likelihood by L-BFGS, regularised towards `start`.

    Returns `start` if the search leaves the finite numbers, as it can with a few events.
    """
    values = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    events = sum(len(asked.columns) for asked in questions)
    optimizer = torch.optim.LBFGS(
        list(values.values()), max_iter=STEPS, line_search_fn="strong_wolfe"
    )

    def parts() -> Iterator[Tensor]:
        yield torch.stack([((values[name] - start[name]) ** 2).sum() / 2 for name in values]).sum()
        for asked in questions:
            yield _surprises(memory, values, asked).sum()

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = memory.gain.new_zeros(())
        for part in parts():
            (part / events).backward()
            total += part.detach() / events
        return total

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]
    found = {name: value.detach() for name, value in values.items()}
    finite = all(bool(value.isfinite().all()) for value in found.values())
    return found if finite else {name: value.clone() for name, value in start.items()}


def _surprises(memory: TransitionMemory, values: dict[str, Tensor], asked: _Questions) -> Tensor:
    """Returns the negative log-likelihood of each target among unseen items, (R,)."""
    domain = asked.evidence.domain
    reading = {name: value for name, value in values.items() if name in READING}
    scores = asked.dense * values[SHARPNESS][domain].exp()
    scores = scores + functional_call(memory, reading, (asked.evidence,))
    if asked.similar is not None:
        scores = scores + values[SIMILARITY_GAIN][domain] * asked.similar
    return F.cross_entropy(
        scores.masked_fill(asked.is_seen, -torch.inf), asked.columns, reduction="none"
    )


@torch.no_grad()
def _ranking_gains(
    memory: TransitionMemory,
    asked: _Questions,
    co_scales: tuple[float, ...],
    similarity_gain: Tensor | None = None,
) -> Tensor:
    """Returns NDCG@10 of each validation event for each multiple of `co_gain`, (scales, R)."""
    followed = memory(replace(asked.evidence, affinities=None))
    met = memory(asked.evidence) - followed
    rest = (asked.dense + followed).masked_fill(asked.is_seen, -torch.inf)
    if similarity_gain is not None and asked.similar is not None:
        rest = rest + similarity_gain[asked.evidence.domain] * asked.similar
    found = []
    for scale in co_scales:
        scores = rest + scale * met
        rank = (scores > scores.gather(1, asked.columns[:, None])).sum(1)
        found.append(torch.where(rank < CUTOFF, 1 / torch.log2(rank + 2.0), 0.0))
    return torch.stack(found)
