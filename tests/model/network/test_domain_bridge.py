"""Scores in a domain where a history has no event: predicted from the other domains' events."""

from dataclasses import replace

import numpy as np
import torch

from model.data.sequences import COLD_TEST, Sequences, sequences_from_lists
from model.data.splits import withhold_domains
from model.data.tables import ItemTables
from model.network.domain_bridge import DomainBridge
from model.network.tri_thread import TriThread
from model.scoring.cold_domain_metrics import FIRST_HIT, measure_cold
from model.scoring.model_scorer import CandidateScorer, ModelScorer
from model.scoring.new_items import with_catalogue
from model.scoring.top_k import recommend, recommend_among, recommend_domains
from model.training.bridge_fit import fit_bridge
from tests.model.conftest import Shop, small_shop, with_other_items

SWITCHES: dict[str, object] = {"bridge_factors": 4, "scoring": "cosine", "ensemble_size": 2}


def fitted(shop: Shop, sequences: Sequences | None = None) -> TriThread:
    model = shop.model(SWITCHES)
    fit_bridge(model, sequences or shop.sequences, seed=0)
    return model


def bridge_of(model: TriThread) -> DomainBridge:
    assert model.bridge is not None
    return model.bridge


def one_domain_alone(shop: Shop) -> Sequences:
    """Histories with events of domain 0 only, the last one empty."""
    rng = np.random.default_rng(3)
    size = shop.sequences.domain_size(0)
    histories = [rng.integers(1, size + 1, length).tolist() for length in (1, 3, 5, 0)]
    starts = shop.sequences.domain_starts.tolist()
    return sequences_from_lists(histories, starts, shop.sequences.domain_names)


def test_features_are_unit_sums_over_the_other_domains_events() -> None:
    shop = small_shop((7, 11, 5))
    bridge = bridge_of(fitted(shop))
    histories = torch.tensor([[3, 9, 2, 20, 0], [8, 0, 0, 0, 0]])
    found = bridge.history_features(histories, domain=1)
    for row, history in enumerate(histories.tolist()):
        expected = []
        for low, high in ((0, 7), (7, 18), (18, 23)):
            own = [i for i in history if low < i <= high and low != 7]
            for kind in bridge.features.split(bridge.widths, dim=1):
                summed = sum((kind[i] for i in own), torch.zeros(kind.shape[1]))
                expected.append(summed / max(float(summed.norm()), 1e-9))
        torch.testing.assert_close(found[row, :-1], torch.cat(expected), rtol=1e-4, atol=1e-6)
    assert found[:, -1].tolist() == [1, 1]


def test_a_history_with_an_event_of_the_domain_keeps_its_scores(shop: Shop) -> None:
    with_bridge = fitted(shop)
    without = shop.model({**SWITCHES, "bridge_factors": 0})
    without.load_state_dict(with_bridge.state_dict(), strict=False)
    prefixes = shop.sequences.prefixes_of_users(np.arange(shop.sequences.user_count))
    for domain in range(2):
        old, new = (ModelScorer(m).score(prefixes, domain) for m in (without, with_bridge))
        batch = prefixes.sequences
        is_warm = np.array(
            [
                (batch.domain_of(batch.items[a:b]) == domain).any()
                for a, b in zip(batch.offsets[:-1], batch.offsets[1:], strict=True)
            ]
        )
        assert is_warm.any()
        assert not is_warm.all()
        torch.testing.assert_close(new[is_warm], old[is_warm])
        assert not torch.allclose(new[~is_warm], old[~is_warm])


def test_every_way_to_rank_gives_a_cold_history_the_same_scores(shop: Shop) -> None:
    model = fitted(shop)
    scorer, sequences, domain = ModelScorer(model), one_domain_alone(shop), 1
    prefixes = sequences.prefixes_of_users(np.arange(4))
    scores = scorer.score(prefixes, domain)
    first, size = int(sequences.domain_starts[domain]) + 1, sequences.domain_size(domain)
    every = np.tile(np.arange(first, first + size), (4, 1))
    torch.testing.assert_close(CandidateScorer(model).score(prefixes, domain, every), scores)

    class Everything:
        def columns(self, states: np.ndarray, count: int) -> np.ndarray:
            return np.tile(np.arange(size), (len(states), 1))

    users = np.arange(4)
    plain = recommend(scorer, sequences, users, domain, count=5)
    together = recommend_domains(scorer, sequences, users, [0, domain], count=5)[domain]
    among = recommend_among(scorer, Everything(), sequences, users, domain, count=5)
    for found in (together, among):
        np.testing.assert_array_equal(found.items, plain.items)
        np.testing.assert_allclose(found.scores, plain.scores, rtol=1e-4, atol=1e-5)


