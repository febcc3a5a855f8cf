"""Fit the bridge between domains in closed form, then its weight beside the threads.

Each domain's events are factorised by themselves. On users active in the asked domain and in
another one, ridge regression predicts their factors there from what they did elsewhere; the
factors of the asked domain's items turn the prediction into scores. Users of one domain take no
part in the regression, but all of them in the factors.

The weights of bridge, popularity and threads are fitted by maximum likelihood to users whose asked
domain the regression has not seen. Where a split withholds whole domains for validation, neither
factors nor threads have seen those events either. Elsewhere a seeded share of the users is held
back from the regression; the threads were trained on them, so that their weight then stays as it
is here.

Dimensions: U users, V items of a domain, N factors of all factorisations, W features, R state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model.baselines.factors import AlsConfig, Choices, item_factors, solved
from model.data.sequences import COLD_VALIDATION, IntArray, Prefixes, Sequences, concatenate_ranges
from model.network.domain_bridge import STATE_WIDTH, TEXT_WIDTH, DomainBridge, factor_widths
from model.network.tri_thread import TriThread
from model.scoring.model_scorer import ModelScorer

RIDGE = 20.0
"""Penalty of the regression, whose features have unit length."""
REGULARIZATION, ITERATIONS = 1.0, 10
HELD_BACK = 0.1
MOST_QUESTIONS = 1000
"""Users of a domain that the weights are fitted to: three numbers need no more."""
BLOCK_USERS = 256
STEPS = 30
START = (0.25, 1.0, 0.25)
"""Weights of threads, prediction and popularity where the fit starts; they stay without users of
several domains (docs/log.md)."""
PULL = 4.0
"""Users whose word the starting weights have."""


@dataclass(frozen=True)
class _Domain:
    """What is known of one domain before any regression."""

    items: Tensor  # (V, N) factors; the product with users' is the mean over factorisations
    users: Tensor  # (U, N) each factorisation's of unit length; 0 for users without an event
    features: Tensor  # (V, W) what each item adds to the features of a history
    log_counts: Tensor  # (V,)


@dataclass(frozen=True)
class _Questions:
    """Users of whom one domain, the asked one, was withheld, with their choices there."""

    dense: Tensor  # (U, V) scores of the threads
    memory: Tensor  # (U, V) what the transition memory adds
    predicted: Tensor  # (U, V) scores of the bridge
    log_counts: Tensor  # (V,)
    chosen: Tensor  # (U, V) rows sum to 1


def fit_bridge(model: TriThread, sequences: Sequences, seed: int) -> None:
    """Fill the model's bridge from training events and fit its weights; no test event is read."""
    bridge = model.bridge
    if bridge is None:
        return
    training = sequences.training()
    domains = [_domain(model, training, domain, seed) for domain in range(training.domain_count)]
    withheld = sequences.prefixes_of_withheld(COLD_VALIDATION)
    is_clean = len(withheld) > 0
    if not is_clean:
        withheld = _held_back(training, seed)
    _learn(bridge, training, domains, held=None if is_clean else withheld)
    weights = _fit_weights(model, bridge, withheld, is_clean, seed)
    if not is_clean:
        _learn(bridge, training, domains, held=None)
    bridge.weights.copy_(weights)


def learn_bridge(model: TriThread, sequences: Sequences, weights: Tensor, seed: int) -> None:
    """Fill the model's bridge from training events, with weights that were fitted before."""
    bridge = model.bridge
    if bridge is None:
        return
    training = sequences.training()
    domains = [_domain(model, training, domain, seed) for domain in range(training.domain_count)]
    _learn(bridge, training, domains, held=None)
    bridge.weights.copy_(weights)


