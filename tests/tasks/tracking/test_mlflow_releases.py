"""Releases in MLflow: against a real tracking server where one is installed."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import polars as pl
import pytest

from artifacts.bundles import create_bundle
from artifacts.kinds.results import METRIC_SCHEMA, METRICS
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from tasks.system.free_port import free_port
from tasks.tracking.mlflow_releases import PATIENCE, follow_serving, metrics_of, record_release

ROWS = [
    ("llm4cdsr", "full", "all", "all", "NDCG@10", 0.25, 90),
    ("llm4cdsr", "full", "café | bar", "all", "HR@10", 0.5, 40),
    ("popularity", "full", "all", "all", "NDCG@10", 0.05, 90),
    ("llm4cdsr", "sampled", "all", "all", "NDCG@10", 0.75, 90),
    ("llm4cdsr", "full", "all", "tail items", "NDCG@10", 0.1, 9),
]


def released(store: Store, seed: int = 0) -> ArtifactRef:
    """A release of three small artifacts."""
    parts = {}
    for kind, file in (
        (Kind.MODEL, "weights.safetensors"),
        (Kind.METRICS, METRICS),
        (Kind.REPORT, "report.html"),
    ):
        parameters = {"model": {"hidden": 8}, "train": {"seed": seed}}
        wanted = identity(kind, parameters, {})
        with store.create(wanted) as draft:
            if kind is Kind.METRICS:
                table = pl.DataFrame(ROWS, schema=METRIC_SCHEMA, orient="row")
                table.write_parquet(draft.path / file)
            else:
                (draft.path / file).write_text("content", "utf-8")
        parts[kind.value] = wanted.ref
    return create_bundle(store, Kind.RELEASE, parts)


@pytest.fixture(scope="module")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("mlflow", reason="the extra 'mlflow' is not installed")
    program = shutil.which("mlflow", path=Path(sys.executable).parent) or shutil.which("mlflow")
    if program is None:
        pytest.skip("no mlflow server is installed: pip install mlflow")
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    places = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    places += ["--artifacts-destination", str(folder / "artifacts")]
    server = subprocess.Popen(
        [program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *places],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(240):
            try:
                if httpx.get(f"{uri}/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        yield uri
    finally:
        server.terminate()
        server.wait()


@pytest.mark.slow
def test_a_release_is_a_run_with_a_model_version_that_the_alias_follows(
    store: Store, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

    for variable, value in {**PATIENCE, "MLFLOW_HTTP_REQUEST_TIMEOUT": "300"}.items():
        monkeypatch.setenv(variable, value)
    first, second = released(store, 0), released(store, 1)
    run_id = record_release(store, first, "mini", "served from now on", mlflow_uri)
    assert run_id is not None
    assert record_release(store, second, "mini", "not served", mlflow_uri) is not None
    client = MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)
    run = client.get_run(run_id)
    assert run.data.metrics["NDCG_at_10/all/llm4cdsr"] == 0.25
    assert run.data.params["train.seed"] == "0"
    assert run.data.tags["release"] == first.fingerprint
    assert run.info.status == "FINISHED"
    files = {each.path for each in client.list_artifacts(run_id, "model")}
    assert {"model/MLmodel", "model/weights.safetensors"} <= files
    for release in (first, second, first):
        assert follow_serving(release, mlflow_uri)
        served = client.get_model_version_by_alias("llm4cdsr", "serving")
        assert served.tags["release"] == release.fingerprint


def test_a_server_that_is_down_is_a_warning_without_its_credentials(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in PATIENCE.items():  # Else the first call would leave them behind.
        monkeypatch.setenv(variable, value)
    uri = f"http://ada:secret@127.0.0.1:{free_port()}"
    assert record_release(store, released(store), "mini", "served from now on", uri) is None
    (warning,) = (each.getMessage() for each in caplog.records if each.name == "llm4cdsr")
    assert "did not record the release" in warning
    assert "secret" not in warning


def test_nothing_is_recorded_without_a_server(store: Store) -> None:
    assert record_release(store, released(store), "mini", "not served", None) is None
    assert not follow_serving(released(store), None)


def test_metrics_are_those_of_the_full_ranking_under_names_that_mlflow_allows() -> None:
    table = pl.DataFrame(ROWS, schema=METRIC_SCHEMA, orient="row")
    assert metrics_of(table) == {
        "NDCG_at_10/all/llm4cdsr": 0.25,
        "HR_at_10/café _ bar/llm4cdsr": 0.5,
        "NDCG_at_10/all/popularity": 0.05,
    }
