from dataclasses import replace

import numpy as np
import pytest
import torch

from model.data.sequences import TEST, VALIDATION
from model.scoring.model_scorer import CandidateScorer, ModelScorer
from model.scoring.ranking import (
    NanScoreError,
    Ranks,
    rank_all,
    rank_candidates,
    rank_sampled,
    ranking_metrics,
    sample_candidates,
)
from model.training.processes import ProcessGroup
from model.training.trainer import fit
from model.training.validation import Validation
from tests.model.conftest import Shop, with_other_items


def counts(ranks: Ranks) -> list[list[int]]:
    return np.stack((ranks.greater, ranks.equal, ranks.candidates)).tolist()


@pytest.mark.parametrize(
    "change", [{}, {"scoring": "cosine"}, {"global_correction": True}, {"local_threads": False}]
)
def test_scoring_candidates_alone_ranks_as_scoring_everything_does(
    shop: Shop, change: dict[str, object]
) -> None:
    model = shop.model(change)
    prefixes = shop.sequences.prefixes_of_split(VALIDATION)
    # More than most users have left: some rows are filled up with item 0.
    candidates = sample_candidates(shop.sequences, prefixes, 9, seed=3)
    assert (candidates == 0).any()
    fast = rank_candidates(CandidateScorer(model), prefixes, candidates)
    slow = rank_sampled(ModelScorer(model), prefixes, candidates)
    assert counts(fast) == counts(slow)
    assert fast.users.tolist() == slow.users.tolist()


def test_a_diverged_model_is_refused_by_candidates_too(shop: Shop) -> None:
    model = shop.model()
    with torch.no_grad():
        model.local_table.weight[1:] = torch.nan
    prefixes = shop.sequences.prefixes_of_split(VALIDATION)
    candidates = sample_candidates(shop.sequences, prefixes, 3, seed=3)
    with pytest.raises(NanScoreError):
        rank_candidates(CandidateScorer(model), prefixes, candidates)


def test_validation_ranks_all_items_unless_told_otherwise(shop: Shop) -> None:
    model, prefixes = shop.model(), shop.sequences.prefixes_of_split(VALIDATION)
    whole = ranking_metrics(rank_all(ModelScorer(model), prefixes), (10,))
    got = Validation(shop.sequences, shop.config().train, ProcessGroup()).measure(model)
    assert got == pytest.approx((whole.ndcg[10], whole.hit_rate[10]))
    train = shop.config(train={"validation_candidates": 2}).train
    ndcg, hit_rate = Validation(shop.sequences, train, ProcessGroup()).measure(model)
    assert ndcg > whole.ndcg[10]
    assert hit_rate == 1.0  # Of three candidates each is among the best ten.


def test_validation_draws_its_users_and_candidates_once(shop: Shop) -> None:
    train = shop.config(train={"validation_users": 5, "validation_candidates": 2}).train
    validation = Validation(shop.sequences, train, ProcessGroup())
    assert len(validation) == 5
    model = shop.model()
    assert validation.measure(model) == validation.measure(model)
    assert validation.measure(model) == Validation(shop.sequences, train, ProcessGroup()).measure(
        model
    )


def test_the_parts_of_a_team_add_up(shop: Shop) -> None:
    model, train = shop.model(), shop.config().train
    whole = Validation(shop.sequences, train, ProcessGroup())
    # Without other processes `sum` would wait for them: each part is measured as if alone.
    parts = [Validation(shop.sequences, train, ProcessGroup(rank, 3)) for rank in range(3)]
    for part in parts:
        part._process_group = ProcessGroup()
    summed = np.sum([part.measure(model) for part in parts], axis=0)
    assert summed.tolist() == pytest.approx(list(whole.measure(model)))


def test_candidates_choose_the_epoch_when_configured(shop: Shop) -> None:
    train: dict[str, object] = {"validation_candidates": 3, "max_epochs": 2}
    result = fit(shop.sequences, shop.tables, shop.config(train=train))
    assert all(report.validation_hit_rate == 1.0 for report in result.history)


def test_without_validation_events_nothing_is_measured(shop: Shop) -> None:
    nothing = replace(shop.sequences, split=np.zeros_like(shop.sequences.split))
    train = shop.config(train={"validation_candidates": 3}).train
    assert len(Validation(nothing, train, ProcessGroup())) == 0


def test_other_test_events_change_no_epochs_figure(shop: Shop) -> None:
    """Also where validation draws candidates: a test item must not be missing among them."""
    sequences = shop.sequences
    others = with_other_items(sequences, sequences.split == TEST)
    config = shop.config(train={"validation_candidates": 4})
    before, after = (fit(each, shop.tables, config) for each in (sequences, others))
    assert [r.validation_ndcg for r in after.history] == [r.validation_ndcg for r in before.history]
    assert after.best.epoch == before.best.epoch
