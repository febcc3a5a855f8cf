from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.data.batches import training_batch
from model.data.sequences import sequences_from_lists
from model.data.tables import ProfileVectors
from model.training.objective import Objective
from tests.model.conftest import Shop, with_other_items

EVERYONE = np.arange(23)


def losses_and_gradients(
    shop: Shop, train: dict[str, object], profiles: ProfileVectors | None = None
) -> tuple[float, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = shop.model()
    objective = Objective(
        model, shop.sequences.training(), shop.config(train=train).train, profiles
    )
    batch = training_batch(objective.training, EVERYONE, 50)
    loss = objective.loss(batch, objective.draw(batch, np.random.default_rng(0)))
    loss.backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return float(loss.detach()), grads


def test_users_without_a_profile_take_no_part_in_the_alignment(shop: Shop) -> None:
    with_nan = losses_and_gradients(shop, {"beta": 1.0}, shop.profiles)
    vectors = np.where(shop.profiles.has_profile[:, None], shop.profiles.vectors, 9.0)
    with_other = losses_and_gradients(
        shop, {"beta": 1.0}, ProfileVectors(vectors.astype(np.float32), shop.profiles.has_profile)
    )
    assert np.isfinite(with_nan[0])
    assert with_nan[0] == with_other[0]
    for name, gradient in with_nan[1].items():
        assert torch.equal(gradient, with_other[1][name]), name


def test_profiles_of_nobody_give_the_loss_without_alignment(shop: Shop) -> None:
    nobody = ProfileVectors(shop.profiles.vectors, np.zeros(23, bool))
    with_nobody, _ = losses_and_gradients(shop, {"beta": 1.0}, nobody)
    without, _ = losses_and_gradients(shop, {"beta": 0.0}, shop.profiles)
    assert with_nobody == without


def test_alignment_reaches_the_user_adapter_and_beta_zero_does_not(shop: Shop) -> None:
    _, aligned = losses_and_gradients(shop, {"beta": 1.0}, shop.profiles)
    _, apart = losses_and_gradients(shop, {"beta": 0.0}, shop.profiles)
    assert aligned["user_adapter.first.weight"].abs().sum() > 0
    assert "user_adapter.first.weight" not in apart


def test_the_regulariser_moves_the_loss_by_alpha(shop: Shop) -> None:
    none, one, two = (losses_and_gradients(shop, {"alpha": a})[0] for a in (0.0, 1.0, 2.0))
    assert one > none
    assert two - none == pytest.approx(2 * (one - none), rel=1e-4)


def first_crossing_shop(shop: Shop) -> Shop:
    """Everyone meets domain 1 for the first time with the last event."""
    lists = [[1 + n % 7, 2, 8 + n % 11] for n in range(23)]
    starts, names = shop.sequences.domain_starts.tolist(), shop.sequences.domain_names
    return replace(shop, sequences=sequences_from_lists(lists, starts, names))


def test_the_first_event_of_a_domain_is_learned_only_with_the_switch(shop: Shop) -> None:
    crossing = first_crossing_shop(shop)
    with_switch, _ = losses_and_gradients(crossing, {"first_crossing": True, "alpha": 0.0})
    without, gradients = losses_and_gradients(crossing, {"first_crossing": False, "alpha": 0.0})
    assert with_switch > without > 0
    assert all("local_threads.1" not in name for name in gradients)


@pytest.mark.parametrize("recency", [0.0, 1.5])
def test_a_binary_loss_is_the_same_from_a_loop_over_events(shop: Shop, recency: float) -> None:
    model = shop.model()
    train = {"alpha": 0.0, "beta": 0.0, "negatives": 2, "recency": recency}
    config = shop.config(train=train).train
    objective = Objective(model, shop.sequences.training(), config)
    batch = training_batch(objective.training, EVERYONE, 50)
    draws = objective.draw(batch, np.random.default_rng(0))
    rows = model.look_up(torch.arange(19))
    states, _ = model.states(batch, rows)
    total, width = 0.0, batch.mixed_items.shape[1]
    for domain, queries in enumerate(batch.queries):
        events, weights = 0.0, 0.0
        for k in range(len(queries)):
            place = int(queries.mixed_position[k]) % width + 1
            user = int(batch.users[queries.rows[k]])
            later = int(np.diff(objective.training.offsets)[user]) - 1 - place
            weight = recency / (recency + later) if recency else 1.0
            weights += weight
            state = states[domain][k].double()
            score = state @ model.item_vectors(queries.targets[k], rows).double()
            event = -torch.log(torch.sigmoid(score)).item()
            for n in range(2):
                item = draws.negatives[domain][k, n]
                wrong = state @ model.item_vectors(item, rows).double()
                event -= torch.log(1 - torch.sigmoid(wrong)).item() / 2
            events += weight * event
        total += events / weights
    assert objective.loss(batch, draws).item() == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("negatives", [0, 5, 500])
def test_softmax_works_with_all_some_and_too_many_items(shop: Shop, negatives: int) -> None:
    loss, gradients = losses_and_gradients(shop, {"loss": "softmax", "negatives": negatives})
    assert np.isfinite(loss)
    assert gradients["adapter.first.weight"].abs().sum() > 0


@pytest.mark.parametrize("negatives", [0, 5])
def test_two_passes_agree_without_dropout_and_cost_by_the_weight_with_it(
    shop: Shop, negatives: int
) -> None:
    train = {"loss": "softmax", "negatives": negatives, "alpha": 0.0}

    def loss(agreement: float, dropout: float) -> float:
        config = shop.config(
            model={"dropout": dropout, "ensemble_size": 2},
            train={**train, "r_drop_weight": agreement},
        )
        model = shop.model(model={"dropout": dropout, "ensemble_size": 2})
        objective = Objective(model.train(), shop.sequences.training(), config.train)
        batch = training_batch(objective.training, EVERYONE, 50)
        torch.manual_seed(1)
        return objective.loss(batch, objective.draw(batch, np.random.default_rng(0))).item()

    assert loss(1.0, 0.0) == pytest.approx(loss(0.0, 0.0), rel=1e-5)
    one, two, three = (loss(agreement, 0.5) for agreement in (1.0, 2.0, 3.0))
    assert two - one > 1e-4
    assert three - two == pytest.approx(two - one, rel=1e-3)


def test_mismatched_negatives_change_the_loss(shop: Shop) -> None:
    right, _ = losses_and_gradients(shop, {"mismatched_negatives": False})
    wrong, _ = losses_and_gradients(shop, {"mismatched_negatives": True})
    assert right != wrong


def test_profiles_are_adapted_once_for_all_members_and_passes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shop.model({"ensemble_size": 2})
    train = shop.config(train={"loss": "softmax", "negatives": 4, "r_drop_weight": 1.0}).train
    calls: list[int] = []
    assert model.user_adapter is not None
    monkeypatch.setattr(model.user_adapter, "forward", counting(model.user_adapter.forward, calls))
    objective = Objective(model, shop.sequences.training(), train, shop.profiles)
    batch = training_batch(objective.training, EVERYONE, 50)
    objective.loss(batch, objective.draw(batch, np.random.default_rng(0)))
    assert calls == [int(shop.profiles.has_profile.sum())]


def counting(
    forward: Callable[[torch.Tensor], torch.Tensor], calls: list[int]
) -> Callable[[torch.Tensor], torch.Tensor]:
    def counted(vectors: torch.Tensor) -> torch.Tensor:
        calls.append(len(vectors))
        return forward(vectors)

    return counted


def test_a_single_domain_has_nothing_to_regularise(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop((9,))
    losses = [losses_and_gradients(shop, {"alpha": alpha})[0] for alpha in (0.0, 0.5)]
    assert losses[0] == losses[1]


def test_changing_every_held_out_event_changes_no_batch_and_no_draw(shop: Shop) -> None:
    before = Objective(shop.model(), shop.sequences.training(), shop.config().train)
    others = with_other_items(shop.sequences, shop.sequences.split > 0)
    after = Objective(shop.model(), others.training(), shop.config().train)
    drawn = []
    for objective in (before, after):
        batch = training_batch(objective.training, EVERYONE, 50)
        draws = objective.draw(batch, np.random.default_rng(0))
        drawn.append((batch.mixed_items, *(q.targets for q in batch.queries), *draws.negatives))
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))
