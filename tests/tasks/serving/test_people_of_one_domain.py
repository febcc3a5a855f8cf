"""People with no history in a domain get the same items and scores there in every way to serve."""

from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest
import torch

from artifacts.kinds.dataset import read_dataset
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from model.data.sequences import Prefixes
from model.scoring.model_scorer import CandidateScorer, ModelScorer
from tasks.recommend import RecommendationConfig, recommendations
from tasks.serving import state
from tasks.serving.app import create_app
from tasks.serving.export.export_model import ModelFormat, export_model
from tasks.serving.export.export_recs import ExportConfig, export_recommendations
from tasks.serving.recommender import Recommender
from tasks.serving.served_release import OpenRelease, open_release
from tests.tasks.serving.server_thread import running_server
from tests.tasks.serving.small_release import small_release
from tests.tasks.shops.small_shop import EVENTS, SmallShop

FAY = [("fay", "g1", "gear", 1), ("fay", "g2", "gear", 2), ("fay", "g4", "gear", 3)]
GUS = [("gus", "b2", "books", 1), ("gus", "b1", "books", 2), ("gus", "b2", "books", 3)]
HAL = [("hal", "g3", "gear", 1)]
ASKED = {"fay": "books", "gus": "gear", "hal": "books", "eve": "gear"}
"""Each user's other domain."""

K = 3

ANSWERED_TO = 1e-4
"""The service gives scores with four decimals."""

Lists = dict[str, list[tuple[str, float]]]
"""Item ids and scores by user, best first."""


@pytest.fixture(params=["dot", "cosine", "votes"])
def release(store: Store, request: pytest.FixtureRequest) -> OpenRelease:
    shop = SmallShop(events=(*EVENTS, *FAY, *GUS, *HAL))
    if request.param == "votes":
        small_release(store, scoring="cosine", shop=shop, bridged=True)
    else:
        small_release(store, scoring=request.param, shop=shop)
    opened = open_release(store)
    bridge = opened.model.bridge
    assert (bridge is not None and bridge.votes is not None) == (request.param == "votes")
    return opened


@pytest.fixture
def expected(release: OpenRelease) -> Lists:
    """A plain sort of what the model says of the whole domain."""
    found: Lists = {}
    scorer = ModelScorer(release.model)
    for user, domain in ASKED.items():
        row = scorer.score(_prefix(release, user), release.catalogue.domains.index(domain))[0]
        ids = release.catalogue.items.filter(domain=domain)["item_id"].to_list()
        order = np.argsort(-row.numpy(), kind="stable")[:K].tolist()
        found[user] = [(ids[place], float(row[place])) for place in order]
    return found


