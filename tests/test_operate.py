"""A night without anybody: dumps land, a server, a worker and four deployments do the rest.

Real processes from one command: server, worker, `prefect.yaml` as it stands. The pages that an
operator would look at are photographed into ``.ci/output`` (ignored by git).
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import polars as pl
import pytest
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun

from artifacts.bundles import SERVING, parts_of
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from flows.server.machine import Machine
from flows.server.machine_processes import processes_of_runs
from tasks.alerts.stories import RELEASE_STORY
from tasks.alerts.webhook import WEBHOOK_VARIABLE
from tasks.demo.demo_dump import write_demo_dump
from tasks.promoting.promotion import history
from tasks.system.free_port import free_port
from tests.flows.server.command_variables import with_database
from tests.photographs import browser, log_in, photograph

pytestmark = pytest.mark.timeout(3600)

REPOSITORY = Path(__file__).parents[1]
PHOTOGRAPHS = REPOSITORY / ".ci" / "output"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LOOK_EVERY = 12
"""Every look is a process that takes cores from the run it is waited for."""
PATIENCE_SECONDS = 900
"""For a machine with much else to do; the clock is never what is tested."""

TINY = {
    "training": {"preset": "single", "overrides": {"train": {"max_epochs": 1, "refit": False}}},
    "ablation": {"users": 0},
}


class Inbox(HTTPServer):
    """The operator's webhook."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.told: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/a-secret-path"


class _Handler(BaseHTTPRequestHandler):
    server: Inbox  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@dataclass
