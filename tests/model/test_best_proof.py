"""The loss that `best` trains with beside a twin written as loops over float64 numbers: members,
cosines over a temperature, corrected rows, several heads, pre-norm blocks, windows that cut.

The twin shares nothing with the model but the names of its weights and its draws.
"""

import math

import numpy as np
import pytest
import torch

from model.config import TriThreadConfig, load_preset
from model.data.batches import training_batch
from model.network.tri_thread import TriThread
from model.scoring.model_scorer import ModelScorer
from model.training.objective import Draws, Objective
from tests.model.conftest import PROFILE_WIDTH, Shop
from tests.model.naive_network import Vector, Weights, naive_contrastive, naive_linear, naive_norm

HIDDEN, HEADS, MEMBERS, WINDOW = 8, 2, 3, 6
DOMAIN_OF_ITEM = [-1] + [0] * 7 + [1] * 11


def config(**train: object) -> TriThreadConfig:
    model = {"hidden": HIDDEN, "heads": HEADS, "ensemble_size": MEMBERS, "max_length": WINDOW}
    return load_preset("best", {"model": model, "train": {"r_drop_weight": 0.0, **train}})


def best_model(shop: Shop) -> TriThread:
    """Weights of every kind away from where they start, so that none is without effect."""
    torch.manual_seed(4)
    made = TriThread(shop.tables, shop.sequences.domain_starts, config().model, PROFILE_WIDTH)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        made.local_table.weight[0] = 0
        assert made.correction is not None
        made.correction.weight[0] = 0
    return made.eval()


class Member:
    """One member's view of the weights, one user and one event at a time."""

    def __init__(self, weights: Weights, number: int) -> None:
        self.w, self.number = weights, number

    def adapted(self, item: int) -> Vector:
        first = naive_linear(self.w["global_table"][item], self.w, "adapter.first")
        whole = naive_linear(first, self.w, "adapter.second") + self.w["correction.weight"][item]
        return self._own(whole)

    def local(self, item: int) -> Vector:
        return self._own(self.w["local_table.weight"][item])

    def global_state(self, prefix: list[int]) -> Vector:
        return self._state([self.adapted(item) for item in prefix], "global_thread")

    def score(self, prefix: list[int], item: int) -> float:
        total = _cosine(self.global_state(prefix), self.adapted(item))
        domain = DOMAIN_OF_ITEM[item]
        own = [self.local(seen) for seen in prefix if DOMAIN_OF_ITEM[seen] == domain]
        if own:
            total += _cosine(self._state(own, f"local_threads.{domain}"), self.local(item))
        return total / 0.1

    def _own(self, whole: Vector) -> Vector:
        return whole[self.number * HIDDEN : (self.number + 1) * HIDDEN]

    def _state(self, vectors: list[Vector], thread: str) -> Vector:
        name = f"{thread}.members.{self.number}"
        positions = self.w[f"{name}.positions.weight"]
        states = [v * math.sqrt(HIDDEN) + positions[t] for t, v in enumerate(vectors)]
        for number in range(2):
            states = self._block(states, f"{name}.blocks.{number}")
        return naive_norm(states[-1], self.w, f"{name}.norm")

    def _block(self, states: list[Vector], block: str) -> list[Vector]:
        normed = [naive_norm(state, self.w, f"{block}.attention_norm") for state in states]
        queries = [naive_linear(x, self.w, f"{block}.attention.query") for x in normed]
        both = [naive_linear(x, self.w, f"{block}.attention.key_value") for x in normed]
        width, following = HIDDEN // HEADS, []
        for t in range(len(states)):
            mixed = np.zeros(HIDDEN)
            for low in range(0, HIDDEN, width):
                head = slice(low, low + width)
                logits = [
                    queries[t][head] @ both[s][:HIDDEN][head] / math.sqrt(width)
                    for s in range(t + 1)
                ]
                shares = np.exp(logits) / np.exp(logits).sum()
                mixed[head] = sum(shares[s] * both[s][HIDDEN:][head] for s in range(t + 1))
            x = states[t] + naive_linear(mixed, self.w, f"{block}.attention.out")
            inner = naive_norm(x, self.w, f"{block}.feed_forward_norm")
            wide = naive_linear(inner, self.w, f"{block}.widen")
            following.append(x + naive_linear(np.maximum(wide, 0), self.w, f"{block}.narrow"))
        return following


def _cosine(left: Vector, right: Vector) -> float:
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def members_of(model: TriThread) -> list[Member]:
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    return [Member(weights, number) for number in range(MEMBERS)]


def histories(shop: Shop, newest: int) -> list[list[int]]:
    training = shop.sequences.training()
    bounds = zip(training.offsets, training.offsets[1:], strict=False)
    return [training.items[low:high].tolist()[-newest:] for low, high in bounds]


