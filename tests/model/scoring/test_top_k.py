from collections.abc import Callable

import numpy as np
import pytest
import torch

from model.data.sequences import sequences_from_lists
from model.data.tables import ItemTables
from model.scoring.model_scorer import ModelScorer
from model.scoring.new_items import with_catalogue
from model.scoring.top_k import recommend
from tests.model.conftest import HIDDEN, WIDTH, Shop


def test_the_best_unseen_items_come_first(shop: Shop) -> None:
    scorer = ModelScorer(shop.model())
    users = np.array([9, 0, 8])
    found = recommend(scorer, shop.sequences, users, domain=1, count=3)
    scores = scorer.score(shop.sequences.prefixes_of_users(users), 1).numpy()
    for row, user in enumerate(users):
        begin, end = shop.sequences.offsets[user : user + 2]
        seen = set(shop.sequences.items[begin:end].tolist())
        ranked = [item for item in np.argsort(-scores[row]) + 8 if item not in seen]
        assert found.items[row].tolist() == ranked[:3]
        np.testing.assert_allclose(found.scores[row], scores[row][found.items[row] - 8], rtol=1e-4)


def test_seen_items_may_be_asked_for(shop: Shop) -> None:
    scorer = ModelScorer(shop.model())
    found = recommend(scorer, shop.sequences, np.array([3]), 1, 11, exclude_seen=False)
    assert sorted(found.items[0].tolist()) == list(range(8, 19))


def test_a_user_who_met_everything_gets_padding(shop: Shop) -> None:
    everything = sequences_from_lists([list(range(1, 8))], [0, 7, 18], ("a", "b"))
    found = recommend(ModelScorer(shop.model()), everything, np.array([0]), 0, 3)
    assert found.items.tolist() == [[0, 0, 0]]
    assert np.isneginf(found.scores).all()


def test_users_and_items_that_training_never_saw_are_scored(
    shop: Shop, open_shop: Callable[..., Shop]
) -> None:
    model = shop.model()
    wider = open_shop((9, 11))  # two more items at the end of the first domain
    previous = np.array([*range(8), 0, 0, *range(8, 19)])
    tables = ItemTables(
        np.where(
            previous[:, None] > 0, shop.tables.global_table[previous], wider.tables.global_table
        ),
        wider.tables.local_table,
    )
    tables.global_table[0] = 0
    grown = with_catalogue(model, tables, np.array([0, 9, 20]), previous)
    histories = sequences_from_lists([[1, 12, 9]], [0, 9, 20], ("a", "b"))
    scores = ModelScorer(grown).score(histories.prefixes_of_users(np.array([0])), 0)
    assert scores.shape == (1, 9)
    assert torch.isfinite(scores).all()
    # A history of known items scores known items as before.
    old = sequences_from_lists([[1, 10, 7]], [0, 7, 18], ("a", "b"))
    new = sequences_from_lists([[1, 12, 7]], [0, 9, 20], ("a", "b"))
    before = ModelScorer(model).score(old.prefixes_of_users(np.array([0])), 0)
    after = ModelScorer(grown).score(new.prefixes_of_users(np.array([0])), 0)
    torch.testing.assert_close(after[:, :7], before)


def test_a_model_of_ids_cannot_take_new_items(shop: Shop) -> None:
    tables = ItemTables(np.zeros((21, WIDTH)), np.zeros((21, HIDDEN)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ids"):
        with_catalogue(
            shop.model({"global_items": "ids"}), tables, np.array([0, 9, 20]), np.zeros(21, int)
        )
