import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.data.sequences import Prefixes, sequences_from_lists
from model.scoring.top_k import ordered_top, recommend

FEW_VALUES = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0])


@given(st.data())
def test_equal_scores_keep_the_order_of_their_columns(data: st.DataObject) -> None:
    rows, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    drawn = [[data.draw(FEW_VALUES) for _ in range(width)] for _ in range(rows)]
    scores = np.array(drawn, np.float32)
    count = data.draw(st.integers(1, width))
    values, columns = ordered_top(torch.from_numpy(scores), count)
    for row in range(rows):
        order = np.argsort(-scores[row], kind="stable")[:count]
        np.testing.assert_array_equal(values[row].numpy(), scores[row][order])
        real = np.isfinite(scores[row][order])  # Excluded items have no order.
        assert columns[row].numpy()[real].tolist() == order[real].tolist()


def test_a_nan_is_not_hidden_behind_equal_scores() -> None:
    values, _ = ordered_top(torch.tensor([[1.0, 1.0, torch.nan, 1.0]]), 2)
    assert values.isnan().any()


class FewScores:
    """Scores of which many are equal."""

    def score(self, prefixes: Prefixes, domain: int) -> torch.Tensor:
        row = torch.tensor([1.0, 3.0, 3.0, 1.0, 3.0, 1.0, 3.0, 2.0, 1.0, 3.0, 1.0])
        return row.repeat(len(prefixes.start), 1)


def test_a_shorter_list_is_the_beginning_of_a_longer_one() -> None:
    histories = sequences_from_lists([[1, 9], [2], [18, 4, 3]], [0, 7, 18], ("a", "b"))
    longest = recommend(FewScores(), histories, np.arange(3), 1, 11).items
    assert longest[1].tolist() == [9, 10, 12, 14, 17, 15, 8, 11, 13, 16, 18]
    for count in range(1, 11):
        for user in range(3):
            alone = recommend(FewScores(), histories, np.array([user]), 1, count).items
            assert alone[0].tolist() == longest[user, :count].tolist()