def test_held_out_and_withheld_events_leave_the_bridge_as_it_is(shop: Shop) -> None:
    withheld = np.zeros(shop.sequences.user_count, np.int64) - 1
    withheld[:8] = 1
    split = withhold_domains(
        shop.sequences.offsets,
        shop.sequences.domain_of(shop.sequences.items),
        withheld,
        np.ones(len(withheld), bool),
    )
    sequences = replace(shop.sequences, split=split)
    hidden = sequences.split == COLD_TEST
    first, second = (
        bridge_of(fitted(shop, each)).state_dict()
        for each in (sequences, with_other_items(sequences, hidden))
    )
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=0)


def test_known_tastes_cross_to_a_domain_never_visited() -> None:
    """Half of the users choose the first half of both domains, the others the second half."""
    rng = np.random.default_rng(0)
    histories = []
    for user in range(300):
        own, other = (
            (np.arange(1, 11), np.arange(21, 31))
            if user % 2
            else (
                np.arange(11, 21),
                np.arange(31, 41),
            )
        )
        histories.append([*rng.choice(own, 5, False), *rng.choice(other, 5, False)])
    sequences = sequences_from_lists(histories, [0, 20, 40], ("books", "films"))
    split = sequences.split.copy()
    cold = np.arange(len(split)) // 10 < 60
    split[cold & (sequences.domain_of(sequences.items) == 1)] = COLD_TEST
    sequences = replace(sequences, split=split)
    shop = small_shop((20, 20))
    tables = ItemTables(np.zeros((41, 13), np.float32), np.zeros((41, 8), np.float32))
    model = replace(shop, sequences=sequences, tables=tables).model(SWITCHES)
    withheld = sequences.prefixes_of_withheld(COLD_TEST)
    before = measure_cold(ModelScorer(model), withheld).values[FIRST_HIT].mean()
    fit_bridge(model, sequences, seed=0)
    after = measure_cold(ModelScorer(model), withheld).values[FIRST_HIT].mean()
    assert before < 0.7
    assert after > 0.9


def test_items_chosen_first_in_a_domain_are_preferred() -> None:
    """Two tastes choose an item of their own and four common ones, the own item first or last."""
    found = {}
    for own_first in (True, False):
        rng = np.random.default_rng(0)
        histories = []
        for user in range(300):
            taste = user % 2
            own, common = [21 + 5 * taste + int(rng.integers(5))], rng.permutation(4) + 31
            chosen = [*own, *common] if own_first else [*common, *own]
            histories.append([*(rng.choice(10, 4, False) + 1 + 10 * taste), *chosen])
        sequences = sequences_from_lists(histories, [0, 20, 34], ("books", "films"))
        tables = ItemTables(np.zeros((35, 13), np.float32), np.zeros((35, 8), np.float32))
        shop = replace(small_shop((20, 14)), sequences=sequences, tables=tables)
        visitors = sequences_from_lists([[1, 2, 3]], [0, 20, 34], ("books", "films"))
        prefixes = visitors.prefixes_of_users(np.arange(1))
        scores = ModelScorer(fitted(shop)).score(prefixes, 1)[0]
        found[own_first] = float(scores[:5].mean() - scores[10:14].mean())
    assert found[True] > found[False] + 1


def test_a_new_item_is_read_but_left_to_the_threads_to_score(shop: Shop) -> None:
    model = fitted(shop)
    starts = np.array([0, 7, 19])
    rows = np.vstack((shop.tables.global_table, shop.tables.global_table[10:11]))
    tables = ItemTables(rows, np.zeros((len(rows), 8), np.float32))
    previous = np.array([*range(19), 0])
    grown = bridge_of(with_catalogue(model, tables, starts, previous))
    old = bridge_of(model)
    torch.testing.assert_close(grown.features[19], old.features[10])
    assert not grown.vectors[19].any()
    torch.testing.assert_close(grown.vectors[:19], old.vectors)
