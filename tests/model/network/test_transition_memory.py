import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import load_model, save_model
from model.config import ModelConfig
from model.data.sequences import TEST, VALIDATION, Sequences, sequences_from_lists
from model.data.tables import ItemTables
from model.network.transition_memory import TransitionMemory
from model.network.tri_thread import TriThread
from model.scoring.model_scorer import CandidateScorer, ModelScorer
from model.scoring.new_items import with_catalogue
from model.scoring.top_k import recommend, recommend_among
from model.training.memory_fit import READING, fit_memory
from model.training.trainer import fit
from tests.model.conftest import Shop, with_other_items

STARTS, NAMES = [0, 3, 6], ("a", "b")
WITH_MEMORY: dict[str, object] = {
    "memory_events": 3,
    "memory_reach": 4,
    "memory_neighbours": 4,
}


def filled(
    lists: list[list[int]], events: int = 2, reach: int = 2, neighbours: int = 0
) -> TransitionMemory:
    config = ModelConfig.model_validate(
        {"memory_events": events, "memory_reach": reach, "memory_neighbours": neighbours}
    )
    memory = TransitionMemory(np.array(STARTS), config)
    memory.learn(sequences_from_lists(lists, STARTS, NAMES))
    return memory


def added(memory: TransitionMemory, newest: list[list[int]], domain: int) -> np.ndarray:
    return memory(memory.look_up(torch.tensor(newest), domain)).numpy()


def naive_addition(
    memory: TransitionMemory, lists: list[list[int]], newest: list[int], item: int
) -> float:
    """One item's addition from the histories themselves, pair by pair."""
    low, high = (0, 3) if item <= 3 else (3, 6)
    domain = int(item > 3)
    share = affinity = 0.0
    for age, event in enumerate(newest):
        if event == 0:
            continue
        own = low < event <= high
        weight = math.exp(-memory.fading[0 if own else 1] * age)
        weight *= 1.0 if own else math.exp(memory.other[0])
        total = wanted = 0.0
        for history in lists:
            for i, earlier in enumerate(history):
                for distance, later in enumerate(history[i + 1 : i + 1 + memory.reach], start=1):
                    if earlier == event and low < later <= high:
                        total += 1 / distance
                        wanted += (later == item) / distance
        share += weight * wanted / (total + math.exp(memory.prior[domain]))
        if memory.neighbours:
            weight = math.exp(-memory.co_fading[0 if own else 1] * age)
            weight *= 1.0 if own else math.exp(memory.co_other[0])
            affinity += weight * naive_affinity(lists, event, item, memory.neighbours)
    found = float(memory.gain[domain]) * math.log1p(share / math.exp(memory.floor[domain]))
    if memory.neighbours:
        floor = math.exp(memory.co_floor[domain])
        found += float(memory.co_gain[domain]) * math.log1p(affinity / floor)
    return found


def naive_affinity(lists: list[list[int]], left: int, item: int, most: int) -> float:
    """Shared users ** 1.5 / (users of `left` ** 0.5 * users of `item` ** 0.3), a user counting
    log(1 + 6 / own items) ** 2, 1 in the mean over events; 0 unless `item` is among the `most` of
    its domain that are nearest to `left`."""
    users = [set(history) for history in lists if history]
    weights = [math.log1p(STARTS[-1] / len(met)) ** 2 for met in users]
    mean = sum(w * len(met) for w, met in zip(weights, users, strict=True)) / sum(map(len, users))

    def count(*wanted: int) -> float:
        chosen = [w for w, met in zip(weights, users, strict=True) if met.issuperset(wanted)]
        return sum(chosen) / mean

    def affinity(other: int) -> float:
        shared = count(left, other)
        return shared**1.5 / (count(left) ** 0.5 * count(other) ** 0.3) if shared else 0.0

    first = 1 if item <= 3 else 4
    near = sorted((affinity(i) for i in range(first, first + 3) if i != left), reverse=True)
    found = affinity(item) if item != left else 0.0
    return found if found >= near[:most][-1] else 0.0


