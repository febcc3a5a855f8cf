"""Votes of answers across domains: kept where validation shows a gain, the same however ranked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import load_model, save_model
from model.data.sequences import COLD_TEST, TEST, TRAIN, VALIDATION, Sequences
from model.data.tables import AnswerVectors, ItemTables
from model.network.tri_thread import TriThread
from model.scoring.exported_graph import ScoringPath
from model.scoring.model_scorer import CandidateScorer, ModelScorer
from model.scoring.new_items import with_catalogue
from model.training.bridge_fit import fit_bridge
from model.training.crossing_fit import add_votes, fitted_weight
from model.training.trainer import fit
from tests.model.conftest import HIDDEN, Shop, small_shop

SOURCES, TARGETS, USERS = 8, 9, 90


def knowing_shop() -> tuple[Shop, AnswerVectors]:
    """Users who chose item `i` of the first domain choose item `i` of the second next, which no
    training event shows and the answers say."""
    rng = np.random.default_rng(4)
    histories, marks = [], []
    for user in range(USERS):
        item = user % SOURCES
        elsewhere = SOURCES + 1 + int(rng.integers(TARGETS))
        histories.append([elsewhere, item + 1, item + 1, item + 1, SOURCES + 1 + item])
        marks.append([TRAIN, TRAIN, TRAIN, TRAIN, VALIDATION])
    sequences = Sequences(
        offsets=np.arange(USERS + 1) * 5,
        items=np.concatenate(histories),
        split=np.concatenate(marks).astype(np.int8),
        domain_starts=np.array([0, SOURCES, SOURCES + TARGETS]),
        domain_names=("food", "kitchen"),
    )
    shop = small_shop((SOURCES, TARGETS))
    texts = shop.tables.global_table
    answer_of = np.zeros((2, SOURCES + TARGETS + 1), np.int32)
    answer_of[1, 1 : SOURCES + 1] = np.arange(1, SOURCES + 1)
    vectors = np.concatenate((texts[:1], texts[SOURCES + 1 : 2 * SOURCES + 1]))
    return replace(shop, sequences=sequences), AnswerVectors(vectors, answer_of)


def bridged(shop: Shop, **switches: object) -> TriThread:
    model = shop.model({"bridge_factors": 2, **switches})
    fit_bridge(model, shop.sequences, seed=0)
    return model


@pytest.mark.parametrize("scoring", ["dot", "cosine"])
def test_answers_that_say_what_follows_get_a_weight_and_false_ones_none(scoring: str) -> None:
    shop, answers = knowing_shop()
    model = bridged(shop, scoring=scoring)
    assert fitted_weight(model, shop.sequences, answers) > 0
    assert model.bridge is not None
    assert model.bridge.votes is None
    opposite = AnswerVectors(-answers.vectors, answers.answer_of)
    assert fitted_weight(model, shop.sequences, opposite) == 0
    assert fitted_weight(model, shop.sequences, None) == 0


def test_held_out_test_events_do_not_change_the_weight() -> None:
    shop, answers = knowing_shop()
    known = shop.sequences
    for mark in (TEST, COLD_TEST):
        more = {mark: [1 + SOURCES + (user * 5) % TARGETS for user in range(USERS)]}
        items = np.concatenate(
            [
                [*known.items[low : low + 5], added]
                for low, added in zip(known.offsets[:-1], more[mark], strict=True)
            ]
        )
        split = np.tile([TRAIN, TRAIN, TRAIN, TRAIN, VALIDATION, mark], USERS).astype(np.int8)
        longer = replace(known, offsets=np.arange(USERS + 1) * 6, items=items, split=split)
        model = bridged(shop)
        expected = fitted_weight(model, known, answers)
        assert fitted_weight(model, longer, answers) == expected


@pytest.mark.parametrize("scoring", ["dot", "cosine"])
def test_every_way_to_rank_and_a_loaded_model_have_the_votes(scoring: str, tmp_path: Path) -> None:
    shop, answers = knowing_shop()
    model = bridged(shop, scoring=scoring, ensemble_size=2)
    histories = torch.tensor([[1, 1, 0], [5, 2, 8], [9, 3, 0], [0, 0, 0]])
    sequences = Sequences(
        offsets=np.array([0, 2, 5, 7, 7]),
        items=np.array([1, 1, 5, 2, 8, 9, 3]),
        split=np.zeros(7, np.int8),
        domain_starts=shop.sequences.domain_starts,
        domain_names=shop.sequences.domain_names,
    )
    prefixes = sequences.prefixes_of_users(np.arange(4))
    before = ModelScorer(model).score(prefixes, 1)
    assert add_votes(model, answers, 2.0) is not None
    scores = ModelScorer(model).score(prefixes, 1)
    is_changed = ~torch.isclose(scores, before).all(1)
    assert is_changed.tolist() == [True, True, False, False]  # Cold and with an event: two of them.
    assert int((scores - before)[0].argmax()) == 0
    with torch.inference_mode():
        exported = ScoringPath(ModelScorer(model)).eval()(histories)[1]
    torch.testing.assert_close(exported, scores, rtol=1e-4, atol=1e-5)
    every = np.tile(np.arange(SOURCES + 1, SOURCES + TARGETS + 1), (4, 1))
    candidates = CandidateScorer(model).score(prefixes, 1, every)
    torch.testing.assert_close(candidates, scores, rtol=1e-4, atol=1e-5)
    config = shop.config({"bridge_factors": 2, "scoring": scoring, "ensemble_size": 2})
    save_model(tmp_path, model, config, ("food", "kitchen"))
    loaded, _ = load_model(tmp_path)
    torch.testing.assert_close(ModelScorer(loaded).score(prefixes, 1), scores)


def test_a_larger_catalogue_keeps_the_votes_of_known_items() -> None:
    shop, answers = knowing_shop()
    model = bridged(shop)
    add_votes(model, answers, 1.0)
    table = shop.tables.global_table
    text = np.concatenate((table, table[-1:]))  # One more item in the second domain.
    tables = ItemTables(text, np.zeros((len(text), HIDDEN), np.float32))
    starts = np.array([0, SOURCES, SOURCES + TARGETS + 1])
    previous = np.concatenate((np.arange(SOURCES + TARGETS + 1), [0]))
    grown = with_catalogue(model, tables, starts, previous)
    history = Sequences(
        offsets=np.array([0, 1]),
        items=np.array([3]),
        split=np.zeros(1, np.int8),
        domain_starts=shop.sequences.domain_starts,
        domain_names=shop.sequences.domain_names,
    )
    longer = replace(history, domain_starts=starts)
    first = np.zeros(1, np.int64)
    old = ModelScorer(model).score(history.prefixes_of_users(first), 1)
    new = ModelScorer(grown).score(longer.prefixes_of_users(first), 1)
    torch.testing.assert_close(new[:, :TARGETS], old)


@pytest.mark.parametrize("refit", [False, True])
def test_a_fit_without_or_with_useless_answers_is_the_same(refit: bool) -> None:
    shop, answers = knowing_shop()
    config = shop.config({"bridge_factors": 2}, {"max_epochs": 1, "refit": refit})
    useless = AnswerVectors(answers.vectors, np.zeros_like(answers.answer_of))
    plain = fit(shop.sequences, shop.tables, config).model.state_dict()
    same = fit(shop.sequences, shop.tables, config, crossings=useless).model.state_dict()
    assert plain.keys() == same.keys()
    voting = fit(shop.sequences, shop.tables, config, crossings=answers).model
    assert voting.bridge is not None
    assert voting.bridge.votes is not None
    assert float(voting.bridge.votes.weight) > 0
