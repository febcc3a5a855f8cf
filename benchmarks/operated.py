"""A machine that `llm4cdsr up` operates, in a folder of its own, for benchmarks to be hard on.

The language model is a stand-in over HTTP that waits before every answer and keeps its own books.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from pydantic import JsonValue

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from artifacts.store import Store  # noqa: E402
from flows.server.machine import Machine, MachineProcess  # noqa: E402
from tests.fakes import CHAT, FaultyServer  # noqa: E402

PATIENCE_SECONDS = 900.0
NEVER = "86400"
"""Seconds between two looks into the dumps folder: its runs would only take the cores."""


@dataclass
class OperatedMachine:
    """Server, worker and deployments, which may be killed and started again."""

    folder: Path
    server: FaultyServer
    port: int
    parameters: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    """Of the deployments; set after every start, which brings them up to date."""

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")

    def up(self) -> None:
        """Starts what is not running."""
        dumps = str(self.folder / "dumps")
        self._command("up", "--port", f"{self.port}", "--dumps", dumps, "--look-every", NEVER)
        with self.client() as client:
            for name, given in self.parameters.items():
                found = client.read_deployment_by_name(f"{name}/{name}")
                client.update_deployment(found.id, DeploymentUpdate(parameters=dict(given)))

    def down(self) -> None:
        """Stops what runs."""
        self._command("down")

    def kill(self, name: str, *, with_children: bool) -> None:
        """Ends the ``server`` or the ``worker`` with ``kill -9``, or with all that it started."""
        path = Machine(self.store).folder / f"{name}.json"
        process = MachineProcess.model_validate_json(path.read_bytes()).pid
        for each in (process, *(_descendants(process) if with_children else ())):
            os.kill(each, signal.SIGKILL)

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """Gives a client of the machine's server."""
        with Machine(self.store, self.port).client() as client:
            yield client

    def order(self, name: str, parameters: Mapping[str, JsonValue] | None = None) -> UUID:
        """Orders a run of a deployment as its schedule would; returns the run."""
        with self.client() as client:
            deployment = client.read_deployment_by_name(f"{name}/{name}")
            given = dict(parameters or {})
            return client.create_flow_run_from_deployment(deployment.id, parameters=given).id

    def run(self, run: UUID) -> FlowRun:
        """Returns a run as it is now."""
        with self.client() as client:
            return client.read_flow_run(run)

    def latest(self, flow: str) -> FlowRun | None:
        """Returns the run of a flow that was ordered last."""
        wanted = FlowRunFilter.model_validate({"name": {"like_": f"{flow} "}})
        with self.client() as client:
            found = client.read_flow_runs(
                flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1
            )
        return found[0] if found else None

    def wait_for_end(self, run: UUID) -> FlowRun:
        """Returns a run when it has ended, however."""
        until(lambda: is_final(self.run(run)))
        return self.run(run)

    def chats(self) -> int:
        """Returns how many chat requests arrived."""
        return self.server.requests_to(CHAT)

    def asked_twice(self) -> int:
        """Returns how many chat requests had been asked before."""
        chats = [exchange.prompts for exchange in self.server.answered if exchange.route == CHAT]
        return self.chats() - len(set(chats))

    def requests(self) -> int:
        """Returns how many requests were answered, whatever for."""
        return len(self.server.answered)

    def _command(self, *arguments: str) -> None:
        kept = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
        subprocess.run(
            [sys.executable, "-m", "flows.cli.entry", *arguments],
            cwd=self.folder,
            env={
                **kept,
                "PYTHONPATH": os.pathsep.join([str(REPOSITORY), kept.get("PYTHONPATH", "")]),
                "LLM4CDSR_STORE": str(self.folder / "store"),
                "LLM4CDSR_CHAT_BASE_URL": self.server.base_url,
                "LLM4CDSR_CHAT_MODEL": "dummy-chat",
                "LLM4CDSR_EMBED_BASE_URL": self.server.base_url,
                "LLM4CDSR_EMBED_MODEL": "dummy-embedding",
            },
            stdout=subprocess.DEVNULL,
            check=True,
        )


def is_final(run: FlowRun) -> bool:
    """Returns whether a run has ended."""
    return run.state is not None and run.state.is_final()


def until(condition: Callable[[], bool]) -> float:
    """Waits for a condition; returns the seconds that it took."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > PATIENCE_SECONDS:
            raise SystemExit(f"nothing happened in {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.1)
    return time.monotonic() - started


def _descendants(process: int) -> list[int]:
    """Returns the processes that a process started, and those that they started (proc(5))."""
    threads = Path(f"/proc/{process}/task").glob("*/children")
    children = [int(child) for path in threads for child in path.read_text().split()]
    return [each for child in children for each in (child, *_descendants(child))]