@pytest.mark.parametrize("neighbours", [0, 1, 3])
def test_the_addition_matches_a_count_by_hand_over_all_histories(neighbours: int) -> None:
    rng = np.random.default_rng(1)
    lists = [rng.integers(1, 7, rng.integers(0, 9)).tolist() for _ in range(8)]
    memory = filled(lists, events=3, reach=4, neighbours=neighbours)
    if neighbours:
        memory.co_fading.copy_(torch.tensor([0.2, -0.1]))
        memory.co_other.fill_(-0.4)
        memory.co_floor.copy_(torch.tensor([0.3, -0.2]))
        memory.co_gain.copy_(torch.tensor([0.8, 0.3]))
    memory.other.fill_(0.7)
    memory.fading.copy_(torch.tensor([0.4, 0.9]))
    memory.gain.copy_(torch.tensor([0.5, 1.5]))
    newest = [[2, 5, 1], [6, 0, 0], [0, 0, 0]]
    for domain in range(2):
        got = added(memory, newest, domain)
        wanted = [
            [naive_addition(memory, lists, q, 3 * domain + j) for j in (1, 2, 3)] for q in newest
        ]
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7)


def test_what_was_met_together_counts_in_both_directions_and_by_itself_only_forwards() -> None:
    lists = [[1, 2]] * 3
    assert added(filled(lists), [[2, 0]], 0)[0, 0] == 0
    both = added(filled(lists, neighbours=1), [[2, 0]], 0)[0]
    assert both[0] > 0 == both[2]


def test_a_memory_of_successions_alone_is_saved_as_it_was_before_there_were_others() -> None:
    names = set(filled([[1, 2]]).state_dict())
    assert names.isdisjoint({"affinities", "co_fading", "co_gain"})
    assert names < set(filled([[1, 2]], neighbours=1).state_dict())


def test_what_never_followed_gets_nothing() -> None:
    assert added(filled([[1, 2, 3]]), [[1, 0]], 1).tolist() == [[0, 0, 0]]
    assert added(filled([[1, 2, 3]]), [[1, 0]], 0)[0, 0] == 0
    assert (
        added(filled([[1, 2, 3]]), [[1, 0]], 0)[0, 1]
        > added(filled([[1, 2, 3]]), [[1, 0]], 0)[0, 2]
        > 0
    )


def fitted_reading(
    sequences: Sequences, shop: Shop, switches: dict[str, object] | None = None
) -> dict[str, torch.Tensor]:
    model = shop.model(switches or WITH_MEMORY)
    fit_memory(model, sequences, seed=0)
    return dict(model.memory.state_dict()) if model.memory is not None else {}


@pytest.mark.parametrize("split", [VALIDATION, TEST])
def test_counts_never_hold_a_held_out_event_and_the_reading_no_test_event(
    shop: Shop, split: int
) -> None:
    # Validation events decide whether co-occurrences stay, so successions are looked at alone.
    switches = WITH_MEMORY if split == TEST else {**WITH_MEMORY, "memory_neighbours": 0}
    others = with_other_items(shop.sequences, shop.sequences.split == split)
    before = fitted_reading(shop.sequences, shop, switches)
    after = fitted_reading(others, shop, switches)
    for name, value in before.items():
        if split == TEST or name not in READING:
            assert torch.equal(after[name], value), name
    if split == VALIDATION:
        assert any(not torch.equal(after[n], before[n]) for n in READING if n in after)


def test_the_reading_trusts_a_memory_that_is_right_and_not_one_that_is_wrong(shop: Shop) -> None:
    """Item n is followed by n + 1; or, in validation, by what never followed before."""
    around = [[(start + t) % 18 + 1 for t in range(7)] for start in range(18)] * 3
    starts, names = shop.sequences.domain_starts.tolist(), shop.sequences.domain_names
    right = sequences_from_lists(around, starts, names, held_out=2)
    wrong = replace(
        right, items=np.where(right.split == VALIDATION, (right.items + 8) % 18 + 1, right.items)
    )
    alone = {**WITH_MEMORY, "memory_neighbours": 0}
    trusting, doubting = (fitted_reading(each, shop, alone) for each in (right, wrong))
    start = ModelConfig.model_validate(alone)
    blank = TransitionMemory(shop.sequences.domain_starts, start)
    assert (trusting["gain"] > blank.gain).all()
    assert (doubting["gain"] < blank.gain).all()


