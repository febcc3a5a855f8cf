"""New items: what they take over from the item of nearest text, and what they leave alone."""

import copy

import numpy as np
import pytest
import torch

from model.data.sequences import Sequences, sequences_from_lists
from model.data.tables import ItemTables
from model.network.tri_thread import TriThread
from model.scoring import new_items
from model.scoring.model_scorer import ModelScorer
from model.scoring.new_items import with_catalogue
from tests.model.conftest import Shop

SWITCHES: dict[str, object] = {
    "memory_events": 3,
    "memory_neighbours": 4,
    "ensemble_size": 2,
    "scoring": "cosine",
    "global_correction": True,
}
STARTS = np.array([0, 9, 20])
# Two new items of the first domain, behind the seven that were there.
PREVIOUS = np.array([*range(8), 0, 0, *range(8, 19)])
TWIN, TWIN_OF, STRANGER = 8, 3, 9


@pytest.fixture
def model(shop: Shop) -> TriThread:
    made = shop.model(SWITCHES)
    assert made.memory is not None
    assert made.correction is not None
    made.memory.learn(shop.sequences)
    torch.nn.init.normal_(made.correction.weight, std=0.3)
    return made


def grown(model: TriThread, shop: Shop) -> TriThread:
    text = shop.tables.global_table[PREVIOUS]
    text[TWIN] = text[TWIN_OF]
    text[STRANGER] = text[1:8].mean(axis=0)  # As an item without text: it is near to nobody.
    local = np.zeros((len(PREVIOUS), shop.tables.local_table.shape[1]), np.float32)
    return with_catalogue(model, ItemTables(text, local), STARTS, PREVIOUS)


def moved(shop: Shop) -> Sequences:
    now = np.zeros(19, np.int64)
    now[PREVIOUS] = np.arange(len(PREVIOUS))
    old = shop.sequences
    return Sequences(old.offsets, now[old.items], old.split, STARTS, old.domain_names)


def test_known_items_score_as_before(model: TriThread, shop: Shop) -> None:
    users = np.arange(shop.sequences.user_count)
    before, after = ModelScorer(model), ModelScorer(grown(model, shop))
    for domain, kept in ((0, np.arange(7)), (1, np.arange(11))):
        old = before.score(shop.sequences.prefixes_of_users(users), domain)
        new = after.score(moved(shop).prefixes_of_users(users), domain)
        torch.testing.assert_close(new[:, kept], old, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("new", "known"), [(1, 1), (2, 3), (1024, 4), (3, 16_384)])
def test_the_nearest_item_is_that_of_all_pairs_however_many_are_compared_at_a_time(
    monkeypatch: pytest.MonkeyPatch, new: int, known: int
) -> None:
    monkeypatch.setattr(new_items, "BLOCK_KNOWN", known)
    torch.manual_seed(1)
    texts, theirs = torch.randn(7, 5), torch.randn(11, 5)
    theirs[9] = theirs[2]  # Equal texts: the first is taken.
    texts[4] = theirs[2]
    every = texts @ theirs.T
    blocks = [new_items._nearest(block, theirs) for block in texts.split(new)]
    assert torch.cat([place for _, place in blocks]).tolist() == every.argmax(1).tolist()
    torch.testing.assert_close(torch.cat([best for best, _ in blocks]), every.amax(1))
    assert torch.cat([place for _, place in blocks])[4] == 2


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_grown_model_does_not_depend_on_the_sizes_of_blocks(
    model: TriThread, shop: Shop, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    whole = grown(model, shop).state_dict()
    monkeypatch.setattr(new_items, "BLOCK", size)
    monkeypatch.setattr(new_items, "BLOCK_KNOWN", size)
    for name, value in grown(model, shop).state_dict().items():
        torch.testing.assert_close(value, whole[name], rtol=0, atol=0)


def test_the_model_itself_stays_as_it_was(model: TriThread, shop: Shop) -> None:
    before = copy.deepcopy(model)
    made = grown(model, shop)
    with torch.no_grad():
        for part in (*made.parameters(), *made.buffers()):
            part.zero_()
    for name, value in before.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0)
    np.testing.assert_array_equal(model.domain_starts, before.domain_starts)


def test_an_item_of_the_same_text_scores_as_its_twin_does_memory_and_all(
    model: TriThread, shop: Shop
) -> None:
    scorer = ModelScorer(grown(model, shop))
    prefixes = moved(shop).prefixes_of_users(np.arange(shop.sequences.user_count))
    scores = scorer.score(prefixes, 0)
    torch.testing.assert_close(scores[:, TWIN - 1], scores[:, TWIN_OF - 1])
    addition = scorer.remembered(scorer.read(prefixes, [0]), 0)
    assert addition is not None
    assert (addition.columns == TWIN - 1).any()


def test_what_follows_its_twin_follows_a_new_item(model: TriThread, shop: Shop) -> None:
    starts = STARTS.tolist()
    histories = sequences_from_lists([[TWIN], [TWIN_OF]], starts, shop.sequences.domain_names)
    scorer = ModelScorer(grown(model, shop))
    for domain in range(2):
        after = scorer.score(histories.prefixes_of_users(np.arange(2)), domain)
        torch.testing.assert_close(after[0], after[1])


def test_an_item_that_is_near_to_nobody_takes_after_nobody(model: TriThread, shop: Shop) -> None:
    made = grown(model, shop)
    assert made.memory is not None
    assert STRANGER not in made.memory.items.tolist()
    assert made.memory.row_starts[STRANGER] == made.memory.row_starts[STRANGER + 1]
    rows = made.local_table.weight.detach()
    torch.testing.assert_close(rows[STRANGER], rows[1:8].mean(0), rtol=1e-3, atol=1e-3)
