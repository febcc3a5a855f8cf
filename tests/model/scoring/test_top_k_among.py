"""Recommending from proposals, against recommending from everything."""

import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.sequences import IntArray
from model.scoring.model_scorer import ModelScorer
from model.scoring.top_k import recommend, recommend_among
from tests.model.conftest import Shop


class Everything:
    """Proposes all items of a domain, the best last, and some places left empty."""

    def __init__(self, scorer: ModelScorer, domain: int) -> None:
        self.vectors = scorer.vectors[domain].numpy()

    def columns(self, states: NDArray[np.float32], count: int) -> IntArray:
        order = np.argsort(states @ self.vectors.T, axis=1)
        return np.concatenate((order, np.full((len(states), 3), -1)), axis=1)


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("scoring", ["dot", "cosine"])
def test_proposing_everything_gives_the_exact_lists(
    shop: Shop, exclude_seen: bool, scoring: str
) -> None:
    scorer = ModelScorer(shop.model({"scoring": scoring}))
    users = np.flatnonzero(np.diff(shop.sequences.offsets))
    for domain in range(2):
        exact = recommend(scorer, shop.sequences, users, domain, 4, exclude_seen)
        found = recommend_among(
            scorer, Everything(scorer, domain), shop.sequences, users, domain, 4, exclude_seen
        )
        assert found.items.tolist() == exact.items.tolist()
        np.testing.assert_allclose(found.scores, exact.scores, rtol=1e-4)


def test_only_the_items_allowed_are_recommended(shop: Shop) -> None:
    scorer = ModelScorer(shop.model())
    allowed = np.zeros(11, bool)
    allowed[[2, 5]] = True
    found = recommend(scorer, shop.sequences, np.arange(23), 1, 3, False, allowed)
    assert {tuple(sorted(row)) for row in found.items.tolist()} == {(0, 10, 13)}
