"""Training loss of a batch: next items per domain, adapter regulariser, profile alignment.

`L = sum over domains of the mean loss + alpha * regulariser + beta * alignment` (METHOD 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from model.config import TrainConfig
from model.data.batches import CrossDomainBatch, moved
from model.data.negatives import UnseenItems, draw_pairs
from model.data.sequences import Sequences
from model.data.tables import ProfileVectors
from model.network.tri_thread import ItemLookup, TriThread
from model.training.losses import (
    binary_loss,
    contrastive_loss,
    disagreement,
    recency_weights,
    sampled_candidates,
    softmax_loss,
)
from model.training.processes import ProcessGroup


@dataclass(frozen=True)
class Draws:
    """Random samples of a batch; without dropout the loss is a function of batch and draws."""

    negatives: tuple[Tensor, ...]  # per domain (K_d, N) for bce, (N,) for softmax
    pairs: Tensor  # (B, D) one item per user and domain, 0 without events

    def to(self, device: torch.device) -> Draws:
        return Draws(tuple(moved(n, device) for n in self.negatives), moved(self.pairs, device))


@dataclass(frozen=True)
class Counts:
    """Denominators of the means of a step: those of the whole batch, also for a micro-batch."""

    events: tuple[float, ...]  # per domain, the weights of the queries in the loss
    profiles: int  # users with a profile


class Objective:
    """Computes losses of a model from training histories and profiles."""

    def __init__(
        self,
        model: TriThread,
        training: Sequences,
        config: TrainConfig,
        profiles: ProfileVectors | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        self.model, self.training, self.config = model, training, config
        self.process_group = process_group or ProcessGroup()
        self.unseen = UnseenItems(training)
        self.profiles = profiles if config.beta > 0 and model.global_thread is not None else None

    def draw(self, batch: CrossDomainBatch, rng: np.random.Generator) -> Draws:
        users = batch.users.numpy()
        negatives = tuple(
            self._draw_negatives(users[queries.rows.cpu().numpy()], domain, rng)
            for domain, queries in enumerate(batch.queries)
        )
        pairs = (
            draw_pairs(self.training, users, rng)
            if self._regularises
            else np.zeros((len(users), 0), np.int64)
        )
        return Draws(negatives, torch.from_numpy(pairs))

    def counts(self, batch: CrossDomainBatch) -> Counts:
        events = tuple(float(weights.sum()) for _, weights in self._learned(batch))
        if self.profiles is None:
            return Counts(events, 0)
        return Counts(events, int(self.profiles.has_profile[batch.users.numpy()].sum()))

    def loss(self, batch: CrossDomainBatch, draws: Draws, whole: Counts | None = None) -> Tensor:
        """Returns the loss of a batch; with the counts of a `whole` batch, the part of a
        micro-batch.

        Losses and gradients of all micro-batches add up to those of the whole batch, with two
        exceptions: the alignment contrasts users of concurrent micro-batches of all processes only,
        and `mismatched_negatives` mixes within a micro-batch.
        """
        whole = whole or self.counts(batch)
        rows = self.model.look_up(self._items_needed(batch, draws))
        count = 2 if self.config.r_drop_weight else 1
        passes = [self.model.member_states(batch, rows) for _ in range(count)]
        learned = self._learned(batch)
        parts = [
            self._member_loss(
                batch,
                draws,
                learned,
                whole,
                [[found[number] for found in states] for states, _ in passes],
                rows,
                number,
            )
            for number in range(self.model.config.ensemble_size)
        ]
        total = torch.stack(parts).mean()
        if self.profiles is not None:
            states = [state for _, last in passes if last is not None for state in last]
            aligned = self._alignment(self.profiles, batch.users, states, whole.profiles)
            total = total + self.config.beta * aligned
        return total

    def _member_loss(
        self,
        batch: CrossDomainBatch,
        draws: Draws,
        learned: list[tuple[Tensor, Tensor]],
        whole: Counts,
        passes: list[list[Tensor]],
        rows: ItemLookup,
        number: int,
    ) -> Tensor:
        """Returns the next-item losses of one ensemble member, and the regulariser of its adapter.

        `learned`: see `_learned`. `passes`: its states (K_d, 2H) per domain; one list, or two with
        different dropout.
        """
        rows = rows.member(number, self.model.config.hidden)
        total = passes[0][0].new_zeros(())
        for domain, queries in enumerate(batch.queries):
            kept, weights = learned[domain]
            if len(kept):
                losses = self._next_item_losses(
                    domain,
                    [states[domain][kept] for states in passes],
                    queries.targets[kept],
                    draws.negatives[domain],
                    kept,
                    rows,
                )
                total = total + (losses * weights).sum() / whole.events[domain]
        if self._regularises:
            total = total + self.config.alpha * self._regulariser(draws.pairs, rows)
        return total

    @property
    def _regularises(self) -> bool:
        return (
            self.config.alpha > 0
            and self.model.global_thread is not None
            and self.model.domain_count > 1
        )

    def _draw_negatives(self, users: np.ndarray, domain: int, rng: np.random.Generator) -> Tensor:
        config, size = self.config, self.training.domain_size(domain)
        if config.loss == "bce":
            drawn = self.unseen.draw(users, domain, config.negatives, rng)
        elif self._full_softmax(domain):
            drawn = np.arange(size) + self.training.domain_starts[domain] + 1
        else:
            drawn = rng.choice(size, config.negatives, replace=False, shuffle=False)
            drawn = drawn + self.training.domain_starts[domain] + 1
        return torch.from_numpy(drawn)

    def _full_softmax(self, domain: int) -> bool:
        """If all items are requested, the full softmax is used."""
        wanted = self.config.negatives
        return wanted == 0 or wanted >= self.training.domain_size(domain)

    def _items_needed(self, batch: CrossDomainBatch, draws: Draws) -> Tensor:
        targets = [queries.targets for queries in batch.queries]
        parts = [batch.mixed_items, draws.pairs, *targets, *draws.negatives]
        return torch.cat([part.flatten() for part in parts])

    def _learned(self, batch: CrossDomainBatch) -> list[tuple[Tensor, Tensor]]:
        """Returns per domain the numbers (n,) of the queries in the loss, without `first_crossing`
        only those with states of both threads, and their weights (n,), by the number of later
        targets of the same user."""
        found = []
        for queries in batch.queries:
            kept = torch.arange(len(queries), device=queries.rows.device)
            if not self.config.first_crossing and len(self.model.local_threads):
                kept = kept[queries.local_position >= 0]
            later = (batch.last_position[queries.rows] - queries.mixed_position)[kept]
            found.append((kept, recency_weights(later, self.config.recency)))
        return found

    def _next_item_losses(
        self,
        domain: int,
        passes: list[Tensor],
        targets: Tensor,
        negatives: Tensor,
        kept: Tensor,
        rows: ItemLookup,
    ) -> Tensor:
        """Returns losses (K,) of the states (K, 2H) of one pass, or of two passes with R-Drop."""
        if self.config.loss == "bce":
            (states,) = passes
            return self._binary_losses(states, targets, negatives[kept], rows)
        vectors = self.model.item_vectors(negatives, rows)  # (N, 2H)
        scores = [self.model.scale_scores(states @ vectors.T) for states in passes]  # (K, N)
        if self._full_softmax(domain):
            columns = targets - negatives[0]
        else:
            right = self.model.item_vectors(targets, rows)
            is_target = negatives == targets[:, None]
            population = self.training.domain_size(domain)
            scores = [
                sampled_candidates(
                    self.model.scale_scores((states * right).sum(-1)), each, is_target, population
                )
                for states, each in zip(passes, scores, strict=True)
            ]
            columns = torch.zeros_like(targets)
        losses = torch.stack([softmax_loss(each, columns) for each in scores]).mean(0)
        if self.config.r_drop_weight:
            losses = losses + self.config.r_drop_weight * disagreement(*scores)
        return losses

    def _binary_losses(
        self, states: Tensor, targets: Tensor, negatives: Tensor, rows: ItemLookup
    ) -> Tensor:
        model = self.model
        wrong = model.item_vectors(negatives, rows)
        if self.config.mismatched_negatives:
            wrong = _mismatch(wrong, negatives, model, rows)
        right = model.scale_scores((states * model.item_vectors(targets, rows)).sum(-1))
        scores = model.scale_scores((states[:, None] * wrong).sum(-1))
        return binary_loss(right, scores, negatives > 0)

    def _regulariser(self, pairs: Tensor, rows: ItemLookup) -> Tensor:
        """Returns the mean over pairs of domains of the contrastive loss of users active in both
        (METHOD 2)."""
        losses = []
        for left, right in combinations(range(pairs.shape[1]), 2):
            both = pairs[(pairs[:, left] > 0) & (pairs[:, right] > 0)]
            losses.append(
                contrastive_loss(
                    rows.adapted[rows.places(both[:, left])],
                    rows.adapted[rows.places(both[:, right])],
                    self.config.contrastive_targets,
                )
            )
        return torch.stack(losses).mean()

    def _alignment(
        self, profiles: ProfileVectors, users: Tensor, last: list[Tensor], whole: int
    ) -> Tensor:
        """Returns the contrastive loss of profiles and last global states (B, H), the mean over
        members and passes.

        Users without a profile are excluded (METHOD 3).
        """
        index, device = users.numpy(), last[0].device
        rows = np.flatnonzero(profiles.has_profile[index])
        vectors = moved(torch.from_numpy(profiles.vectors[index[rows]]), device)
        described_rows = moved(torch.from_numpy(rows), device)
        adapter = self.model.user_adapter
        assert adapter is not None, "a model fitted with profiles is made with profile_width"
        own = [adapter(vectors), *(states[described_rows] for states in last)]
        described, *found = self.process_group.gather(torch.cat(own, dim=1)).chunk(
            len(own), dim=1
        )  # (n, H)
        losses = [
            contrastive_loss(
                described,
                states,
                self.config.contrastive_targets,
            )
            for states in found
        ]
        loss = torch.stack(losses).mean() * (len(described) / max(whole, 1))
        # Each process computes the loss of the whole batch, and the gradient of its own rows only.
        # The subtraction divides the value by the number of processes and keeps the gradient, so
        # that both sum to those of a single process.
        return loss - loss.detach() * (1 - 1 / self.process_group.size)


def _mismatch(wrong: Tensor, negatives: Tensor, model: TriThread, rows: ItemLookup) -> Tensor:
    """Returns the released code's negatives: global part of one draw with the local part of
    another."""
    other = model.item_vectors(negatives.roll(1, dims=0), rows)
    half = wrong.shape[-1] // 2
    return torch.cat((wrong[..., :half], other[..., half:]), dim=-1)
