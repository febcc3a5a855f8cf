"""Factors against the equations they solve, written out the slow way."""

import numpy as np
import pytest
import torch

from model.data.factors import AlsConfig, Choices, item_factors, solved

CONFIG = AlsConfig(factors=6, alpha=3.0, regularization=0.5, iterations=4)


def random_choices(rows: int, items: int, longest: int) -> Choices:
    rng = np.random.default_rng(1)
    lengths = rng.integers(0, longest + 1, rows)
    return Choices.of_pairs(
        np.repeat(np.arange(rows), lengths), rng.integers(0, items, lengths.sum()), rows
    )


@pytest.mark.parametrize("longest", [4, 15])
def test_factors_minimise_the_weighted_squared_error(longest: int) -> None:
    choices = random_choices(11, 17, longest)
    others = torch.randn(17, CONFIG.factors, generator=torch.Generator().manual_seed(3))
    found = solved(choices, others, CONFIG)
    for row in range(len(choices)):
        chosen = choices.items[choices.starts[row] : choices.starts[row + 1]]
        wanted = torch.zeros(17)
        wanted[chosen] = 1
        confidence = torch.diag(1 + CONFIG.alpha * wanted)
        system = others.T @ confidence @ others + CONFIG.regularization * torch.eye(6)
        expected = torch.linalg.solve(system, others.T @ confidence @ wanted)
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-5)


def test_a_row_without_choices_has_no_factors_and_repeats_count_once() -> None:
    once = Choices.of_pairs(np.array([2, 2]), np.array([1, 3]), 4)
    twice = Choices.of_pairs(np.array([2, 2, 2]), np.array([3, 1, 3]), 4)
    assert once.items.tolist() == twice.items.tolist() == [1, 3]
    others = torch.ones(5, 2)
    assert solved(once, others, CONFIG)[[0, 1, 3]].abs().sum() == 0


def test_the_same_seed_gives_the_same_factors() -> None:
    choices = random_choices(40, 17, 8)
    assert item_factors(choices, 17, CONFIG).equal(item_factors(choices, 17, CONFIG))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    choices = random_choices(40, 17, 12)
    whole = item_factors(choices, 17, CONFIG)
    monkeypatch.setattr("model.data.factors.BLOCK_NUMBERS", 50)
    torch.testing.assert_close(item_factors(choices, 17, CONFIG), whole, rtol=1e-3, atol=1e-4)
