"""What is damaged, or gives no numbers, ends a request, an export, a release: it never answers."""

from pathlib import Path

import httpx
import polars as pl
import pytest
import torch

from artifacts.bundles import parts_of
from artifacts.kinds.dataset import read_dataset
from artifacts.manifest import MANIFEST
from artifacts.store import Store
from model.checkpoint import CheckpointError, load_model, save_model
from model.scoring.model_scorer import ModelScorer
from model.scoring.ranking import NanScoreError
from tasks.frame.model_inputs import sequences_of
from tasks.recommend import RecommendationConfig, recommendations
from tasks.serving.app import create_app
from tasks.serving.export.export_recs import ExportConfig, export_recommendations
from tasks.serving.recommender import Recommender
from tasks.serving.served_release import READ, ReleaseDamagedError
from tests.tasks.serving.server_thread import running_server
from tests.tasks.serving.small_release import small_release


@pytest.fixture
def recommender(store: Store) -> Recommender:
    small_release(store)
    return Recommender.load(store)


def without_numbers(recommender: Recommender, value: float) -> Recommender:
    """As if memory had gone bad since it was loaded."""
    for vectors in recommender.state.scorer.vectors:
        vectors[2] = value
    return recommender


@pytest.mark.parametrize("role", READ)
def test_a_release_is_served_only_if_every_file_is_what_was_written(
    store: Store, role: str
) -> None:
    part = parts_of(store, small_release(store))[role]
    folder = store.path(part)
    for path in [path for path in folder.iterdir() if path.name != MANIFEST]:
        sound = path.read_bytes()
        path.write_bytes(sound[:-9] + bytes([sound[-9] ^ 4]) + sound[-8:])
        with pytest.raises(ReleaseDamagedError, match=f"{path.name}.*makes it again.*rollback"):
            Recommender.load(store)
        with pytest.raises(ReleaseDamagedError, match="is not in"):
            Recommender.load(store)
        (aside,) = (store.local / "set-aside").iterdir()
        aside.rename(folder)
        path.write_bytes(sound)
    Recommender.load(store)


def test_a_release_in_an_interrupted_removal_names_the_command_that_completes_it(
    store: Store,
) -> None:
    profiles = parts_of(store, small_release(store))["profiles"]
    next(path for path in store.path(profiles).iterdir() if path.name != MANIFEST).unlink()
    pending = store.local / "operation" / "forgotten" / "pending"
    pending.parent.mkdir(parents=True)
    pending.touch()
    with pytest.raises(ReleaseDamagedError, match=r"removal of users.*`llm4cdsr forget"):
        Recommender.load(store)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_request_ends_where_the_model_gives_no_numbers(
    recommender: Recommender, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(without_numbers(recommender, value))
    g1 = {"domain": "gear", "item_id": "g1"}
    with running_server(app) as url, httpx.Client(base_url=url) as client:
        asked = (
            client.post("/recommendations", json={"history": [g1]}),
            client.get("/users/ada/recommendations"),
            client.post("/scores", json={"history": [g1], "items": [g1, {"item_id": "g3"}]}),
        )
        assert client.get("/health").is_success
    for reply in asked:
        assert reply.status_code == 500
        assert "non-finite scores" in reply.json()["detail"]
        assert "llm4cdsr rollback" in reply.json()["detail"]
    assert "/users/{user_id}/recommendations: " in caplog.text  # The log names no user.
    assert "/users/ada" not in caplog.text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_export_ends_and_the_one_before_stays(
    recommender: Recommender, tmp_path: Path, value: float
) -> None:
    config = ExportConfig(k=2)
    export_recommendations(recommender, tmp_path / "out", config)
    beside = set(tmp_path.iterdir())
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(NanScoreError):
        export_recommendations(without_numbers(recommender, value), tmp_path / "out", config)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert set(tmp_path.iterdir()) == beside


def test_no_list_is_made_of_scores_that_are_no_numbers(store: Store) -> None:
    parts = parts_of(store, small_release(store))
    scorer = ModelScorer(load_model(store.path(parts["model"]))[0])
    data = read_dataset(store, parts["dataset"])
    made = recommendations(data, scorer, RecommendationConfig())
    assert made["score"].is_finite().all()
    scorer.vectors[1][0] = float("nan")
    with pytest.raises(NanScoreError):
        recommendations(data, scorer, RecommendationConfig())


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_model_with_a_weight_that_is_no_number_is_not_loaded(
    store: Store, tmp_path: Path, value: float
) -> None:
    parts = parts_of(store, small_release(store))
    model, card = load_model(store.path(parts["model"]))
    sequences = sequences_of(read_dataset(store, parts["dataset"]))
    with torch.no_grad():
        weight = max(model.parameters(), key=torch.numel)
        weight.view(-1)[3] = value
    save_model(tmp_path, model, card.config, sequences.domain_names)
    with pytest.raises(CheckpointError, match="non-finite weights"):
        load_model(tmp_path)


def test_exports_hold_finite_scores_only(recommender: Recommender, tmp_path: Path) -> None:
    made = export_recommendations(recommender, tmp_path / "out", ExportConfig(k=20))
    for part in made.domains.values():
        assert pl.read_parquet(tmp_path / "out" / part.file)["score"].is_finite().all()
