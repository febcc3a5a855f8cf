"""Releases in MLflow: parameters, metrics, report, card, model version.

Needs the extra ``mlflow`` and ``LLM4CDSR_MLFLOW_URI``. The registered model's alias ``serving``
follows promotion and rollback. An unreachable server does not affect a release.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from artifacts import columns as col
from artifacts.bundles import parts_of
from artifacts.kinds.results import ALL, FULL, METRICS, read_table
from artifacts.manifest import ArtifactRef, Manifest
from artifacts.remote.url_credentials import without_credentials
from artifacts.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

EXPERIMENT = REGISTERED = "llm4cdsr"
SERVING_ALIAS = "serving"
RELEASE_TAG, DECISION_TAG = "release", "decision"
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""Default timeouts, which detect a server that is down within a minute."""

LONGEST_PARAMETER = 500
"""Maximum characters of a value for older MLflow servers."""

SIGNATURE = {
    "inputs": {"domain": "string", "item_id": "string"},
    "outputs": {"domain": "string", "rank": "long", "item_id": "string", "score": "float"},
}
"""A history's events, oldest first, and the recommendations that follow, by MLflow's types."""

logger = logging.getLogger("llm4cdsr")


def record_release(
    store: Store, release: ArtifactRef, name: str, decision: str, uri: str | None
) -> str | None:
    """Records a release; returns the id of its MLflow run, None on failure.

    Args:
        release: a whole release of ``store``.
        name: what the data is called.
        decision: what the promotion gate decided.
        uri: the tracking server, None to record nothing.
    """
    if uri is None:
        return None
    try:
        return _recorded(_client(uri), store, release, name, decision)
    except Exception as error:  # noqa: BLE001  Whatever a server or its client does.
        _warn(uri, error)
        return None


def follow_serving(release: ArtifactRef, uri: str | None) -> bool:
    """Sets the alias ``serving`` to a release's version; returns False if MLflow does not
    have it."""
    if uri is None:
        return False
    try:
        client = _client(uri)
        versions = client.search_model_versions(f"name='{REGISTERED}'")
        for version in versions:
            if version.tags.get(RELEASE_TAG) == release.fingerprint:
                client.set_registered_model_alias(REGISTERED, SERVING_ALIAS, version.version)
                return True
    except Exception as error:  # noqa: BLE001  Whatever a server or its client does.
        _warn(uri, error)
    return False


def metrics_of(table: pl.DataFrame) -> dict[str, float]:
    """Returns the full-ranking NDCG@10 and HR@10 by model and domain, named as MLflow allows."""
    rows = table.filter(ranking=FULL, group=ALL).filter(
        pl.col("metric").is_in(["NDCG@10", "HR@10"]) & pl.col("value").is_not_null()
    )
    named = rows.select("model", col.DOMAIN, "metric", "value").iter_rows()
    return {
        _allowed(f"{metric.replace('@', '_at_')}/{domain}/{model}"): value
        for model, domain, metric, value in named
    }


def parameters_of(model: Manifest) -> dict[str, str]:
    """Returns the fields of the model's configuration, ``section.field`` to value."""
    return {
        f"{section}.{field}": str(value)[:LONGEST_PARAMETER]
        for section, fields in model.parameters.items()
        if isinstance(fields, Mapping)
        for field, value in fields.items()
    }


def _recorded(
    client: MlflowClient, store: Store, release: ArtifactRef, name: str, decision: str
) -> str:
    from mlflow.entities import Metric, Param, RunTag  # pyright: ignore[reportMissingImports]

    parts = parts_of(store, release)
    model = store.manifest(parts["model"])
    metrics = metrics_of(read_table(store, parts["metrics"], METRICS))
    known = client.get_experiment_by_name(EXPERIMENT)
    experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT)
    run = client.create_run(experiment, run_name=name)
    run_id, now = run.info.run_id, run.info.start_time
    client.log_batch(
        run_id,
        metrics=[Metric(key, value, now, 0) for key, value in metrics.items()],
        params=[Param(key, value) for key, value in parameters_of(model).items()],
        tags=[RunTag(RELEASE_TAG, release.fingerprint), RunTag(DECISION_TAG, decision)],
    )
    for file in sorted(store.path(parts["report"]).iterdir()):
        client.log_artifact(run_id, str(file))
    client.log_artifacts(run_id, str(store.path(parts["model"])), "model")
    _log_signature(client, run_id, release)
    _register(client, run_id, release)
    client.set_terminated(run_id)
    return run_id


def _log_signature(client: MlflowClient, run_id: str, release: ArtifactRef) -> None:
    """Writes the ``MLmodel`` file: signature and loader.

    Written as JSON (valid YAML), because MLflow's classes need pandas.
    """
    signature = {name: json.dumps(_columns(kinds)) for name, kinds in SIGNATURE.items()}
    card = {
        "artifact_path": "model",
        "run_id": run_id,
        "flavors": {
            "llm4cdsr": {"load": "llm4cdsr.Recommender.load", "release": release.fingerprint}
        },
        "signature": signature,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "MLmodel"
        path.write_text(json.dumps(card, indent=2) + "\n", "utf-8")
        client.log_artifact(run_id, str(path), "model")


def _columns(kinds: Mapping[str, str]) -> list[dict[str, str | bool]]:
    return [{"name": name, "type": kind, "required": True} for name, kind in kinds.items()]


def _register(client: MlflowClient, run_id: str, release: ArtifactRef) -> None:
    from mlflow.exceptions import MlflowException  # pyright: ignore[reportMissingImports]

    try:
        client.create_registered_model(REGISTERED)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    tags = {RELEASE_TAG: release.fingerprint}
    client.create_model_version(REGISTERED, source, run_id, tags=tags)


def _client(uri: str) -> MlflowClient:
    for variable, value in PATIENCE.items():
        os.environ.setdefault(variable, value)
    from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _allowed(name: str) -> str:
    """MLflow allows letters, digits and ``_-. /`` in names; domains are arbitrary."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)


def _warn(uri: str, error: Exception) -> None:
    first = without_credentials(str(error)).partition("\n")[0][:300]
    is_missing = isinstance(error, ModuleNotFoundError) and str(error.name).startswith("mlflow")
    hint = "; install it with pip install 'llm4cdsr[mlflow]'" if is_missing else ""
    logger.warning(
        "MLflow at %s did not record the release: %s%s", without_credentials(uri), first, hint
    )
