"""Whoever can write to the Prefect API may order runs of our flows, and run nothing else."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_AUTH_STRING
from pydantic import JsonValue

from flows.server.machine_worker import (
    FIXED,
    FLOWS,
    POOL_TEMPLATE,
    MachineWorker,
    run_environment,
    worker_command,
)
from tests.photographs import wait_until

REPOSITORY = Path(__file__).parents[3]
POOL = "attacked"
OPEN_TEMPLATE: dict[str, JsonValue] = {
    "job_configuration": {
        "command": "{{ command }}",
        "env": "{{ env }}",
        "working_dir": "{{ working_dir }}",
    },
    "variables": {
        "type": "object",
        "properties": {
            "command": {"type": "string"},
            "env": {"type": "object"},
            "working_dir": {"type": "string"},
        },
    },
}


@dataclass(frozen=True)
class Attacked:
    """A worker on a server that somebody else may write to; ``mark`` is what an attack leaves."""

    folder: Path
    client: SyncPrefectClient

    @property
    def mark(self) -> Path:
        return self.folder / "mark"

    def order(self, name: str, **hostile: JsonValue) -> FlowRun:
        """Returns a run of a deployment with these fields."""
        run_fields = hostile.pop("run", {})
        flow = self.client.create_flow_from_name(name)
        made = self.client.request(
            "POST",
            "/deployments/",
            json={
                "name": name,
                "flow_id": str(flow),
                "work_pool_name": POOL,
                "job_variables": {},
                **hostile,
            },
        )
        answer = self.client.request(
            "POST",
            "/deployments/{id}/create_flow_run",
            path_params={"id": made.json()["id"]},
            json=run_fields,
        )
        return FlowRun.model_validate(answer.json())

    def ended(self, run: UUID) -> FlowRun:
        found = wait_until(lambda: self._final(run), "the run does not end")
        assert found is not None
        return found

    def _final(self, run: UUID) -> FlowRun | None:
        found = self.client.read_flow_run(run)
        return found if found.state and found.state.is_final() else None


@pytest.fixture(scope="module")
def attacked(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "dumps").mkdir()
    kept = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    with get_client(sync_client=True) as client:
        client.create_work_pool(
            WorkPoolCreate(name=POOL, type=MachineWorker.type, base_job_template=POOL_TEMPLATE)
        )
        with (folder / "worker.log").open("wb") as log:
            worker = subprocess.Popen(
                worker_command(POOL, "attacked"),
                cwd=folder,
                env={
                    **kept,
                    "PYTHONPATH": str(REPOSITORY),
                    "PREFECT_HOME": str(folder / "prefect"),
                    "PREFECT_API_URL": prefect_server,
                    "PREFECT_API_AUTH_STRING": PREFECT_API_AUTH_STRING.value() or "",
                    "PREFECT_WORKER_QUERY_SECONDS": "1",
                    "LLM4CDSR_STORE": str(folder / "store"),
                    "LLM4CDSR_DUMPS": str(folder / "dumps"),
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield Attacked(folder, client)
        finally:
            worker.terminate()
            worker.wait(timeout=60)


def test_job_variables_are_refused_by_the_api(attacked: Attacked) -> None:
    attempts: list[dict[str, JsonValue]] = [
        {"command": "id"},
        {"env": {"LD_PRELOAD": "x"}},
        {"working_dir": "/tmp"},
    ]
    for hostile in attempts:
        with pytest.raises(PrefectHTTPStatusError, match="not allowed"):
            attacked.order("watch", job_variables=hostile)
        with pytest.raises(PrefectHTTPStatusError, match="not allowed"):
            attacked.order("watch", run={"job_variables": hostile})


def test_a_worker_believes_nothing_that_the_api_says_of_how_to_run(attacked: Attacked) -> None:
    """Also where the attacker opened the work pool first."""
    evil = attacked.folder / "evil.py"
    evil.write_text(f"open({str(attacked.mark)!r}, 'a').write('code')")
    steps: JsonValue = [
        {"prefect.deployments.steps.run_shell_script": {"script": f"touch {attacked.mark}"}}
    ]
    hostile: dict[str, JsonValue] = {
        "command": f"touch {attacked.mark}",
        "env": {
            "PREFECT__FLOW_ENTRYPOINT": f"{evil}:evil",
            "PYTHONSTARTUP": str(evil),
            "LLM4CDSR_DUMPS": "/",
            "LLM4CDSR_STORE": str(attacked.folder / "elsewhere"),
        },
        "working_dir": str(attacked.folder),
    }
    attacked.client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=OPEN_TEMPLATE))
    try:
        run = attacked.order(
            "watch",
            entrypoint=f"{evil}:evil",
            path=str(attacked.folder),
            pull_steps=steps,
            job_variables=hostile,
            run={"job_variables": hostile},
        )
        killed = attacked.order("watch", pull_steps=steps)
        wait_until(lambda: _kill(attacked.client.read_flow_run(killed.id)), "it does not start")
        done, crashed = attacked.ended(run.id), attacked.ended(killed.id)
    finally:
        attacked.client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=POOL_TEMPLATE))
    # It ran, as what it is: a look into the machine's folder, noted in the machine's store.
    assert done.state_name == "Completed", done.state
    assert (attacked.folder / "store" / "operation").is_dir()
    assert not (attacked.folder / "elsewhere").exists()
    # The hooks of a run whose process was killed run in the worker.
    assert crashed.state_name == "Crashed"
    assert not attacked.mark.exists()


def _kill(run: FlowRun) -> bool:
    if not run.infrastructure_pid:
        return False
    os.kill(int(run.infrastructure_pid), signal.SIGKILL)
    return True


def test_a_deployment_of_another_name_is_not_run(attacked: Attacked) -> None:
    steps: JsonValue = [
        {"prefect.deployments.steps.run_shell_script": {"script": f"touch {attacked.mark}"}}
    ]
    run = attacked.ended(attacked.order("mine", pull_steps=steps, entrypoint="x.py:x").id)
    assert run.state_name == "Crashed"
    assert "this machine runs refresh, retrain, pipeline, watch" in str(run.state)
    assert not attacked.mark.exists()


@pytest.mark.parametrize(
    ("name", "parameters", "told"),
    [
        ("watch", {"dumps": "/etc"}, "is not in the dumps folder"),
        ("watch", {"store": "/tmp/elsewhere"}, "this machine works on"),
        (
            "refresh",
            {"llm": {"chat": {"base_url": "http://shop.example/v1", "model": "m"}}},
            "llm.chat.base_url: a setting of the machine",
        ),
        (
            "pipeline",
            {"folder": "dumps", "llm": {"local_gpu_python": "/tmp/evil"}},
            "is not in the dumps folder",
        ),
        (
            "retrain",
            {"refreshed": {"kind": "refresh", "fingerprint": "../../evil"}},
            "is not the name of a folder",
        ),
    ],
)
def test_parameters_of_the_machine_fail_a_run_in_one_line(
    attacked: Attacked, name: str, parameters: dict[str, JsonValue], told: str
) -> None:
    run = attacked.ended(attacked.order(name, run={"parameters": parameters}).id)
    assert run.state_name == "Failed"
    assert told in (run.state.message or "" if run.state else "")


def test_a_stored_result_is_not_read() -> None:
    script = """
from flows.server.flow_run_process import StoredResultRefusedError, refuse_stored_results
from prefect.serializers import Serializer
refuse_stored_results()
for kind in Serializer.__subclasses__():
    for given in (kind, *kind.__subclasses__()):
        if given.__name__ == "UnknownSerializer":  # Prefect's own refusal of other names.
            continue
        try:
            given.model_construct().loads(b"gASVKAAAAAAAAAA=")
        except StoredResultRefusedError:
            continue
        raise SystemExit(f"{given} reads")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_machines_environment_wins_over_the_defaults_of_a_run() -> None:
    given = run_environment(
        {"LLM4CDSR_STAGE_RETRIES": "0", "OTHER": "1", **dict.fromkeys(FIXED, "")}
    )
    assert given["LLM4CDSR_STAGE_RETRIES"] == "0"
    assert given["LLM4CDSR_FLOW_TIMEOUT_HOURS"] == "24"
    assert given["OTHER"] == "1"
    assert given["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] == "CRITICAL"


def test_every_flow_that_may_run_is_there() -> None:
    for entrypoint in FLOWS.values():
        assert Path(entrypoint.rpartition(":")[0]).is_file()