class Operated:
    """A machine in a folder of its own, and what happened on it."""

    folder: Path
    port: int
    inbox: Inbox
    first: FlowRun | None = None
    broken: FlowRun | None = None
    served: list[ArtifactRef | None] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")

    @property
    def machine(self) -> Machine:
        return Machine(self.store, self.port)

    def command(self, *arguments: str) -> None:
        """Runs a command as a person would: from anywhere, with an environment of its own."""
        kept = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli.entry", *arguments],
            cwd=self.folder,
            env={
                **kept,
                "PYTHONPATH": os.pathsep.join([str(REPOSITORY), kept.get("PYTHONPATH", "")]),
                "LLM4CDSR_STORE": str(self.folder / "store"),
                "LLM4CDSR_PROVIDER": "dummy",
                WEBHOOK_VARIABLE: self.inbox.url,
            },
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def drop(self, name: str, *, broken: bool = False, marked: bool = False) -> None:
        """Copies a dump in as a careless export would: file by file, under its final name."""
        write_demo_dump(self.folder / "export", seed=3, users=40, items=60)
        target = self.folder / "dumps" / name
        target.mkdir()
        shutil.copy(self.folder / "export" / "items.parquet", target)
        whole = (self.folder / "export" / "interactions.parquet").read_bytes()
        content = whole[: len(whole) // 2] if broken else whole
        (target / "interactions.parquet").write_bytes(content)
        if marked:
            (target / "_SUCCESS").touch()

    def wait_for_run(self, name: str) -> FlowRun:
        """Returns the first finished run of this name."""
        wanted = FlowRunFilter.model_validate({"name": {"any_": [name]}})

        def finished() -> FlowRun | None:
            with self.machine.client() as client:
                runs = client.read_flow_runs(flow_run_filter=wanted)
            return next((run for run in runs if run.state and run.state.is_final()), None)

        return self.wait(finished, f"no finished run {name}")

    def make_training_short(self) -> None:
        with self.machine.client() as client:
            found = client.read_deployment_by_name("pipeline/pipeline")
            few = {"clusters": {"clusters": 4}, "profiles": {"max_users": 15}}
            parameters = {"retraining": TINY, "refreshing": few}
            client.update_deployment(found.id, DeploymentUpdate(parameters=parameters))

    def wait(self, look: Callable[[], FlowRun | None], fault: str) -> FlowRun:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if found := look():
                return found
            time.sleep(1)
        logs = [
            f"{path.name}:\n{path.read_text(errors='replace')[-3000:]}"
            for path in sorted(self.folder.glob("store/work/machine/*.log"))
        ]
        raise AssertionError("\n".join([fault, *logs]))


@pytest.fixture(scope="module")
def operated(
    tmp_path_factory: pytest.TempPathFactory, prefect_database: Path
) -> Iterator[Operated]:
    """The night: a dump lands and is served; a torn one follows. Nobody touches anything."""
    port = free_port()
    inbox = Inbox()
    threading.Thread(target=inbox.serve_forever, daemon=True).start()
    machine = Operated(tmp_path_factory.mktemp("night"), port, inbox)
    with_database(machine.machine.folder / "prefect", prefect_database)
    dumps = str(machine.folder / "dumps")
    try:
        machine.command(
            "up", "--port", str(port), "--dumps", dumps, "--look-every", f"{LOOK_EVERY}"
        )
        machine.make_training_short()
        machine.drop("monday")
        machine.first = machine.wait_for_run("pipeline monday")
        machine.served.append(machine.store.pointed(SERVING))
        machine.drop("tuesday", broken=True, marked=True)
        machine.broken = machine.wait_for_run("pipeline tuesday")
        machine.served.append(machine.store.pointed(SERVING))
        yield machine
    finally:
        machine.command("down")
        assert processes_of_runs((machine.machine.folder / "prefect").resolve()) == {}
        inbox.shutdown()
        inbox.server_close()


def test_a_dump_that_lands_becomes_a_served_model_by_itself(operated: Operated) -> None:
    run = operated.first
    assert run is not None
    assert run.state_name == "Completed", run.state
    assert run.parameters["folder"] == str(operated.folder / "dumps" / "monday")
    release = operated.served[0]
    assert release is not None
    parts = parts_of(operated.store, release)
    folder = operated.store.path(parts["recommendations"])
    users = pl.read_parquet(folder / "recommendations.parquet")["user_id"].n_unique()
    assert users == 40
    assert [entry.release for entry in history(operated.store)] == [release]


def test_a_broken_dump_fails_its_own_run_and_yesterdays_model_stays(operated: Operated) -> None:
    run = operated.broken
    assert run is not None
    assert run.state is not None
    assert run.state_name == "Failed"
    assert "tuesday/interactions.parquet cannot be read" in (run.state.message or "")
    assert operated.served[1] == operated.served[0]


def test_the_operator_is_told_of_both(operated: Operated) -> None:
    end = time.monotonic() + 60  # The alert follows the run's end.
    while len(operated.inbox.told) < 2 and time.monotonic() < end:
        time.sleep(0.5)
    told = {document["run"]: document for document in operated.inbox.told}
    assert told["pipeline monday"]["state"] == "Completed"
    assert "cannot be read" in told["pipeline tuesday"]["message"]
    assert told["pipeline tuesday"]["link"].startswith(f"http://127.0.0.1:{operated.port}/runs/")
    assert "refresh monday" not in told  # A part of the pipeline's run.
    for log in operated.folder.rglob("*.log"):
        assert "a-secret-path" not in log.read_text(errors="replace")


def test_the_credential_is_in_no_log_database_or_command_line(operated: Operated) -> None:
    secret = operated.machine.credential.partition(":")[2].encode()
    processes = [service.pid for service in operated.machine.running().values()]
    assert len(processes) == 2
    for process in processes:
        assert secret not in Path(f"/proc/{process}/cmdline").read_bytes()
    files = [path for path in operated.folder.rglob("*") if path.is_file()]
    holding = [path for path in files if secret in path.read_bytes()]
    assert holding == [operated.machine.login_file]


def test_the_same_dump_under_another_name_starts_nothing(operated: Operated) -> None:
    operated.drop("wednesday", marked=True)
    memory = next((operated.folder / "store" / "operation").glob("watch-*.json"))
    operated.wait(
        lambda: operated.first if "wednesday" in memory.read_text() else None, "never looked at"
    )
    assert len(json.loads(memory.read_text())["announced"]) == 2  # Monday's and Tuesday's.


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: the UI is not photographed")
def test_the_pages_an_operator_looks_at_are_photographed(operated: Operated) -> None:
    assert operated.first is not None
    assert operated.broken is not None
    artifact = _latest_artifact(operated, RELEASE_STORY)
    pages = {
        "run": (f"runs/flow-run/{operated.first.id}", "submitting flow run"),
        "failed-run": (f"runs/flow-run/{operated.broken.id}", "submitting flow run"),
        "artifact": (f"artifacts/artifact/{artifact}", "Quality on held-out test events"),
        "deployments": ("deployments", "watch"),
    }
    with browser(CHROMIUM or "", operated.folder / "chrome") as devtools:
        log_in(devtools, operated.machine.ui_url, operated.machine.credential)
        for name, (page, words) in pages.items():
            url = f"{operated.machine.ui_url}/{page}"
            photograph(devtools, url, words, PHOTOGRAPHS / f"{name}.png")


def _latest_artifact(operated: Operated, key: str) -> str:
    # Not `/artifacts/KEY/latest`: the id that it gives has no page.
    wanted = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC", "limit": 1}
    user, _, password = operated.machine.credential.partition(":")
    found = httpx.post(
        f"{operated.machine.api_url}/artifacts/filter",
        json=wanted,
        auth=(user, password),
        timeout=60,
    )
    return found.raise_for_status().json()[0]["id"]
