"""The whole training loss beside a twin written as loops over float64 numbers, and what must not
matter to it: later events, other users, the order of users, padding.

The twin reads histories, weights and draws, and shares nothing with the model but their names.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from model.data.batches import training_batch
from model.data.sequences import Sequences, sequences_from_lists
from model.network.tri_thread import TriThread
from model.training.objective import Draws, Objective
from tests.model.conftest import Shop
from tests.model.naive_network import (
    Targets,
    Vector,
    Weights,
    naive_contrastive,
    naive_last_state,
    naive_linear,
)


class Twin:
    """METHOD 2 to 5 for one user and one event at a time."""

    def __init__(self, model: TriThread, training: Sequences) -> None:
        self.w: Weights = {n: v.double().numpy() for n, v in model.state_dict().items()}
        self.starts = training.domain_starts.tolist()
        bounds = zip(training.offsets, training.offsets[1:], strict=False)
        self.histories = [training.items[low:high].tolist() for low, high in bounds]

    def domain(self, item: int) -> int:
        return next(d for d in range(len(self.starts)) if item <= self.starts[d + 1])

    def adapted(self, item: int) -> Vector:
        first = naive_linear(self.w["global_table"][item], self.w, "adapter.first")
        return naive_linear(first, self.w, "adapter.second")

    def local(self, item: int) -> Vector:
        return self.w["local_table.weight"][item]

    def profile(self, vector: Vector) -> Vector:
        first = naive_linear(vector.astype(np.float64), self.w, "user_adapter.first")
        return naive_linear(first, self.w, "user_adapter.second")

    def global_state(self, prefix: list[int]) -> Vector:
        return naive_last_state([self.adapted(v) for v in prefix], self.w, "global_thread")

    def score(self, prefix: list[int], item: int) -> float:
        total = self.global_state(prefix) @ self.adapted(item)
        domain = self.domain(item)
        own = [self.local(v) for v in prefix if self.domain(v) == domain]
        if own:
            total += naive_last_state(own, self.w, f"local_threads.{domain}") @ self.local(item)
        return float(total)

    def events(self, domain: int) -> list[tuple[list[int], int]]:
        """Prefix and target of every event of the domain but a user's first, user by user."""
        return [
            (history[:t], history[t])
            for history in self.histories
            for t in range(1, len(history))
            if self.domain(history[t]) == domain
        ]


def naive_bce(twin: Twin, draws: Draws) -> float:
    total = 0.0
    for domain, drawn in enumerate(draws.negatives):
        losses = []
        for (prefix, target), negatives in zip(twin.events(domain), drawn.tolist(), strict=True):
            right = math.log1p(math.exp(-twin.score(prefix, target)))
            wrong = [math.log1p(math.exp(twin.score(prefix, v))) for v in negatives if v]
            losses.append(right + (sum(wrong) / len(wrong) if wrong else 0.0))
        total += sum(losses) / len(losses)
    return total


def naive_softmax(twin: Twin, draws: Draws, shop: Shop) -> float:
    total = 0.0
    for domain, drawn in enumerate(draws.negatives):
        size, losses = shop.sequences.domain_size(domain), []
        for prefix, target in twin.events(domain):
            others = [math.exp(twin.score(prefix, v)) for v in drawn.tolist() if v != target]
            right = math.exp(twin.score(prefix, target))
            losses.append(-math.log(right / (right + size / len(drawn) * sum(others))))
        total += sum(losses) / len(losses)
    return total


def computed(shop: Shop, train: dict[str, object]) -> tuple[float, Draws, Twin]:
    """The model's own loss of all users in evaluation mode, the draws it used, and its twin."""
    model = shop.model()
    training = shop.sequences.training()
    objective = Objective(model, training, shop.config(train=train).train, shop.profiles)
    batch = training_batch(training, np.arange(training.user_count), 50)
    draws = objective.draw(batch, np.random.default_rng(6))
    with torch.no_grad():
        loss = objective.loss(batch, draws).item()
    return loss, draws, Twin(model, training)


@pytest.mark.parametrize("sizes", [(7, 11), (4, 6, 5)])
def test_the_binary_loss_over_all_events(
    open_shop: Callable[..., Shop], sizes: tuple[int, ...]
) -> None:
    shop = open_shop(sizes, users=12, longest=7)
    loss, draws, twin = computed(shop, {"alpha": 0.0, "beta": 0.0, "negatives": 3})
    assert loss == pytest.approx(naive_bce(twin, draws), rel=1e-5)


@pytest.mark.parametrize("negatives", [0, 3])
def test_the_softmax_loss_over_all_events(open_shop: Callable[..., Shop], negatives: int) -> None:
    shop = open_shop((7, 11), users=12, longest=7)
    train = {"alpha": 0.0, "beta": 0.0, "loss": "softmax", "negatives": negatives}
    loss, draws, twin = computed(shop, train)
    assert loss == pytest.approx(naive_softmax(twin, draws, shop), rel=1e-5)


