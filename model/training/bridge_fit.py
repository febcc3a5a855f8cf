"""Closed-form fit of the domain bridge.

Each domain's events are factorised separately. On users active in the target domain and in another
one, a ridge regression predicts their factors in the target domain from their events elsewhere; the
factors of the target domain's items turn the prediction into scores. Users of one domain contribute
to the factors only. The bridge scores a user's first event in a domain, so a user's factors there
emphasise the earliest events.

Dimensions: U users, V items of a domain, N factors of all factorisations, W features, R state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from model.data.factors import AlsConfig, Choices, item_factors
from model.data.sequences import IntArray, Sequences
from model.network.domain_bridge import STATE_WIDTH, TEXT_WIDTH, DomainBridge, factor_widths
from model.network.tri_thread import TriThread

RIDGES = (5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
"""Candidate ridge penalties, for features of unit length."""
ITEMS_PER_FACTOR, FEWEST_FACTORS = 20, 8
"""Limits of the number of factors of a small domain (docs/log.md)."""
EARLINESS = 0.5
"""The n-th event of a user in the target domain weighs `n ** -EARLINESS` (docs/log.md)."""
REGULARIZATION, ITERATIONS = 1.0, 10
BLOCK_USERS = 256


@dataclass(frozen=True)
class _Domain:
    """Factors and features of one domain, before the regression."""

    items: (
        Tensor  # (V, N) factors; their product with users' factors is the mean over factorisations
    )
    users: Tensor  # (U, N) unit length per factorisation; 0 without an event
    features: Tensor  # (V, W) contribution of each item to the features of a history
    log_counts: Tensor  # (V,)


def fit_bridge(
    model: TriThread, sequences: Sequences, seed: int, iterations: int = ITERATIONS
) -> None:
    """Fits the model's bridge on training events; `iterations` of each factorisation."""
    bridge = model.bridge
    if bridge is None:
        return
    training = sequences.training()
    domains = [
        _domain(model, training, domain, seed, iterations)
        for domain in range(training.domain_count)
    ]
    bridge.features[1:] = torch.cat([each.features for each in domains]).to(bridge.features.device)
    for domain, target in enumerate(domains):
        users = training.users_of_several(domain)
        low, high = training.domain_starts[domain : domain + 2].tolist()
        vectors = torch.zeros(high - low, STATE_WIDTH)
        bridge.maps[domain] = 0
        if len(users):
            sums = _sums(bridge, training, users, domain, target.users)
            items = target.items.double()
            mapped = regressed(sums, items.T @ items)  # (features, N)
            state_map, vectors = _reduced(mapped, sums.features / len(users), items)
            bridge.maps[domain] = state_map.float()
        bridge.vectors[low + 1 : high + 1] = torch.cat(
            (vectors.float(), target.log_counts[:, None]), 1
        ).to(bridge.vectors.device)
    bridge.is_fitted.fill_(1.0)


