import numpy as np
import pytest
import torch

from model.baselines import ease
from model.baselines.ease import Ease
from model.data.sequences import sequences_from_lists

STARTS, NAMES = [0, 3, 6], ("a", "b")
LISTS = [[1, 2, 4], [2, 1], [1, 4, 5, 4], [3, 6], [2, 5, 6], [1, 2, 6]]


def scores(scorer: Ease, lists: list[list[int]], domain: int) -> np.ndarray:
    asked = sequences_from_lists(lists, STARTS, NAMES)
    return scorer.score(asked.prefixes_of_users(np.arange(len(lists))), domain).numpy()


def least_squares(target: int, ridge: float) -> np.ndarray:
    """Weights (6,) of the other items for one: ridge regression over users, by its definition."""
    met = np.array([[item in history for item in range(1, 7)] for history in LISTS], float)
    others = [item for item in range(6) if item != target]
    gram = met[:, others].T @ met[:, others] + ridge * np.eye(5)
    weights = np.zeros(6)
    weights[others] = np.linalg.solve(gram, met[:, others].T @ met[:, target])
    return weights


def test_each_item_is_regressed_on_all_others() -> None:
    scorer = Ease.fit(sequences_from_lists(LISTS, STARTS, NAMES), ridge=0.5)
    expected = np.stack([least_squares(target, 0.5) for target in range(6)])  # (target, source)
    got = scores(scorer, [[1, 6, 1], [4]], 1)
    np.testing.assert_allclose(got[0], expected[3:, 0] + expected[3:, 5], atol=1e-5)
    np.testing.assert_allclose(got[1], expected[3:, 3], atol=1e-5)


def test_order_plays_no_part_and_held_out_events_neither() -> None:
    one = Ease.fit(sequences_from_lists([[*h, 3, 4] for h in LISTS], STARTS, NAMES, held_out=2))
    other = Ease.fit(
        sequences_from_lists([[*h[::-1], 5, 6] for h in LISTS], STARTS, NAMES, held_out=2)
    )
    torch.testing.assert_close(one.weights, other.weights)


def test_items_beyond_the_most_bought_have_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "MOST_ITEMS", 4)
    scorer = Ease.fit(sequences_from_lists(LISTS, STARTS, NAMES), ridge=0.5)
    assert scorer.weights.shape == (4, 4)
    # 3 and 5 are bought less often than 1, 2, 4 and 6.
    assert scores(scorer, [[1, 2, 4, 6]], 0)[0, 2] == 0
    assert scores(scorer, [[3, 5]], 1).tolist() == [[0, 0, 0]]
    assert scores(scorer, [[1]], 1)[0, 0] > 0