def test_a_fit_that_leaves_the_finite_numbers_keeps_the_initial_weights(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def undefined(
        memory: TransitionMemory, values: dict[str, torch.Tensor], _: object
    ) -> torch.Tensor:
        return values["gain"].sum() * torch.nan

    monkeypatch.setattr("model.training.memory_fit._surprises", undefined)
    switches = {**WITH_MEMORY, "memory_neighbours": 0}
    reading = fitted_reading(shop.sequences, shop, switches)
    blank = TransitionMemory(shop.sequences.domain_starts, ModelConfig.model_validate(switches))
    start = dict(blank.named_buffers())
    for name in start.keys() & set(READING):
        torch.testing.assert_close(reading[name], start[name])


def test_the_fit_does_not_depend_on_the_size_of_blocks(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fitted_reading(shop.sequences, shop)
    monkeypatch.setattr("model.training.memory_fit.SCORES_PER_BLOCK", 30)
    for name, value in fitted_reading(shop.sequences, shop).items():
        torch.testing.assert_close(value, whole[name], rtol=1e-3, atol=1e-3)


def test_a_refitted_model_remembers_the_validation_events_too(shop: Shop) -> None:
    once = fit(shop.sequences, shop.tables, shop.config(WITH_MEMORY)).model.memory
    config = shop.config(WITH_MEMORY, {"refit": True})
    again = fit(shop.sequences, shop.tables, config).model.memory
    assert once is not None
    assert again is not None
    everything = shop.model(WITH_MEMORY).memory
    assert everything is not None
    everything.learn(shop.sequences.with_validation_in_training().training())
    assert torch.equal(again.totals, everything.totals)
    assert not torch.equal(again.totals, once.totals)
    assert all(torch.equal(getattr(again, name), getattr(once, name)) for name in READING)


def test_new_items_and_moved_ones_keep_the_memory_right(shop: Shop) -> None:
    """The first domain grows by two items: everything behind them moves by two."""
    model = shop.model(WITH_MEMORY)
    assert model.memory is not None
    model.memory.learn(shop.sequences.training())
    starts = np.array([0, 9, 20])
    previous = np.concatenate((np.arange(8), [0, 0], np.arange(8, 19)))
    tables = ItemTables(*(t[previous] for t in (shop.tables.global_table, shop.tables.local_table)))
    grown = with_catalogue(model, tables, starts, previous)
    new_of_old = np.concatenate((np.arange(8), np.arange(10, 21)))
    moved = replace(shop.sequences, items=new_of_old[shop.sequences.items], domain_starts=starts)
    users = np.arange(23)
    for domain, kept in ((0, slice(0, 7)), (1, slice(None))):
        wanted = ModelScorer(model).score(shop.sequences.prefixes_of_users(users), domain)
        got = ModelScorer(grown).score(moved.prefixes_of_users(users), domain)[:, kept]
        torch.testing.assert_close(got, wanted)


def test_recommendations_rank_by_network_and_memory_together(shop: Shop) -> None:
    model = shop.model(WITH_MEMORY)
    assert model.memory is not None
    users = np.arange(23)
    alone = recommend(ModelScorer(model), shop.sequences, users, 0)
    model.memory.learn(shop.sequences.training())
    dense, evidence = ModelScorer(model).parts(shop.sequences.prefixes_of_users(users), 0)
    assert evidence is not None
    together = recommend(ModelScorer(model), shop.sequences, users, 0)
    assert not np.array_equal(alone.items, together.items)
    torch.testing.assert_close(
        ModelScorer(model).score(shop.sequences.prefixes_of_users(users), 0),
        dense + model.memory(evidence),
    )


class NearestByProduct:
    """Proposes the columns of largest product: an exact stand-in for a search index."""

    def __init__(self, vectors: torch.Tensor) -> None:
        self.vectors = vectors

    def columns(self, states: np.ndarray, count: int) -> np.ndarray:
        products = torch.from_numpy(states) @ self.vectors.T
        return products.topk(min(count, len(self.vectors))).indices.numpy()


def test_few_candidates_and_the_memory_find_what_scoring_everything_finds(shop: Shop) -> None:
    """The source proposes the network's best alone; what the memory lifts comes from the memory."""
    model = shop.model(WITH_MEMORY)
    assert model.memory is not None
    model.memory.learn(shop.sequences.training())
    scorer = ModelScorer(model)
    users = np.flatnonzero(np.diff(shop.sequences.offsets))  # without a history all scores tie
    source = NearestByProduct(scorer.vectors[1])
    wanted = recommend(scorer, shop.sequences, users, 1, 3)
    got = recommend_among(scorer, source, shop.sequences, users, 1, 3, candidates=6)
    np.testing.assert_array_equal(got.items, wanted.items)
    np.testing.assert_allclose(got.scores, wanted.scores, rtol=1e-5)


def test_a_candidates_score_has_the_memory_in_it(shop: Shop) -> None:
    model = shop.model({**WITH_MEMORY, "ensemble_size": 2})
    assert model.memory is not None
    model.memory.learn(shop.sequences.training())
    prefixes = shop.sequences.prefixes_of_users(np.arange(23))
    items = np.tile(np.arange(8, 19), (23, 1))
    torch.testing.assert_close(
        CandidateScorer(model).score(prefixes, 1, items), ModelScorer(model).score(prefixes, 1)
    )


def test_what_was_met_together_counts_where_order_says_nothing() -> None:
    """Everyone has items of one of twenty circles, each in their own order."""
    rng = np.random.default_rng(3)
    starts, circles = [0, 120, 240], np.arange(240).reshape(20, 12, order="F") + 1
    lists = [rng.permutation(circles[user % 20])[:9].tolist() for user in range(100)]
    sequences = sequences_from_lists(lists, starts, NAMES, held_out=2)
    rows = np.concatenate((np.zeros((1, 8)), rng.normal(size=(240, 8)))).astype(np.float32)
    config = ModelConfig.model_validate(
        {"hidden": 8, "memory_events": 8, "memory_reach": 1, "memory_neighbours": 20}
    )
    model = TriThread(ItemTables(rows, rows), sequences.domain_starts, config)
    fit_memory(model, sequences, seed=0)
    assert model.memory is not None
    assert model.memory.neighbours
    assert (model.memory.co_gain > 0).all()


def test_where_order_says_all_the_memory_is_that_of_successions_alone(shop: Shop) -> None:
    """Item n is followed by n + 1."""
    around = [[(start + t) % 18 + 1 for t in range(7)] for start in range(18)] * 3
    starts, names = shop.sequences.domain_starts.tolist(), shop.sequences.domain_names
    sequences = sequences_from_lists(around, starts, names, held_out=2)
    found = fitted_reading(sequences, shop)
    wanted = fitted_reading(sequences, shop, {**WITH_MEMORY, "memory_neighbours": 0})
    for name, value in wanted.items():
        # Rounding of the likelihood, which depends on the processor, moves where the fit ends.
        torch.testing.assert_close(found[name], value, rtol=0.01, atol=0.01, msg=name)
    assert not found["affinities"].any()
    assert not found["co_gain"].any()


def test_dropped_co_occurrences_stay_so_in_the_refit_and_in_files(
    shop: Shop, tmp_path: Path
) -> None:
    around = [[(start + t) % 18 + 1 for t in range(7)] for start in range(18)] * 3
    starts, names = shop.sequences.domain_starts.tolist(), shop.sequences.domain_names
    sequences = sequences_from_lists(around, starts, names, held_out=2)
    config = shop.config(WITH_MEMORY, {"refit": True, "max_epochs": 1})
    model = fit(sequences, shop.tables, config).model
    assert model.memory is not None
    assert model.memory.affinities is not None
    assert not model.memory.affinities.any()
    assert not model.memory.co_gain.any()
    save_model(tmp_path, model, config, names)
    prefixes = sequences.prefixes_of_users(np.arange(20))
    again = ModelScorer(load_model(tmp_path)[0]).score(prefixes, 1)
    torch.testing.assert_close(again, ModelScorer(model).score(prefixes, 1))
