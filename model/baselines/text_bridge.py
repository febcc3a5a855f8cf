"""Text baseline of withheld domains: popularity, and a linear map from the mean text of a history
to the texts of another domain's items.

Score of item v for a history of mean text x: `log p(v) + <x A, e_v B>`, with one pair of maps A, B
per domain, fitted by softmax over all items of the domain on users active in it and in others. It
overfits within a few epochs; the epoch is selected on cold validation users (METHOD 9).

Dimensions: U users, R prefixes, W width of texts, I_d items of a domain, K width of the maps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.data.sequences import COLD_VALIDATION, IntArray, Prefixes, Sequences, concatenate_ranges
from model.scoring.cold_domain_metrics import ALL_NDCG, measure_cold


@dataclass(frozen=True)
class TextBridgeConfig:
    """Settings of the fit; `blind_epochs` is the number of epochs without cold validation users."""

    width: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    batch_size: int = 256
    max_epochs: int = 20
    patience: int = 3
    blind_epochs: int = 2
    seed: int = 0


@dataclass(frozen=True)
class TextBridge:
    """A fitted text bridge. Events of the target domain in a prefix are ignored."""

    texts: Tensor  # (V + 1, W), rows of length 1, row 0 zeros
    priors: tuple[Tensor, ...]  # per domain (I_d,) log share of purchases
    sources: tuple[Tensor, ...]  # per domain (W, K)
    items: tuple[Tensor, ...]  # per domain (W, K)
    domain_starts: IntArray

    @classmethod
    def fit(
        cls, sequences: Sequences, texts: np.ndarray, config: TextBridgeConfig | None = None
    ) -> TextBridge:
        """Fits one pair of maps per domain; ``texts`` (V + 1, W) are rows of the global table."""
        config = config or TextBridgeConfig()
        training = sequences.training()
        rows = F.normalize(torch.from_numpy(np.ascontiguousarray(texts, np.float32)), dim=1)
        domains = range(training.domain_count)
        priors = tuple(_log_shares(training, domain) for domain in domains)
        generator = torch.Generator().manual_seed(config.seed)
        pairs = [
            torch.randn(2, rows.shape[1], config.width, generator=generator) * rows.shape[1] ** -0.5
            for _ in domains
        ]
        made = cls(
            rows,
            priors,
            tuple(pair[0] for pair in pairs),
            tuple(pair[1] * 0 for pair in pairs),  # Initialised to popularity.
            training.domain_starts,
        )
        for domain in domains:
            made = _fit_domain(made, sequences, domain, config, generator)
        return made

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        low, high = self.domain_starts[domain : domain + 2].tolist()
        history = mean_text(prefixes, domain, self.texts)
        items = self.texts[low + 1 : high + 1] @ self.items[domain]
        return history @ self.sources[domain] @ items.T + self.priors[domain]

    def with_maps(self, domain: int, source: Tensor, items: Tensor) -> TextBridge:
        """Returns the bridge with the two maps (W, K) of one domain replaced."""
        sources, targets = list(self.sources), list(self.items)
        sources[domain], targets[domain] = source, items
        return replace(self, sources=tuple(sources), items=tuple(targets))


def mean_text(prefixes: Prefixes, domain: int, texts: Tensor) -> Tensor:
    """Returns the mean text (R, W) of a prefix's events outside of `domain`, or zeros."""
    rows, items = prefixes.items()
    other = prefixes.sequences.domain_of(items) != domain
    place = torch.from_numpy(rows[other])
    found = torch.zeros(len(prefixes), texts.shape[1])
    found.index_add_(0, place, texts[torch.from_numpy(items[other])])
    counts = torch.bincount(place, minlength=len(prefixes)).clamp_min(1)
    return found / counts[:, None]


def _log_shares(training: Sequences, domain: int) -> Tensor:
    low, high = training.domain_starts[domain : domain + 2]
    counts = np.bincount(training.items, minlength=training.item_count + 1)[low + 1 : high + 1]
    shares = (counts + 0.5) / (counts + 0.5).sum()
    return torch.from_numpy(np.log(shares).astype(np.float32))


def _fit_domain(
    bridge: TextBridge,
    sequences: Sequences,
    domain: int,
    config: TextBridgeConfig,
    generator: torch.Generator,
) -> TextBridge:
    """Returns the bridge with the maps of one domain from their best epoch."""
    examples = _Examples(sequences.training(), domain, bridge)
    if not len(examples.histories):
        return bridge
    asked = sequences.prefixes_of_withheld(COLD_VALIDATION).of_domain(domain)
    maps = [bridge.sources[domain].clone(), bridge.items[domain].clone()]
    for each in maps:
        each.requires_grad_()
    optimizer = torch.optim.AdamW(maps, config.learning_rate, weight_decay=config.weight_decay)
    best, best_epoch, chosen = -1.0, 0, bridge
    for epoch in range(1, (config.max_epochs if len(asked) else config.blind_epochs) + 1):
        for batch in examples.batches(config.batch_size, generator):
            optimizer.zero_grad()
            examples.loss(batch, maps).backward()
            optimizer.step()
        reached = bridge.with_maps(domain, *(each.detach().clone() for each in maps))
        quality = measure_cold(reached, asked).values[ALL_NDCG].mean() if len(asked) else epoch
        if quality > best:
            best, best_epoch, chosen = quality, epoch, reached
        elif epoch - best_epoch >= config.patience:
            break
    return chosen


class _Examples:
    """Training examples: users' choices in one domain, and mean texts of their other domains."""

    def __init__(self, training: Sequences, domain: int, bridge: TextBridge) -> None:
        low, high = training.domain_starts[domain : domain + 2].tolist()
        asked = training.prefixes_of_users(training.users_of_several(domain))
        self.histories = mean_text(asked, domain, bridge.texts)
        self._texts, self._prior = bridge.texts[low + 1 : high + 1], bridge.priors[domain]
        rows, self._columns = asked.columns_in(domain)
        self._starts = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=len(asked)))))

    def batches(self, size: int, generator: torch.Generator) -> Iterator[IntArray]:
        for batch in torch.randperm(len(self.histories), generator=generator).split(size):
            yield batch.numpy()

    def loss(self, batch: IntArray, maps: list[Tensor]) -> Tensor:
        """Returns the cross-entropy over the domain, averaged over each user's choices, then over
        users."""
        event, row = concatenate_ranges(self._starts[batch], self._starts[batch + 1])
        weight = torch.from_numpy(1 / np.bincount(row)[row] / len(batch)).float()
        states = self.histories[torch.from_numpy(batch)] @ maps[0]
        scores = states @ (self._texts @ maps[1]).T + self._prior
        place, column = torch.from_numpy(row), torch.from_numpy(self._columns[event])
        return (weight * (scores.logsumexp(1)[place] - scores[place, column])).sum()