@pytest.fixture(params=["exact", "index"])
def recommender(
    release: OpenRelease, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Recommender:
    if request.param == "index":
        monkeypatch.setattr(state, "EXACT_UP_TO", 0)
    made = Recommender(release)
    assert bool(made.state.indices) == (request.param == "index")
    return made


def _prefix(release: OpenRelease, user: str) -> Prefixes:
    return release.histories.prefixes_of_users(np.array([release.user_ids.index(user)]))


def _agree(found: Lists, expected: Lists, rounded: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for user, items in expected.items():
        assert [name for name, _ in found[user]] == [name for name, _ in items], user
        scores = [[score for _, score in part] for part in (found[user], items)]
        np.testing.assert_allclose(*scores, rtol=1e-4, atol=rounded, err_msg=user)


def _lists(table: pl.DataFrame) -> Lists:
    found: Lists = {}
    for user, domain in ASKED.items():
        own = table.filter(user_id=user, domain=domain).sort("rank").head(K)
        found[user] = own.select("item_id", "score").rows()  # type: ignore[assignment]
    return found


def test_the_nightly_lists_are_the_models(
    store: Store, release: OpenRelease, expected: Lists
) -> None:
    (dataset,) = store.artifacts(Kind.DATASET)
    data = read_dataset(store, ArtifactRef(kind=Kind.DATASET, fingerprint=dataset.fingerprint))
    table = recommendations(data, ModelScorer(release.model), RecommendationConfig(per_domain=K))
    _agree(_lists(table), expected)


def test_the_recommender_says_the_same_of_a_user_and_of_a_history(
    recommender: Recommender, expected: Lists
) -> None:
    of_users = pl.concat(
        recommender.recommend_users([user], domain, K) for user, domain in ASKED.items()
    )
    _agree(_lists(of_users), expected)
    of_histories, scored = {}, {}
    for user, domain in ASKED.items():
        history = recommender.history(user)
        table = recommender.recommend(history, domain, K)
        of_histories[user] = table.select("item_id", "score").rows()
        names = [(domain, item) for item, _ in expected[user]]
        scores = recommender.score(history, names).tolist()
        scored[user] = [(item, score) for (_, item), score in zip(names, scores, strict=True)]
    _agree(of_histories, expected)
    _agree(scored, expected)


def test_the_service_says_the_same(recommender: Recommender, expected: Lists) -> None:
    with running_server(create_app(recommender)) as url, httpx.Client(base_url=url) as client:
        of_users, of_histories = {}, {}
        for user, domain in ASKED.items():
            answer = client.get(f"/users/{user}/recommendations", params={"k": K}).json()
            of_users[user] = _shown(answer, domain)
            history = [{"domain": d, "item_id": i} for d, i in recommender.history(user)]
            body = {"history": history, "domains": [domain], "k": K}
            answer = client.post("/recommendations", json=body).json()
            assert answer["basis"] == "history"
            of_histories[user] = _shown(answer, domain)
    _agree(of_users, expected, ANSWERED_TO)
    _agree(of_histories, expected, ANSWERED_TO)


def _shown(answer: dict, domain: str) -> list[tuple[str, float]]:
    (found,) = (part for part in answer["domains"] if part["domain"] == domain)
    return [(item["item_id"], item["score"]) for item in found["items"]]


def test_the_export_holds_the_same(
    recommender: Recommender, expected: Lists, tmp_path: Path
) -> None:
    made = export_recommendations(recommender, tmp_path / "out", ExportConfig(k=K))
    parts = [pl.read_parquet(tmp_path / "out" / part.file) for part in made.domains.values()]
    _agree(_lists(pl.concat(parts)), expected)


@pytest.mark.parametrize("release", ["votes"], indirect=True)  # Its model has every part.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_exported_graph_gives_the_same_scores(
    store: Store, release: OpenRelease, expected: Lists, tmp_path: Path
) -> None:
    export_model(store, tmp_path, ModelFormat.TORCH)
    graph = torch.export.load(tmp_path / "model.pt2").module()
    found: Lists = {}
    for user, domain in ASKED.items():
        prefix = _prefix(release, user)
        history = release.histories.items[prefix.start[0] : prefix.stop[0]]
        padded = np.zeros((2, max(2, len(history))), np.int64)
        padded[0, : len(history)] = history
        row = graph(torch.from_numpy(padded))[release.catalogue.domains.index(domain)][0]
        ids = release.catalogue.items.filter(domain=domain)["item_id"].to_list()
        found[user] = [(item, float(row[ids.index(item)])) for item, _ in expected[user]]
        assert float(row.max()) == pytest.approx(expected[user][0][1], rel=1e-4, abs=1e-5)
    _agree(found, expected)


def test_scoring_a_few_items_gives_the_same_scores(release: OpenRelease, expected: Lists) -> None:
    found: Lists = {}
    for user, domain in ASKED.items():
        names = [item for item, _ in expected[user]]
        items = np.array([[release.catalogue.index((domain, item)) for item in names]])
        number = release.catalogue.domains.index(domain)
        scores = CandidateScorer(release.model).score(_prefix(release, user), number, items)[0]
        found[user] = list(zip(names, scores.tolist(), strict=True))
    _agree(found, expected)


def test_the_users_of_this_test_have_one_domain(release: OpenRelease) -> None:
    for user, domain in ASKED.items():
        prefix = _prefix(release, user)
        items = release.histories.items[prefix.start[0] : prefix.stop[0]]
        numbers = set(release.histories.domain_of(items).tolist())
        assert len(items) > 0
        assert numbers == {1 - release.catalogue.domains.index(domain)}


def test_other_items_in_the_history_change_what_they_get(release: OpenRelease) -> None:
    """So that agreement is not that of constants."""
    scorer = ModelScorer(release.model)
    books = release.catalogue.domains.index("books")
    one, other = (scorer.score(_prefix(release, user), books) for user in ("fay", "hal"))
    assert not torch.allclose(one, other)
