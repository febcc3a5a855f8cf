"""Items of the catalogue without a training event: what a fit makes of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.data.sequences import VALIDATION, Sequences
from model.data.tables import ItemTables
from model.scoring.model_scorer import ModelScorer
from model.scoring.new_items import with_cold_items
from model.training.trainer import fit
from tests.model.conftest import Shop

UNMET, TWIN = 5, 3
"""Two items of the first domain; nobody buys the first, whose text is the second's."""


@pytest.fixture
def shop_with_unmet(shop: Shop) -> Shop:
    items = np.where(shop.sequences.items == UNMET, TWIN, shop.sequences.items)
    text = shop.tables.global_table.copy()
    text[UNMET] = text[TWIN]
    sequences = replace(shop.sequences, items=items)
    return replace(shop, sequences=sequences, tables=ItemTables(text, shop.tables.local_table))


def scores(shop: Shop, train: dict[str, object]) -> torch.Tensor:
    """Of the first domain's items after everyone's history, by a fitted model."""
    config = shop.config(
        {"memory_events": 3, "memory_neighbours": 4, "global_correction": True}, train
    )
    fitted = fit(shop.sequences, shop.tables, config)
    everyone = shop.sequences.prefixes_of_users(np.arange(shop.sequences.user_count))
    return ModelScorer(fitted.model).score(everyone, 0)


@pytest.mark.parametrize("refit", [False, True])
def test_an_unmet_item_scores_as_the_known_one_of_its_text(
    shop_with_unmet: Shop, refit: bool
) -> None:
    nearest = scores(shop_with_unmet, {"refit": refit})
    torch.testing.assert_close(nearest[:, UNMET - 1], nearest[:, TWIN - 1])
    trained = scores(shop_with_unmet, {"refit": refit, "cold_items": "trained"})
    assert not torch.allclose(trained[:, UNMET - 1], trained[:, TWIN - 1], atol=1e-3)
    met = np.arange(7) != UNMET - 1
    torch.testing.assert_close(nearest[:, met], trained[:, met])


def test_a_validation_event_counts_once_the_refit_has_trained_on_it(shop_with_unmet: Shop) -> None:
    first = np.flatnonzero(shop_with_unmet.sequences.split == VALIDATION)[0]
    items = shop_with_unmet.sequences.items.copy()
    items[first] = UNMET
    known_then = replace(shop_with_unmet, sequences=replace(shop_with_unmet.sequences, items=items))
    for refit in (False, True):
        found = scores(known_then, {"refit": refit})
        is_twin = torch.allclose(found[:, UNMET - 1], found[:, TWIN - 1], atol=1e-3)
        assert is_twin is not refit


def test_nothing_is_done_where_all_is_met_or_nothing_can_be(shop: Shop) -> None:
    everything = np.arange(1, 19)
    assert_is_left(shop, everything, {})
    assert_is_left(shop, everything[:9], {"global_items": "ids"})
    # Nothing of the second domain was met, and all of the first.
    assert_is_left(shop, everything[:7], {})


def assert_is_left(shop: Shop, met: np.ndarray, changes: dict[str, object]) -> None:
    model = shop.model(changes)
    starts, names = shop.sequences.domain_starts, shop.sequences.domain_names
    training = Sequences(np.array([0, len(met)]), met, np.zeros(len(met), np.int8), starts, names)
    assert with_cold_items(model, shop.tables, training) is model


@pytest.mark.parametrize(
    "without_text",
    [{"global_items": "ids"}, {"global_thread": False, "local_start": "random"}],
)
def test_a_model_that_reads_no_text_owes_it_nothing(
    shop_with_unmet: Shop, without_text: dict[str, object]
) -> None:
    """The baselines of ids: other texts, the same scores of every item, met or not."""
    flipped = shop_with_unmet.tables.global_table[::-1].copy()
    flipped[0] = 0.0
    other = ItemTables(flipped, shop_with_unmet.tables.local_table)
    config = shop_with_unmet.config({"local_start": "random", **without_text}, {"alpha": 0.0})
    everyone = shop_with_unmet.sequences.prefixes_of_users(np.arange(23))
    found = [
        ModelScorer(fit(shop_with_unmet.sequences, tables, config).model).score(everyone, 0)
        for tables in (shop_with_unmet.tables, other)
    ]
    torch.testing.assert_close(found[0], found[1])
