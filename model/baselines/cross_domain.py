"""Cross-domain baselines: joint factorisation of all domains, and EMCDR.

Both score any prefix: a user's factors are solved from the items of the prefix, so unseen users are
supported.

Dimensions: R prefixes, I_d items of a domain, F factors, S factors of all other domains.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from model.data.factors import AlsConfig, Choices, item_factors, solved
from model.data.sequences import (
    COLD_VALIDATION,
    IntArray,
    Prefixes,
    Sequences,
)
from model.scoring.cold_domain_metrics import ALL_NDCG, measure_cold

WIDTHS = (16, 32, 48)
"""Numbers of factors that `Emcdr.tuned` tries: dense data need few, sparse data more; 64 and 128
were worse."""


@dataclass(frozen=True)
class JointFactors:
    """Products of user and item factors of one factorisation over the events of all domains."""

    items: Tensor  # (V, F)
    domain_starts: IntArray
    config: AlsConfig

    @classmethod
    def fit(cls, sequences: Sequences, config: AlsConfig | None = None) -> JointFactors:
        config = config or AlsConfig()
        training = sequences.training()
        choices = Choices.of_pairs(training.event_users, training.items - 1, training.user_count)
        items = item_factors(choices, training.item_count, config)
        return cls(items, sequences.domain_starts, config)

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        low, high = self.domain_starts[domain : domain + 2].tolist()
        rows, items = prefixes.items()
        choices = Choices.of_pairs(rows, items - 1, len(prefixes))
        return solved(choices, self.items, self.config) @ self.items[low:high].T


@dataclass(frozen=True)
class EmcdrConfig:
    """Settings of `Emcdr`; defaults selected on cold validation users (docs/log.md)."""

    als: AlsConfig = field(
        default_factory=lambda: AlsConfig(factors=48, alpha=40, regularization=10, iterations=40)
    )
    ridge: float = 10.0
    popularity: float = 0.02
    """Weight of the log count of an item; factors hardly model popularity."""


@dataclass(frozen=True)
class Emcdr:
    """Embedding and mapping (Man et al., IJCAI 2017): separate factors of each domain, and a ridge
    map from a user's factors in the other domains to those in the target domain, fitted on users
    active in both. Events of the target domain in a prefix are ignored."""

    items: tuple[Tensor, ...]  # per domain (I_d, F)
    maps: tuple[Tensor, ...]  # per domain (S, F)
    priors: tuple[Tensor, ...]  # per domain (I_d,)
    domain_starts: IntArray
    config: EmcdrConfig

    @classmethod
    def tuned(cls, sequences: Sequences) -> Emcdr:
        """Fits each width of `WIDTHS` and keeps the best one on cold validation users; default
        settings without these."""
        asked = sequences.prefixes_of_withheld(COLD_VALIDATION)
        if not len(asked):
            return cls.fit(sequences)
        default = EmcdrConfig()
        fitted = [
            cls.fit(sequences, replace(default, als=replace(default.als, factors=width)))
            for width in WIDTHS
        ]
        quality = [measure_cold(each, asked).values[ALL_NDCG].mean() for each in fitted]
        return fitted[int(np.argmax(quality))]

    @classmethod
    def fit(cls, sequences: Sequences, config: EmcdrConfig | None = None) -> Emcdr:
        config = config or EmcdrConfig()
        training = sequences.training()
        counts = np.bincount(training.items, minlength=training.item_count + 1)
        everyone = training.prefixes_of_users(np.arange(training.user_count))
        items, users, priors = [], [], []
        for domain in range(training.domain_count):
            low, high = training.domain_starts[domain : domain + 2].tolist()
            choices = _choices(everyone, domain)
            items.append(item_factors(choices, high - low, config.als))
            users.append(solved(choices, items[-1], config.als))
            log_counts = np.log1p(counts[low + 1 : high + 1]).astype(np.float32)
            priors.append(torch.from_numpy(log_counts) * config.popularity)
        active = [factors.any(1) for factors in users]
        maps = []
        for domain, target in enumerate(users):
            of_both = active[domain] & torch.stack(_others(active, domain)).any(0)
            sources = torch.cat(_others(users, domain), 1)[of_both].double()
            gram = sources.T @ sources + config.ridge * torch.eye(sources.shape[1])
            maps.append(torch.linalg.solve(gram, sources.T @ target[of_both].double()).float())
        return cls(tuple(items), tuple(maps), tuple(priors), training.domain_starts, config)

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        users = [
            solved(_choices(prefixes, source), self.items[source], self.config.als)
            for source in range(len(self.items))
            if source != domain
        ]
        mapped = torch.cat(users, 1) @ self.maps[domain]
        return mapped @ self.items[domain].T + self.priors[domain]


def _choices(prefixes: Prefixes, domain: int) -> Choices:
    """Returns the items of a domain that each prefix has."""
    return Choices.of_pairs(*prefixes.columns_in(domain), len(prefixes))


def _others(values: list[Tensor], domain: int) -> list[Tensor]:
    return [value for number, value in enumerate(values) if number != domain]
