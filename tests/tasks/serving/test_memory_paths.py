"""A served model has members and a memory: every way of asking gives the fused score of both."""

import dataclasses
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest

from artifacts.store import Store
from model.scoring.model_scorer import ModelScorer
from tasks.frame.ann_index import AnnIndex
from tasks.serving.app import create_app
from tasks.serving.export.export_recs import ExportConfig, export_recommendations
from tasks.serving.recommender import Recommender
from tasks.serving.served_release import open_release
from tests.tasks.serving.server_thread import running_server
from tests.tasks.serving.small_release import small_release

Scores = dict[tuple[str, str, str], float]
"""Score by user, domain and item id."""


@pytest.fixture
def recommender(store: Store) -> Recommender:
    small_release(store)
    return Recommender.load(store)


@pytest.fixture
def expected(store: Store, recommender: Recommender) -> Scores:
    """Every score by `ModelScorer` itself, over a release opened apart."""
    release = open_release(store)
    scorer, keys = ModelScorer(release.model), release.catalogue.keys
    prefixes = release.histories.prefixes_of_users(np.arange(len(release.user_ids)))
    found: Scores = {}
    for number, first in enumerate(release.catalogue.domain_starts[:-1].tolist()):
        for user, row in zip(release.user_ids, scorer.score(prefixes, number), strict=True):
            for column, score in enumerate(row.tolist()):
                key = keys[first + column]
                found[user, key.domain, key.item_id] = score
    return found


def assert_these_scores(table: pl.DataFrame, expected: Scores) -> None:
    rows = table.select("user_id", "domain", "item_id", "score").rows()
    assert rows
    wanted = [expected[user, domain, item] for user, domain, item, _ in rows]
    np.testing.assert_allclose([row[3] for row in rows], wanted, rtol=1e-5, atol=1e-6)


def with_index(recommender: Recommender) -> Recommender:
    state = recommender.state
    vectors = [vectors.numpy() for vectors in state.scorer.vectors]
    indices = {number: AnnIndex(rows) for number, rows in enumerate(vectors)}
    recommender.state = dataclasses.replace(state, indices=indices)
    return recommender


def test_the_memory_and_every_member_are_part_of_the_scores_compared(
    store: Store, recommender: Recommender
) -> None:
    state = recommender.state
    prefixes = state.histories.prefixes_of_users(np.arange(4))
    whole, model = state.scorer.score(prefixes, 1), state.scorer.model
    assert model.config.ensemble_size == 2
    dense, evidence = state.scorer.parts(prefixes, 1)
    assert evidence is not None
    assert (whole - dense).abs().max() > 0.1


def test_scores_after_a_history_are_the_models(recommender: Recommender, expected: Scores) -> None:
    for user in recommender.user_ids:
        keys = recommender.catalogue.keys
        found = recommender.score(recommender.history(user), keys)
        wanted = [expected[user, key.domain, key.item_id] for key in keys]
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_an_index_only_proposes_and_the_models_scores_rank(
    recommender: Recommender, expected: Scores, exclude_seen: bool
) -> None:
    exact = recommender.recommend_users(k=4, exclude_seen=exclude_seen)
    found = with_index(recommender).recommend_users(k=4, exclude_seen=exclude_seen)
    assert found.drop("score").rows() == exact.drop("score").rows()
    assert_these_scores(exact, expected)
    assert_these_scores(found, expected)


def test_exported_lists_hold_the_models_scores(
    recommender: Recommender, expected: Scores, tmp_path: Path
) -> None:
    export_recommendations(recommender, tmp_path / "out", ExportConfig(k=5))
    assert_these_scores(pl.read_parquet(tmp_path / "out" / "*.parquet"), expected)


def test_the_service_answers_with_the_models_scores(
    recommender: Recommender, expected: Scores
) -> None:
    with running_server(create_app(recommender)) as url, httpx.Client(base_url=url) as client:
        for user in recommender.user_ids:
            history = [{"domain": d, "item_id": i} for d, i in recommender.history(user)]
            items = [{"domain": d, "item_id": i} for d, i in recommender.catalogue.keys]
            scores = client.post("/scores", json={"history": history, "items": items}).json()
            wanted = [expected[user, key.domain, key.item_id] for key in recommender.catalogue.keys]
            np.testing.assert_allclose(scores["scores"], wanted, rtol=1e-5, atol=1e-6)
            answer = client.post("/recommendations", json={"history": history}).json()
            for item in (item for domain in answer["domains"] for item in domain["items"]):
                score = expected[user, item["domain"], item["item_id"]]
                assert item["score"] == pytest.approx(score, abs=1e-4)  # Answers are rounded.


def test_a_new_item_shifts_the_memory_with_the_indices(
    recommender: Recommender, expected: Scores
) -> None:
    known = list(recommender.catalogue.keys)
    new = pl.DataFrame({"item_id": ["b0"], "domain": ["books"]})
    recommender.add_items(new, vectors=np.full((1, 384), np.nan))
    for user in recommender.user_ids:
        found = recommender.score(recommender.history(user), known)
        wanted = [expected[user, key.domain, key.item_id] for key in known]
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