@pytest.mark.parametrize("sizes", [(7, 11), (4, 6, 5)])
@pytest.mark.parametrize("targets", ["soft", "identity"])
def test_the_regulariser_is_the_mean_over_pairs_of_domains(
    open_shop: Callable[..., Shop], sizes: tuple[int, ...], targets: Targets
) -> None:
    shop = open_shop(sizes, users=15, longest=9)
    settings: dict[str, object] = {
        "beta": 0.0,
        "contrastive_targets": targets,
    }
    without, _, _ = computed(shop, {**settings, "alpha": 0.0})
    loss, draws, twin = computed(shop, {**settings, "alpha": 2.0})
    values = []
    for first in range(len(sizes)):
        for second in range(first + 1, len(sizes)):
            both = [row for row in draws.pairs.tolist() if row[first] and row[second]]
            assert len(both) > 2
            left = [twin.adapted(row[first]) for row in both]
            right = [twin.adapted(row[second]) for row in both]
            values.append(naive_contrastive(left, right, targets))
    # Without the regulariser no pairs are drawn, the negatives before them are the same.
    assert loss - without == pytest.approx(2.0 * sum(values) / len(values), rel=1e-4)


@pytest.mark.parametrize("targets", ["soft", "identity"])
def test_the_alignment_compares_profiles_with_last_global_states(
    open_shop: Callable[..., Shop], targets: Targets
) -> None:
    shop = open_shop((7, 11), users=15, longest=9)
    settings: dict[str, object] = {
        "alpha": 0.0,
        "contrastive_targets": targets,
    }
    without, _, _ = computed(shop, {**settings, "beta": 0.0})
    loss, _, twin = computed(shop, {**settings, "beta": 3.0})
    described, states = [], []
    for user, history in enumerate(twin.histories):
        if shop.profiles.has_profile[user]:
            described.append(twin.profile(shop.profiles.vectors[user]))
            # The last event is only a target: the state has read what stands before it.
            read = history[:-1]
            states.append(twin.global_state(read) if read else np.zeros(len(described[-1])))
    assert len(described) > 3
    wanted = naive_contrastive(described, states, targets)
    assert loss - without == pytest.approx(3.0 * wanted, rel=1e-4)


def test_changing_a_later_event_changes_no_earlier_logit(shop: Shop) -> None:
    lists = [[1, 9, 3, 12, 5, 8, 2, 17], [4, 4, 10, 6, 11]]
    scored = []
    for item in (5, 16):  # Of another domain, even.
        changed = [list(history) for history in lists]
        changed[0][4] = item
        sequences = sequences_from_lists(
            changed, shop.sequences.domain_starts.tolist(), shop.sequences.domain_names
        )
        model = shop.model()
        batch = training_batch(sequences, np.array([0, 1]), 50)
        with torch.inference_mode():
            rows = model.look_up(torch.arange(19))
            states, _ = model.states(batch, rows)
        found = {}
        for domain, queries in enumerate(batch.queries):
            logits = states[domain] @ model.item_vectors(model.domain_items(domain), rows).T
            for row, place, scores in zip(
                queries.rows.tolist(), queries.mixed_position.tolist(), logits, strict=True
            ):
                # The domain that is asked about may change at the changed event itself.
                found[row, place % batch.mixed_items.shape[1], domain] = scores
        scored.append(found)
    before, after = scored
    earlier = [key for key in before if key[0] == 1 or key[1] < 3]
    assert len(earlier) == 3 + 4
    # The shapes differ by the domain of the event, and some processors' rounding by the shape.
    for key in earlier:
        torch.testing.assert_close(before[key], after[key], rtol=1e-5, atol=1e-6)
    later = [key for key in before if key[0] == 0 and key[1] >= 4]
    assert later
    assert all(not torch.isclose(before[key], after[key]).all() for key in later)


def test_the_order_of_users_changes_neither_loss_nor_gradient(shop: Shop) -> None:
    order = np.random.default_rng(1).permutation(23)
    found = []
    for users in (np.arange(23), order):
        model = shop.model()
        training = shop.sequences.training()
        config = shop.config(train={"loss": "softmax", "negatives": 0, "alpha": 0.0}).train
        objective = Objective(model, training, config, shop.profiles)
        batch = training_batch(training, users, 50)
        loss = objective.loss(batch, objective.draw(batch, np.random.default_rng(0)))
        loss.backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        found.append((loss.detach(), grads))
    (loss, grads), (other_loss, other_grads) = found
    torch.testing.assert_close(loss, other_loss)
    assert grads.keys() == other_grads.keys()
    for name, gradient in grads.items():
        torch.testing.assert_close(gradient, other_grads[name], rtol=1e-4, atol=1e-6)


def test_neither_company_nor_the_longest_length_changes_a_users_training_states(
    shop: Shop,
) -> None:
    """One user alone, padded to its own length, beside the same user among longer ones."""
    model, training = shop.model(), shop.sequences.training()
    rows = model.look_up(torch.arange(19))
    lengths = np.diff(training.offsets)
    user = int(np.flatnonzero(lengths == np.sort(lengths[lengths >= 3])[0])[0])

    def states_of(users: np.ndarray, max_length: int) -> list[torch.Tensor]:
        batch = training_batch(training, users, max_length)
        with torch.inference_mode():
            states, _ = model.states(batch, rows)
        place = int(np.flatnonzero(users == user)[0])
        return [s[q.rows == place] for s, q in zip(states, batch.queries, strict=True)]

    alone = states_of(np.array([user]), int(lengths[user]))
    for together in (states_of(np.arange(23), 50), states_of(np.arange(23)[::-1].copy(), 20)):
        for got, wanted in zip(together, alone, strict=True):
            torch.testing.assert_close(got, wanted)
