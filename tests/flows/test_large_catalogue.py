"""A catalogue that no training here could hold is refused before a language model is asked."""

from pathlib import Path
from typing import NoReturn

import pytest

import flows.refresh
import tasks.frame.model_inputs
from artifacts.manifest import ArtifactRef, Kind
from flows.refresh import refresh
from flows.retrain import RetrainConfig
from tasks.frame.stage import StageResult
from tasks.llm.settings.llm_config import LlmConfig, Provider
from tasks.train import CatalogueTooLargeError


class FirstRequestError(Exception):
    """Somebody would have been asked."""


@pytest.mark.parametrize(("items", "refused"), [(9, False), (2_000_000, True)])
def test_a_catalogue_too_large_to_train_is_refused_before_the_first_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, items: int, refused: bool
) -> None:
    dataset = StageResult(
        stage="ingest",
        ref=ArtifactRef(kind=Kind.DATASET, fingerprint="made-up"),
        reused=False,
        seconds=0.0,
        counts={"items": items},
        notes=[],
    )

    def asks(*_: object) -> NoReturn:
        raise FirstRequestError

    monkeypatch.setattr(flows.refresh, "ingest", lambda *_: dataset)
    monkeypatch.setattr(flows.refresh, "patient", lambda _: asks)
    monkeypatch.setattr(flows.refresh, "dump_to_read", lambda *_: None)
    monkeypatch.setattr(tasks.frame.model_inputs, "machine_memory", lambda: 2 * 2**30)
    training = RetrainConfig().training.model_copy(update={"device": "cpu"})
    with pytest.raises(CatalogueTooLargeError if refused else FirstRequestError) as told:
        refresh.fn(
            None,
            llm=LlmConfig(provider=Provider.DUMMY),
            store=str(tmp_path / "store"),
            training=training.model_dump(mode="json"),
        )
    if refused:
        assert "2,000,000 items" in str(told.value)
