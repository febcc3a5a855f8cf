"""Our metrics against TREC's own evaluation program, by way of `pytrec_eval`."""

from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval

from model.scoring.ranking import Ranks, ranking_metrics

CUTOFFS = (5, 10, 20)
USERS, CANDIDATES = 37, 41


def test_metrics_without_ties_equal_those_of_trec_eval() -> None:
    rng = np.random.default_rng(3)
    scores = rng.permuted(np.arange(USERS * CANDIDATES).reshape(USERS, CANDIDATES), axis=1)
    target = rng.integers(0, CANDIDATES, USERS)
    own = scores[np.arange(USERS), target]
    greater = (scores > own[:, None]).sum(axis=1)
    zeros = np.zeros(USERS, np.int64)
    ranks = Ranks(np.arange(USERS), zeros, greater, zeros, np.full(USERS, CANDIDATES - 1))
    ours = ranking_metrics(ranks, CUTOFFS)

    relevant = {f"u{user}": {f"i{target[user]}": 1} for user in range(USERS)}
    run = {
        f"u{user}": {f"i{item}": float(scores[user, item]) for item in range(CANDIDATES)}
        for user in range(USERS)
    }
    measures = {"ndcg_cut.5,10,20", "success.5,10,20"}
    theirs = pytrec_eval.RelevanceEvaluator(relevant, measures).evaluate(run)
    for cutoff in CUTOFFS:
        ndcg = np.mean([found[f"ndcg_cut_{cutoff}"] for found in theirs.values()])
        hits = np.mean([found[f"success_{cutoff}"] for found in theirs.values()])
        assert ours.ndcg[cutoff] == pytest.approx(ndcg, abs=1e-9)
        assert ours.hit_rate[cutoff] == pytest.approx(hits, abs=1e-9)
        # The library has no reciprocal rank with a cutoff: the run is cut instead.
        cut = {user: _best(items, cutoff) for user, items in run.items()}
        reciprocal = pytrec_eval.RelevanceEvaluator(relevant, {"recip_rank"}).evaluate(cut)
        expected = np.mean([found["recip_rank"] for found in reciprocal.values()])
        assert ours.reciprocal_rank[cutoff] == pytest.approx(expected, abs=1e-9)


def _best(items: dict[str, float], count: int) -> dict[str, float]:
    return dict(sorted(items.items(), key=lambda pair: -pair[1])[:count])
