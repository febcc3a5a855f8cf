"""What a night costs, through a real server and worker: a run cancelled while it profiles, the
next one, and a refresh of an unchanged dump.

The language model is a stand-in over HTTP that waits before every answer and counts requests.
Exits with 1 where a count is not as it must be.

    python benchmarks/night.py --help
    python benchmarks/night.py --dump folder/with/a/dump --json night.json
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from tasks.demo_dump import write_demo_dump  # noqa: E402
from tests.fakes import CHAT, FaultPlan, FaultyServer, faulty_endpoint  # noqa: E402

IN_FLIGHT = 64
"""The chat concurrency: more cannot be asked twice."""
PATIENCE_SECONDS = 900.0


def main() -> None:
    """Prints one line a figure."""
    parser = argparse.ArgumentParser(
        description="Cancel a refresh, let the next one finish, refresh an unchanged dump."
    )
    parser.add_argument("--dump", type=Path, help="a dump's folder; a made-up one without it")
    parser.add_argument("--users", type=int, default=400, help="of the made-up dump")
    parser.add_argument("--latency", type=float, default=0.3, help="seconds of every answer")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dump = arguments.dump or folder / "demo"
        if arguments.dump is None:
            write_demo_dump(dump, seed=3, users=arguments.users, items=200)
        with faulty_endpoint(FaultPlan(latency_s=arguments.latency)) as server:
            figures = measured(folder, dump.resolve(), server)
    for label, value in figures.items():
        print(f"{label:<44} {value:>10,}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    if figures["asked twice"] > IN_FLIGHT or figures["unchanged: requests"]:
        raise SystemExit(1)


def measured(folder: Path, dump: Path, server: FaultyServer) -> dict[str, float]:
    """Returns the figures, from a machine of its own that is stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    api = f"http://127.0.0.1:{port}/api"
    try:
        command(folder, server, "up", "--port", f"{port}", "--dumps", str(folder / "dumps"))
        with (
            temporary_settings({PREFECT_API_URL: api}),
            get_client(sync_client=True) as client,
        ):
            return Night(client, dump, server).figures()
    finally:
        command(folder, server, "down")


@dataclass(frozen=True)
class Night:
    """Refreshes of one dump by the deployment."""

    client: SyncPrefectClient
    dump: Path
    server: FaultyServer

    def figures(self) -> dict[str, float]:
        """Cancels, continues, repeats; returns what it took."""
        # Its cores would be missing where seconds are measured.
        for training in self.client.read_automations_by_name("retrain after a refresh with news"):
            self.client.pause_automation(training.id)
        cancelled = self.cancel_while_profiling()
        continued = self.refresh()
        self.wait_for_end(continued)
        chats = [exchange.prompts for exchange in self.server.answered if exchange.route == CHAT]
        asked = self.server.requests_to(CHAT)
        before = self.requests()
        started = time.monotonic()
        unchanged = self.wait_for_end(self.refresh())
        return {
            **cancelled,
            "chat requests of both runs": asked,
            "asked twice": asked - len(set(chats)),
            "unchanged: seconds from order to end": round(time.monotonic() - started, 1),
            "unchanged: seconds of the run": round(unchanged.total_run_time.total_seconds(), 1),
            "unchanged: requests": self.requests() - before,
        }

    def cancel_while_profiling(self) -> dict[str, float]:
        """Returns how long requests went on, and how long the run took to be cancelled."""
        run = self.refresh()
        until(lambda: self.server.requests_to(CHAT) > 3 * IN_FLIGHT)
        at_cancel, started = self.server.requests_to(CHAT), time.monotonic()
        self.client.set_flow_run_state(run, Cancelling())
        last, count = started, at_cancel
        cancelled = 0.0
        while not cancelled or time.monotonic() - last < 5:
            if (now := self.server.requests_to(CHAT)) > count:
                last, count = time.monotonic(), now
            state = self.client.read_flow_run(run).state
            if not cancelled and state is not None and state.is_final():
                assert state.is_cancelled(), state
                cancelled = time.monotonic() - started
            time.sleep(0.1)
        return {
            "cancel: chat requests before": at_cancel,
            "cancel: seconds until the last request": round(last - started, 1),
            "cancel: seconds until the run is Cancelled": round(cancelled, 1),
        }

    def refresh(self) -> UUID:
        """Orders a refresh; returns its run."""
        deployment = self.client.read_deployment_by_name("refresh/refresh")
        given = {"folder": str(self.dump)}
        return self.client.create_flow_run_from_deployment(deployment.id, parameters=given).id

    def requests(self) -> int:
        return len(self.server.answered)

    def wait_for_end(self, run: UUID) -> FlowRun:
        """Waits for a run to complete."""

        def is_final() -> bool:
            state = self.client.read_flow_run(run).state
            return state is not None and state.is_final()

        until(is_final)
        ended = self.client.read_flow_run(run)
        if ended.state is None or not ended.state.is_completed():
            raise SystemExit(f"the refresh ended as {ended.state}")
        return ended


def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing happened in {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.1)


def command(folder: Path, server: FaultyServer, *arguments: str) -> None:
    """Runs a command of ours with an environment of its own."""
    kept = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    subprocess.run(
        [sys.executable, "-m", "flows.entry", *arguments],
        cwd=folder,
        env={
            **kept,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), kept.get("PYTHONPATH", "")]),
            "LLM4CDSR_STORE": str(folder / "store"),
            "LLM4CDSR_CHAT_BASE_URL": server.base_url,
            "LLM4CDSR_CHAT_MODEL": "dummy-chat",
            "LLM4CDSR_EMBED_BASE_URL": server.base_url,
            "LLM4CDSR_EMBED_MODEL": "dummy-embedding",
        },
        stdout=subprocess.DEVNULL,
        check=True,
    )


if __name__ == "__main__":
    main()