def _domain(
    model: TriThread, training: Sequences, domain: int, seed: int, iterations: int
) -> _Domain:
    low, high = training.domain_starts[domain : domain + 2].tolist()
    own = (training.items > low) & (training.items <= high)
    users, items = training.event_users[own], training.items[own] - low - 1
    choices = Choices.of_pairs(users, items, training.user_count)
    earliness = torch.from_numpy(_ordinals(users) ** -EARLINESS).float()[:, None]
    columns, rows = torch.from_numpy(items), torch.from_numpy(users)
    item_parts, user_parts, feature_parts = [], [], []
    for number, width in enumerate(factor_widths(model.config)):
        als = AlsConfig(
            min(width, max(FEWEST_FACTORS, (high - low) // ITEMS_PER_FACTOR)),
            regularization=REGULARIZATION,
            iterations=iterations,
            seed=seed * 1000 + domain * 10 + number,
        )
        found = item_factors(choices, high - low, als)
        gram = found.T @ found + REGULARIZATION * torch.eye(als.factors)
        unused = (0, width - als.factors)
        item_parts.append(F.pad(found, unused))
        # First-order approximation of users' factors: a sum over the events of a history.
        features = torch.linalg.solve(gram, found.T).T
        feature_parts.append(F.pad(features, unused))
        summed = torch.zeros(training.user_count, als.factors)
        summed.index_add_(0, rows, features[columns] * earliness)
        user_parts.append(F.pad(F.normalize(summed, dim=1, eps=1e-9), unused))
    counts = torch.from_numpy(np.bincount(items, minlength=high - low)).float()
    texts = model.global_table[low + 1 : high + 1, :TEXT_WIDTH].cpu()
    texts = F.pad(texts - texts.mean(0), (0, TEXT_WIDTH - texts.shape[1]))
    return _Domain(
        torch.cat(item_parts, 1) / len(item_parts),
        torch.cat(user_parts, 1),
        torch.cat((*feature_parts, F.normalize(texts, dim=1, eps=1e-9)), 1),
        torch.log1p(counts),
    )


def _ordinals(users: IntArray) -> np.ndarray:
    """Returns the place of each event among its user's, from 1; `users` is ascending."""
    _, first, counts = np.unique(users, return_index=True, return_counts=True)
    return np.arange(len(users)) - np.repeat(first, counts) + 1.0


@dataclass(frozen=True)
class RegressionSums:
    """Sums over the users of the regression, float64."""

    features: Tensor  # (W, W) features times features
    moments: Tensor  # (W, N) features times factors
    factors: Tensor  # (N, N) factors times factors
    users: int


def _sums(
    bridge: DomainBridge, training: Sequences, users: IntArray, domain: int, targets: Tensor
) -> RegressionSums:
    width, factors = bridge.maps.shape[1], targets.shape[1]
    gram = torch.zeros(width, width, dtype=torch.float64)
    moments = torch.zeros(width, factors, dtype=torch.float64)
    squares = torch.zeros(factors, factors, dtype=torch.float64)
    for block in np.array_split(users, -(-len(users) // BLOCK_USERS)):
        events, _ = training.prefixes_of_users(block).events()
        lengths = np.diff(training.offsets)[block].tolist()
        items = torch.from_numpy(training.items[events]).split(lengths)
        histories = pad_sequence(list(items), batch_first=True).to(bridge.features.device)
        found = bridge.history_features(histories, domain).cpu().double()
        wanted = targets[torch.from_numpy(block)].double()
        gram += found.T @ found
        moments += found.T @ wanted
        squares += wanted.T @ wanted
    return RegressionSums(gram, moments, squares, len(users))


def regressed(sums: RegressionSums, metric: Tensor) -> Tensor:
    """Returns the regression weights (W, N) with the ridge of least cross-validated error.

    Generalised cross-validation (Golub, Heath, Wahba, Technometrics 1979) estimates the error for
    users left out from sums alone. `metric` (N, N) weighs errors of factors by those of scores.

    Features that no user has (those of the target domain, factors that a small domain lacks) have
    no weight. They are left out, because the inverse costs the cube of their number: with a dozen
    small domains, most are such.
    """
    used = sums.features.diagonal() > 0
    features, moments = sums.features[used][:, used], sums.moments[used]
    best, least = None, float("inf")
    for ridge in RIDGES:
        penalty = ridge * torch.eye(len(features), dtype=torch.float64)
        penalty[-1, -1] = 1e-3  # the mean over users is not penalised
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(features + penalty))
        mapped = inverse @ moments
        explained = mapped.T @ moments
        residual = sums.factors - explained - explained.T + mapped.T @ features @ mapped
        freedom = float((inverse * features).sum()) / sums.users
        error = float((residual * metric).sum()) / max(1 - freedom, 1e-9) ** 2
        if best is None or error < least:
            best, least = mapped, error
    assert best is not None
    return torch.zeros_like(sums.moments).index_copy_(0, used.nonzero()[:, 0], best)


def _reduced(mapped: Tensor, gram: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the map and the item vectors, reduced to the `STATE_WIDTH` directions of highest
    variance of scores.

    `mapped` (features, N) and `items` (V, N) predict scores as `features @ mapped @ items.T`; the
    results have shapes (features, R) and (V, R), and their scores a standard deviation of 1 over
    users and items.
    """
    spread = mapped.T @ gram @ mapped  # (N, N) second moments of predicted factors
    moments = items.T @ items / len(items)
    # With fewer items than factors, some directions have no variance.
    least = 1e-6 * moments.diagonal().mean() + 1e-12
    root = torch.linalg.cholesky(moments + least * torch.eye(len(moments)))
    values, directions = torch.linalg.eigh(root.T @ spread @ root)
    kept = directions[:, -min(STATE_WIDTH, len(values)) :]  # (N, R)
    scale = values.clamp_min(0).sum().sqrt().clamp_min(1e-12)
    state_map = mapped @ root @ kept / scale
    vectors = torch.linalg.solve_triangular(root.T, kept, upper=True)  # (N, R)
    fill = (0, STATE_WIDTH - kept.shape[1])
    return F.pad(state_map, fill), F.pad(items @ vectors, fill)
