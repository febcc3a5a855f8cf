"""The services of ``deploy/compose.yaml`` on a real Postgres, Redis and S3 server."""

import importlib.util
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import httpx
import polars as pl
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from tasks.demo.demo_dump import write_demo_dump
from tests.scale.compose_processes import (
    FILLED_IN,
    ComposeProcesses,
    compose_processes,
    postgres_programs,
)

POSTGRES = postgres_programs()
FEW = {"config": {"clusters": {"clusters": 4}, "profiles": {"max_users": 15}}}
TINY = {
    "config": {
        "training": {
            "overrides": {"train": {"max_epochs": 1, "refit": False}, "model": {"ensemble_size": 1}}
        },
        "ablation": {"users": 0},
    }
}
TOKEN = "a-token-of-the-service"
PATIENCE_SECONDS = 900.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(POSTGRES is None, reason="Postgres is not installed"),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="Redis is not installed"),
    pytest.mark.skipif(
        importlib.util.find_spec("prefect_redis") is None,
        reason="prefect-redis is not installed: pip install 'llm4cdsr[cluster]'",
    ),
]


@pytest.fixture(scope="module")
def composed() -> Iterator[ComposeProcesses]:
    assert POSTGRES is not None
    answers = {"LLM4CDSR_PROVIDER": "dummy", "RETRAIN_QUEUE": "cpu", "LLM4CDSR_SERVE_TOKEN": TOKEN}
    with compose_processes(POSTGRES, answers) as running:
        yield running


@pytest.fixture
def client(
    composed: ComposeProcesses, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SyncPrefectClient]:
    with SyncPrefectClient(composed.api_url, auth_string=FILLED_IN["PREFECT_LOGIN"]) as opened:
        yield opened


def drop(composed: ComposeProcesses, folder: Path, name: str) -> None:
    """Uploads a dump, its mark of completeness last."""
    import s3fs

    write_demo_dump(folder, seed=3, users=40, items=60)
    own = composed.environment("worker")
    files = s3fs.S3FileSystem(
        key=own["AWS_ACCESS_KEY_ID"],
        secret=own["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=own["AWS_ENDPOINT_URL"],
        skip_instance_cache=True,
    )
    place = f"{own['LLM4CDSR_DUMPS'].removeprefix('s3://')}/{name}"
    for file in ("items.parquet", "interactions.parquet"):
        files.put_file(str(folder / file), f"{place}/{file}")
    files.pipe_file(f"{place}/_SUCCESS", b"")


def wait_for(composed: ComposeProcesses, look: Callable[[], FlowRun | None], fault: str) -> FlowRun:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(1)
    logs = [f"{name}:\n{composed.log(name)}" for name in composed.processes]
    raise AssertionError("\n".join([fault, *logs]))


def deployment(client: SyncPrefectClient, name: str) -> UUID:
    return client.read_deployment_by_name(f"{name}/{name}").id


def ended(client: SyncPrefectClient, name: str) -> FlowRun | None:
    """Returns the last run of a deployment that ended, if any."""
    wanted = FlowRunFilter.model_validate({"deployment_id": {"any_": [deployment(client, name)]}})
    runs = client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.END_TIME_DESC)
    return next((run for run in runs if run.state and run.state.is_final()), None)


def test_a_dump_in_the_bucket_is_refreshed_trained_and_served(
    composed: ComposeProcesses, client: SyncPrefectClient, tmp_path: Path
) -> None:
    for name, parameters in (("refresh", FEW), ("retrain", TINY)):
        client.update_deployment(deployment(client, name), DeploymentUpdate(parameters=parameters))
    for name in ("worker", "second-worker"):
        composed.start("worker", name, LLM4CDSR_CACHE=str(composed.folder / f"cache-{name}"))
    drop(composed, tmp_path, "monday")
    for name in ("refresh", "retrain"):
        run = wait_for(composed, lambda name=name: ended(client, name), f"no {name} ended")
        assert run.state_name == "Completed", run.state
        assert run.name == f"{name} monday"
    composed.start("recommendations", LLM4CDSR_CACHE=str(composed.folder / "cache-service"))
    composed.wait_for("recommendations", composed.serves)
    assert composed.recorded_runs() >= 3, "Postgres has the records of the runs"
    user = pl.read_parquet(tmp_path / "interactions.parquet")["user_id"][0]
    answer = httpx.get(
        f"{composed.service_url}/users/{user}/recommendations",
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=60,
    )
    assert answer.is_success, answer.text
    assert all(shelf["items"] for shelf in answer.json()["domains"])