def naive_member_loss(member: Member, shop: Shop, draws: Draws, alpha: float, beta: float) -> float:
    """METHOD 5 with a softmax over drawn items, each standing for its share of the domain."""
    # A window of training holds one event more than is read: the newest is a target alone.
    read = histories(shop, WINDOW + 1)
    total = 0.0
    for domain, drawn in enumerate(draws.negatives):
        weight, losses = shop.sequences.domain_size(domain) / len(drawn), []
        for history in read:
            for t in range(1, len(history)):
                if DOMAIN_OF_ITEM[history[t]] != domain:
                    continue
                right = math.exp(member.score(history[:t], history[t]))
                others = [
                    math.exp(member.score(history[:t], item))
                    for item in drawn.tolist()
                    if item != history[t]
                ]
                losses.append(-math.log(right / (right + weight * sum(others))))
        total += sum(losses) / len(losses)
    both = [row for row in draws.pairs.tolist() if all(row)]
    left, right_side = ([member.adapted(row[side]) for row in both] for side in (0, 1))
    total += alpha * naive_contrastive(left, right_side, "soft")
    described, states = [], []
    for user in np.flatnonzero(shop.profiles.has_profile):
        vector = shop.profiles.vectors[user].astype(np.float64)
        first = naive_linear(vector, member.w, "user_adapter.first")
        described.append(naive_linear(first, member.w, "user_adapter.second"))
        known = read[user][:-1]
        states.append(member.global_state(known) if known else np.zeros(HIDDEN))
    return total + beta * naive_contrastive(described, states, "soft")


@pytest.mark.parametrize("negatives", [5, 1024])
def test_the_whole_loss_of_best(shop: Shop, negatives: int) -> None:
    model, training = best_model(shop), shop.sequences.training()
    train = config(negatives=negatives, alpha=0.3, beta=0.4).train
    objective = Objective(model, training, train, shop.profiles)
    batch = training_batch(training, np.arange(training.user_count), WINDOW)
    draws = objective.draw(batch, np.random.default_rng(1))
    with torch.no_grad():
        loss = objective.loss(batch, draws).item()
    wanted = [naive_member_loss(member, shop, draws, 0.3, 0.4) for member in members_of(model)]
    assert loss == pytest.approx(sum(wanted) / MEMBERS, rel=1e-5)


def test_the_scores_of_best(shop: Shop) -> None:
    model = best_model(shop)
    members = members_of(model)
    users = np.arange(shop.sequences.user_count)
    prefixes = shop.sequences.training().prefixes_of_users(users)
    for domain in (0, 1):
        scores = ModelScorer(model).score(prefixes, domain).numpy()
        for user, read in enumerate(histories(shop, WINDOW)):
            if read:
                wanted = [
                    sum(member.score(read, item) for member in members) / MEMBERS
                    for item in model.domain_items(domain).tolist()
                ]
                np.testing.assert_allclose(scores[user], wanted, rtol=1e-4, atol=1e-4)


def test_the_agreement_of_two_passes_is_their_mean_divergence(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-Drop: half of both Kullback-Leibler divergences, times its weight, for every event."""
    training, users = shop.sequences.training(), np.arange(23)
    config_of = {"negatives": 1024, "alpha": 0.0, "beta": 0.0}
    batch = training_batch(training, users, WINDOW)
    model = best_model(shop)
    rows = model.look_up(torch.arange(19))
    with torch.no_grad():
        first, last = model.member_states(batch, rows)
    torch.manual_seed(8)
    second = [states + 0.1 * torch.randn_like(states) for states in first]

    def losses_of(agreement: float) -> tuple[float, Draws]:
        # One pass is what `agreement` 0 makes; then the passes alternate.
        served = iter([(first, last), (second, last)])
        monkeypatch.setattr(model, "member_states", lambda *_: next(served))
        objective = Objective(model, training, config(r_drop_weight=agreement, **config_of).train)
        draws = objective.draw(batch, np.random.default_rng(1))
        with torch.no_grad():
            return objective.loss(batch, draws).item(), draws

    weak, _ = losses_of(1.0)
    strong, _ = losses_of(3.5)
    wanted = 0.0
    for number in range(MEMBERS):
        own = rows.member(number, HIDDEN)
        for domain in (0, 1):
            vectors = model.item_vectors(model.domain_items(domain), own).double().detach().numpy()
            divergences = []
            for one, two in zip(first[domain][number], second[domain][number], strict=True):
                p, q = (softmax(state.double().numpy() @ vectors.T / 0.1) for state in (one, two))
                both = (p * np.log(p / q)).sum() + (q * np.log(q / p)).sum()
                divergences.append(both / 2)
            wanted += sum(divergences) / len(divergences) / MEMBERS
    assert wanted > 0.01
    assert (strong - weak) / 2.5 == pytest.approx(wanted, rel=1e-4)


def softmax(logits: Vector) -> Vector:
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()
