"""A written graph is run and held against the model; a graph that differs is not kept."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from artifacts.store import Store
from model.scoring.model_scorer import ModelScorer
from tasks.serving.export import export_model as module
from tasks.serving.export.export_model import ExportedModel, ModelFormat, ParityError, export_model
from tasks.serving.served_release import open_release
from tests.tasks.serving.small_release import small_release


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_written_graph_gives_the_models_scores(store: Store, tmp_path: Path) -> None:
    small_release(store)
    made = export_model(store, tmp_path / "out", ModelFormat.TORCH)
    assert made.largest_difference < 1e-4
    card = (tmp_path / "out" / "model.json").read_text()
    assert ExportedModel.model_validate_json(card) == made

    release = open_release(store)
    items = pl.read_parquet(tmp_path / "out" / "items.parquet")
    index = items.filter(item_id="b2")["item_index"][0]
    graph = torch.export.load(tmp_path / "out" / "model.pt2").module()
    scores = graph(torch.tensor([[index, 0, 0], [index, index, index]]))
    sequences = release.histories
    assert [part.shape[1] for part in scores] == [sequences.domain_size(d) for d in range(2)]


@pytest.mark.filterwarnings("ignore")
def test_the_onnx_graph_gives_the_models_scores(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra 'onnx' is not installed")
    monkeypatch.setattr("tqdm.tqdm.monitor_interval", 0)  # Its thread would outlive the test.
    small_release(store)
    made = export_model(store, tmp_path, ModelFormat.ONNX)
    assert (made.file, made.largest_difference < 1e-4) == ("model.onnx", True)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_graph_that_differs_from_the_model_is_not_kept(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_release(store)
    score = ModelScorer.score
    monkeypatch.setattr(ModelScorer, "score", lambda *asked: score(*asked) + 0.01)
    with pytest.raises(ParityError, match=r"differs from the model by 0\.01"):
        export_model(store, tmp_path, ModelFormat.TORCH)
    assert list(tmp_path.glob("*.pt2")) == []


@pytest.mark.parametrize("fails", ["_write_items", "write_atomically"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_card_never_describes_the_graph_or_items_of_another_export(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    small_release(store)
    folder = tmp_path / "out"
    before = dict.fromkeys(("model.pt2", "items.parquet", "model.json"), b"another release")
    folder.mkdir()
    for name, content in before.items():
        (folder / name).write_bytes(content)

    def lack(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(module, fails, lack)
    with pytest.raises(OSError, match="no space"):
        export_model(store, folder, ModelFormat.TORCH)
    left = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert left == before or left.keys() == {"model.pt2", "items.parquet"}


def test_a_nan_is_no_parity(store: Store) -> None:
    small_release(store)
    release = open_release(store)
    broken = tuple(np.full((5, release.histories.domain_size(d)), np.nan) for d in range(2))
    scorer = ModelScorer(release.model)
    difference = module.largest_difference(lambda _: broken, scorer, release.histories)
    assert np.isnan(difference)