def _domain(model: TriThread, training: Sequences, domain: int, seed: int) -> _Domain:
    low, high = training.domain_starts[domain : domain + 2].tolist()
    own = (training.items > low) & (training.items <= high)
    users, items = training.event_users[own], training.items[own] - low - 1
    choices = Choices.of_pairs(users, items, training.user_count)
    item_parts, user_parts, feature_parts = [], [], []
    for number, factors in enumerate(factor_widths(model.config)):
        als = AlsConfig(
            factors,
            regularization=REGULARIZATION,
            iterations=ITERATIONS,
            seed=seed * 1000 + domain * 10 + number,
        )
        found = item_factors(choices, high - low, als)
        gram = found.T @ found + REGULARIZATION * torch.eye(factors)
        item_parts.append(found)
        user_parts.append(F.normalize(solved(choices, found, als), dim=1, eps=1e-9))
        # Users' factors to first order, so that those of a history are a sum over its events.
        feature_parts.append(torch.linalg.solve(gram, found.T).T)
    counts = torch.from_numpy(np.bincount(items, minlength=high - low)).float()
    texts = model.global_table[low + 1 : high + 1, :TEXT_WIDTH].cpu()
    texts = F.pad(texts - texts.mean(0), (0, TEXT_WIDTH - texts.shape[1]))
    return _Domain(
        torch.cat(item_parts, 1) / len(item_parts),
        torch.cat(user_parts, 1),
        torch.cat((*feature_parts, F.normalize(texts, dim=1, eps=1e-9)), 1),
        torch.log1p(counts),
    )


def _learn(
    bridge: DomainBridge, training: Sequences, domains: list[_Domain], held: Prefixes | None
) -> None:
    """Fill features, maps and item vectors; users `held` back have no say in the maps."""
    device = bridge.features.device
    bridge.features[1:] = torch.cat([each.features for each in domains]).to(device)
    active = _activity(training)
    for domain, target in enumerate(domains):
        has_both = active[:, domain] & (active.sum(1) > 1)
        if held is not None:
            has_both[held.users[_is_in(held, domain)]] = False
        users = np.flatnonzero(has_both)
        low, high = training.domain_starts[domain : domain + 2].tolist()
        if not len(users):
            bridge.maps[domain] = 0
            bridge.vectors[low + 1 : high + 1] = 0
            bridge.vectors[low + 1 : high + 1, -1] = target.log_counts.to(device)
            continue
        gram, moments = _sums(bridge, training, users, domain, target.users)
        ridge = RIDGE * torch.eye(len(gram), dtype=torch.float64)
        ridge[-1, -1] = 1e-3  # the mean over users is not pulled to zero
        mapped = torch.linalg.solve(gram + ridge, moments)  # (features, N)
        state_map, vectors = _reduced(mapped, gram / len(users), target.items.double())
        bridge.maps[domain] = state_map.float().to(device)
        bridge.vectors[low + 1 : high + 1, :-1] = vectors.float().to(device)
        bridge.vectors[low + 1 : high + 1, -1] = target.log_counts.to(device)


