"""Metrics against plain loops, and a popularity worked out by hand."""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from artifacts.kinds.results import METRIC_SCHEMA
from model.baselines.registry import baselines
from model.baselines.simple import Popularity
from model.data.sequences import TEST, IntArray, Prefixes, Sequences, sequences_from_lists
from model.scoring.model_scorer import Scorer
from model.scoring.ranking import sample_candidates
from tasks.evaluate import (
    FULL,
    SAMPLED,
    EvaluationConfig,
    asked_events,
    headline,
    measure,
)

STARTS, NAMES = (0, 7, 20), ("one", "two")


@dataclass(frozen=True)
class Fixed:
    """A score an item and user, with ties."""

    starts: tuple[int, ...] = STARTS

    def score(self, prefixes: Prefixes, domain: int) -> Tensor:
        items = np.arange(self.starts[domain] + 1, self.starts[domain + 1] + 1)
        return torch.from_numpy(_score(prefixes.users[:, None], items[None, :])).float()


def _score(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    return (user * 7 + item * item * 3) % 5


def random_sequences(users: int = 30) -> Sequences:
    rng = np.random.default_rng(6)
    histories = [rng.integers(1, 21, rng.integers(1, 12)).tolist() for _ in range(users)]
    return sequences_from_lists(histories, STARTS, NAMES, held_out=2)


def drawn(sequences: Sequences, count: int, seed: int = 0) -> dict[str, IntArray]:
    prefixes = sequences.prefixes_of_split(TEST)
    return {SAMPLED: sample_candidates(sequences, prefixes, count, seed)}


def value(metrics: pl.DataFrame, metric: str, **where: str) -> float:
    chosen = {"ranking": FULL, "domain": "all", "group": "all", "metric": metric, **where}
    return metrics.row(by_predicate=pl.all_horizontal(pl.col(k) == v for k, v in chosen.items()))[5]


def test_metrics_equal_a_plain_loop_over_users() -> None:
    sequences = random_sequences()
    metrics, ranks = measure({"fixed": Fixed()}, sequences, drawn(sequences, 4))
    hits, gains, reciprocal, count = 0.0, 0.0, 0.0, 0
    for user in range(sequences.user_count):
        events = slice(sequences.offsets[user], sequences.offsets[user + 1])
        history = sequences.items[events].tolist()
        if len(history) < 3:
            continue
        *seen, target = history
        low, high = (0, 7) if target <= 7 else (7, 20)
        pool = [i for i in range(low + 1, high + 1) if i not in seen and i != target]
        scores = [int(_score(np.array(user), np.array(i))) for i in pool]
        own = int(_score(np.array(user), np.array(target)))
        above, ties = sum(s > own for s in scores), sum(s == own for s in scores)
        places = range(above + 1, above + ties + 2)  # Every order of the tied is as likely.
        hits += np.mean([place <= 5 for place in places])
        gains += np.mean([1 / math.log2(place + 1) if place <= 5 else 0 for place in places])
        reciprocal += np.mean([1 / place if place <= 5 else 0 for place in places])
        count += 1
        row = ranks.filter((pl.col("user_index") == user) & (pl.col("ranking") == FULL))
        assert row.select("greater", "equal", "candidates").rows() == [(above, ties, len(pool))]
    assert value(metrics, "HR@5") == pytest.approx(hits / count)
    assert value(metrics, "NDCG@5") == pytest.approx(gains / count)
    assert value(metrics, "MRR@5") == pytest.approx(reciprocal / count)


def test_popularity_by_hand() -> None:
    # Training: 1 three times, 2 twice, 3 once (of 1..4); 5 once (of 5..6). Everyone's test is last.
    histories = [[1, 2, 5, 4], [1, 5, 3, 2], [1, 2, 6, 3], [3]]
    sequences = sequences_from_lists(histories, (0, 4, 6), NAMES, held_out=2)
    scorers: dict[str, Scorer] = {"popularity": Popularity.fit(sequences)}
    metrics, ranks = measure(scorers, sequences, drawn(sequences, 2))
    # User 0 has seen 1 and 2 and is tested on 4 against 3: second of two. User 1 has seen 1 and 3
    # and is tested on 2 against 4: first. User 2 has seen 1 and 2 and is tested on 3 against 4:
    # first.
    full = ranks.filter(pl.col("ranking") == FULL)
    assert full.select("greater", "equal", "candidates").rows() == [(1, 0, 1), (0, 0, 1), (0, 0, 1)]
    assert value(metrics, "HR@5") == 1
    assert value(metrics, "NDCG@10") == pytest.approx((1 / math.log2(3) + 1 + 1) / 3, abs=1e-9)
    assert value(metrics, "MRR@20") == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert headline(metrics) == {
        "targets": 3,
        "NDCG@10 popularity": round((1 / math.log2(3) + 2) / 3, 4),
        "HR@10 popularity": 1.0,
    }


def test_domains_and_groups_are_parts_of_the_whole() -> None:
    sequences = random_sequences()
    metrics, _ = measure({"fixed": Fixed()}, sequences, drawn(sequences, 4))
    assert metrics.schema == METRIC_SCHEMA
    for ranking in (FULL, SAMPLED):
        part = metrics.filter(
            (pl.col("ranking") == ranking)
            & (pl.col("metric") == "NDCG@10")
            & (pl.col("group") == "all")
        )
        whole = part.filter(pl.col("domain") == "all")
        parts = part.filter(pl.col("domain") != "all")
        assert parts["targets"].sum() == whole["targets"][0]
        mean = np.average(parts["value"], weights=parts["targets"])
        assert mean == pytest.approx(whole["value"][0])
    assert metrics["value"].is_between(0, 1).all()


def test_sampled_candidates_are_the_same_for_every_scorer_and_follow_the_seed() -> None:
    sequences = random_sequences()

    def sampled(seed: int) -> pl.DataFrame:
        _, ranks = measure({"a": Fixed(), "b": Fixed()}, sequences, drawn(sequences, 3, seed))
        return ranks.filter(pl.col("ranking") == SAMPLED)

    ranks = sampled(0)
    a, b = (ranks.filter(pl.col("model") == name).drop("model") for name in "ab")
    assert a.equals(b)
    assert ranks.equals(sampled(0))
    assert not ranks.equals(sampled(1))
    assert a["candidates"].max() == 3


def test_baselines_do_not_look_at_held_out_events() -> None:
    sequences = random_sequences()
    other = sequences.items.copy()
    other[sequences.split != 0] = 20
    blind = Sequences(
        sequences.offsets, other, sequences.split, sequences.domain_starts, sequences.domain_names
    )
    prefixes = sequences.prefixes_of_split(TEST)
    for name, scorer in baselines(sequences).items():
        for domain in range(2):
            same = baselines(blind)[name].score(prefixes, domain)
            assert torch.equal(scorer.score(prefixes, domain), same), name


def test_a_dataset_without_held_out_events_has_no_metrics_and_is_no_error() -> None:
    sequences = sequences_from_lists([[1, 2], [3]], STARTS, NAMES, held_out=2)
    metrics, ranks = measure({"fixed": Fixed()}, sequences, {})
    assert metrics.is_empty()
    assert ranks.is_empty()


def test_a_sample_of_events_is_ranked_as_all_of_them_are() -> None:
    sequences = random_sequences()
    candidates = drawn(sequences, 5)
    everyone = sequences.prefixes_of_split(TEST)
    asked = asked_events(sequences, EvaluationConfig(max_events=9, seed=4))
    assert len(asked) == 9 < len(everyone)
    assert np.all(np.diff(asked) > 0)
    other = asked_events(sequences, EvaluationConfig(max_events=9, seed=5))
    assert not np.array_equal(asked, other)
    all_ranks = measure({"fixed": Fixed()}, sequences, candidates)[1]
    metrics, ranks = measure({"fixed": Fixed()}, sequences, candidates, asked)
    users = everyone.users[asked].tolist()
    wanted = all_ranks.filter(pl.col("user_index").is_in(users))
    assert ranks.sort(ranks.columns).equals(wanted.sort(wanted.columns))
    assert headline(metrics)["targets"] == 9
    assert len(asked_events(sequences, EvaluationConfig(max_events=1000))) == len(everyone)


def test_a_domain_too_small_for_figures_has_none_and_spoils_no_other(usual_candidates: int) -> None:
    rng = np.random.default_rng(8)
    histories = [rng.integers(1, 48, rng.integers(3, 12)).tolist() for _ in range(40)]
    sequences = sequences_from_lists(histories, (0, 7, 47), ("tiny", "usual"), held_out=2)
    prefixes = sequences.prefixes_of_split(TEST)
    asked = asked_events(sequences, EvaluationConfig())
    assert 0 < len(asked) == (prefixes.targets > 7).sum() < len(prefixes)
    scorers: dict[str, Scorer] = {"popularity": Popularity.fit(sequences)}
    metrics, ranks = measure(scorers, sequences, {}, asked)
    assert value(metrics, "NDCG@10", domain="tiny") is None
    assert value(metrics, "NDCG@10", domain="all") == value(metrics, "NDCG@10", domain="usual")
    assert (ranks["candidates"] >= usual_candidates).all()
    assert headline(metrics)["targets"] == len(asked)


def test_where_no_event_can_be_measured_there_is_no_figure(usual_candidates: int) -> None:
    sequences = random_sequences()
    asked = asked_events(sequences, EvaluationConfig())
    metrics, ranks = measure({"popularity": Popularity.fit(sequences)}, sequences, {}, asked)
    assert metrics["value"].is_null().all()
    assert not metrics.is_empty()
    assert ranks.is_empty()
    assert headline(metrics) == {"targets": 0}