def _sums(
    bridge: DomainBridge, training: Sequences, users: IntArray, domain: int, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums over users of features times features and features times factors, float64."""
    width = bridge.maps.shape[1]
    gram = torch.zeros(width, width, dtype=torch.float64)
    moments = torch.zeros(width, targets.shape[1], dtype=torch.float64)
    for block in np.array_split(users, -(-len(users) // BLOCK_USERS)):
        histories = _padded(training.prefixes_of_users(block)).to(bridge.features.device)
        found = bridge.history_features(histories, domain).cpu().double()
        gram += found.T @ found
        moments += found.T @ targets[torch.from_numpy(block)].double()
    return gram, moments


def _reduced(mapped: Tensor, gram: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """The map and the item vectors of the `STATE_WIDTH` directions that differ most between scores.

    `mapped` (features, N) and `items` (V, N) predict a score as `features @ mapped @ items.T`; the
    two returned do so as (features, R) and (V, R), with a standard deviation of 1 over users and
    items.
    """
    spread = mapped.T @ gram @ mapped  # (N, N) second moments of predicted factors
    root = torch.linalg.cholesky(items.T @ items / len(items) + 1e-12 * torch.eye(len(spread)))
    values, directions = torch.linalg.eigh(root.T @ spread @ root)
    kept = directions[:, -min(STATE_WIDTH, len(values)) :]  # (N, R)
    scale = values.clamp_min(0).sum().sqrt().clamp_min(1e-12)
    state_map = mapped @ root @ kept / scale
    vectors = torch.linalg.solve_triangular(root.T, kept, upper=True)  # (N, R)
    fill = (0, STATE_WIDTH - kept.shape[1])
    return F.pad(state_map, fill), F.pad(items @ vectors, fill)


def _fit_weights(
    model: TriThread, bridge: DomainBridge, withheld: Prefixes, is_clean: bool, seed: int
) -> Tensor:
    """Weights (D, 3) by maximum likelihood, each domain's by themselves.

    Threads that were trained on what is asked are surer of it than of anything new, and keep the
    weight they start with.
    """
    weights = torch.tensor(START).repeat(bridge.domain_count, 1)
    scorer = ModelScorer(model)
    rng = np.random.default_rng(seed)
    for domain in range(bridge.domain_count):
        asked = withheld.select(_is_in(withheld, domain))
        if len(asked):
            questions = _ask(scorer, bridge, asked, domain, rng)
            weights[domain] = _most_likely(questions, is_clean)
    return weights.to(bridge.weights.device)


def _most_likely(asked: _Questions, is_clean: bool) -> Tensor:
    start = torch.tensor(START).log()
    values = start.clone().requires_grad_()
    free = torch.tensor([1.0 if is_clean else 0.0, 1.0, 1.0])
    optimizer = torch.optim.LBFGS([values], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        threads, prediction, popularity = (start + (values - start) * free).exp()
        scores = threads * asked.dense + prediction * asked.predicted
        scores = scores + asked.memory + popularity * asked.log_counts
        surprise = -(asked.chosen * F.log_softmax(scores, 1)).sum()
        total = (surprise + PULL * ((values - start) ** 2).sum() / 2) / len(asked.chosen)
        total.backward()
        return total.detach()

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]
    return (start + (values.detach() - start) * free).exp()


def _ask(
    scorer: ModelScorer,
    bridge: DomainBridge,
    asked: Prefixes,
    domain: int,
    rng: np.random.Generator,
) -> _Questions:
    users, first, row = np.unique(asked.users, return_index=True, return_inverse=True)
    kept = np.sort(rng.permutation(len(users))[:MOST_QUESTIONS])
    place = np.full(len(users), -1)
    place[kept] = np.arange(len(kept))
    low, high = asked.sequences.domain_starts[domain : domain + 2].tolist()
    row, columns = place[row], asked.targets - low - 1
    row, columns = row[row >= 0], columns[row >= 0]
    chosen = torch.zeros(len(kept), high - low)
    chosen[torch.from_numpy(row), torch.from_numpy(columns)] = 1
    prefixes = asked.select(first[kept])
    with torch.no_grad():
        states = bridge.states(_padded(prefixes).to(bridge.features.device), domain)[:, :-1]
        items = bridge.item_vectors(scorer.model.domain_items(domain))
        predicted = (states @ items[:, :-1].T).cpu()
    # The bridge's weights are still blank: these are the scores of threads and memory.
    dense, _ = scorer.parts(prefixes, domain)
    return _Questions(
        dense=dense.cpu(),
        memory=(scorer.score(prefixes, domain) - dense).cpu(),
        predicted=predicted,
        log_counts=items[:, -1].cpu(),
        chosen=chosen / chosen.sum(1, keepdim=True),
    )


def _held_back(training: Sequences, seed: int) -> Prefixes:
    """A seeded share of the users of several domains, one of these withheld from each."""
    active = _activity(training)
    several = np.flatnonzero(active.sum(1) > 1)
    rng = np.random.default_rng(seed)
    users = np.sort(rng.permutation(several)[: round(HELD_BACK * len(several))])
    draws = rng.random((len(users), training.domain_count)) * active[users]
    split = training.split.copy()
    event_domains = training.domain_of(training.items)
    asked = np.full(training.user_count, -1)
    asked[users] = draws.argmax(1)
    split[event_domains == asked[training.event_users]] = COLD_VALIDATION
    return replace(training, split=split).prefixes_of_withheld(COLD_VALIDATION)


def _activity(sequences: Sequences) -> NDArray[np.bool_]:
    """(U, D) whether a user has an event in a domain."""
    active = np.zeros((sequences.user_count, sequences.domain_count), bool)
    active[sequences.event_users, sequences.domain_of(sequences.items)] = True
    return active


def _is_in(prefixes: Prefixes, domain: int) -> IntArray:
    """Rows whose target belongs to `domain`."""
    low, high = prefixes.sequences.domain_starts[domain : domain + 2].tolist()
    return np.flatnonzero((prefixes.targets > low) & (prefixes.targets <= high))


def _padded(prefixes: Prefixes) -> Tensor:
    """The items of each prefix (R, T), 0 after its end."""
    events, rows = concatenate_ranges(prefixes.start, prefixes.stop)
    lengths = prefixes.stop - prefixes.start
    table = np.zeros((len(prefixes), max(int(lengths.max(initial=0)), 1)), np.int64)
    columns = np.arange(len(events)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    table[rows, columns] = prefixes.sequences.items[events]
    return torch.from_numpy(table)
