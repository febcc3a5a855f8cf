"""What a night costs, through a real server and worker: a run cancelled while it profiles, the
next one, and a refresh of an unchanged dump.

The language model is a stand-in over HTTP that waits before every answer and counts requests.
Exits with 1 where a count is not as it must be.

    python benchmarks/night.py --help
    python benchmarks/night.py --dump folder/with/a/dump --json night.json
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from uuid import UUID

from operated import OperatedMachine, until
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelling
from pydantic import JsonValue

from tasks.system.free_port import free_port

sys.path.insert(0, str(Path(__file__).parents[1]))

from tasks.demo.demo_dump import write_demo_dump
from tests.fakes import FaultPlan, FaultyServer, faulty_endpoint

IN_FLIGHT = 64
"""The chat concurrency: more cannot be asked twice."""
QUIET_SECONDS = 5.0
"""Without a request for so long, no more come."""
UNCHANGED_RUNS = 3
"""Refreshes of an unchanged dump, of which the median counts."""


def main() -> None:
    """Prints one line a figure."""
    parser = argparse.ArgumentParser(
        description="Cancel a refresh, let the next one finish, refresh an unchanged dump."
    )
    parser.add_argument("--dump", type=Path, help="a dump's folder; a made-up one without it")
    parser.add_argument("--users", type=int, default=400, help="of the made-up dump")
    parser.add_argument("--profiles", type=int, default=300, help="users with a profile")
    parser.add_argument("--latency", type=float, default=0.3, help="seconds of every answer")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dump = arguments.dump or folder / "demo"
        if arguments.dump is None:
            write_demo_dump(dump, seed=3, users=arguments.users, items=200)
        with faulty_endpoint(FaultPlan(latency_s=arguments.latency)) as server:
            figures = measured(folder, dump.resolve(), server, arguments.profiles)
    for label, value in figures.items():
        print(f"{label:<44} {value:>10,}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    if figures["asked twice"] > IN_FLIGHT or figures["unchanged: requests"]:
        raise SystemExit(1)


def measured(folder: Path, dump: Path, server: FaultyServer, profiles: int) -> dict[str, float]:
    """Returns the figures, from a machine of its own that is stopped at the end."""
    config: JsonValue = {"profiles": {"max_users": profiles}}
    given = {"refresh": {"config": config}}
    machine = OperatedMachine(folder, server, free_port(), parameters=given)
    try:
        machine.up()
        return Night(machine, dump).figures()
    finally:
        machine.down()


@dataclass(frozen=True)
class Night:
    """Refreshes of one dump by the deployment."""

    machine: OperatedMachine
    dump: Path

    def figures(self) -> dict[str, float]:
        """Cancels, continues, repeats; returns what it took."""
        with self.machine.client() as client:
            # Its cores would be missing where seconds are measured.
            for training in client.read_automations_by_name("retrain after a refresh with news"):
                client.pause_automation(training.id)
        cancelled = self.cancel_while_profiling()
        self.wait_for_completion(self.refresh())
        chats, twice = self.machine.chats(), self.machine.asked_twice()
        before = self.machine.requests()
        unchanged = [self.legs(self.refresh()) for _ in range(UNCHANGED_RUNS)]
        return {
            **cancelled,
            "chat requests of both runs": chats,
            "asked twice": twice,
            **{
                f"unchanged: seconds {leg}": round(median(run[leg] for run in unchanged), 1)
                for leg in unchanged[0]
            },
            "unchanged: requests": self.machine.requests() - before,
        }

    def cancel_while_profiling(self) -> dict[str, float]:
        """Returns how long requests went on, and how long the run took to be cancelled."""
        run = self.refresh()
        until(lambda: self.machine.chats() > 3 * IN_FLIGHT)
        at_cancel, started = self.machine.chats(), time.monotonic()
        with self.machine.client() as client:
            client.set_flow_run_state(run, Cancelling())
        last, count = started, at_cancel
        cancelled = 0.0
        while not cancelled or time.monotonic() - last < QUIET_SECONDS:
            if (now := self.machine.chats()) > count:
                last, count = time.monotonic(), now
            state = self.machine.run(run).state
            if not cancelled and state is not None and state.is_final():
                assert state.is_cancelled(), state
                cancelled = time.monotonic() - started
            time.sleep(0.1)
        return {
            "cancel: chat requests before": at_cancel,
            "cancel: seconds until the last request": round(last - started, 1),
            "cancel: seconds until the run is Cancelled": round(cancelled, 1),
        }

    def legs(self, run: UUID) -> dict[str, float]:
        """Returns where the seconds of a run went, once it has ended."""
        self.wait_for_completion(run)
        with self.machine.client() as client:
            reached = {
                state.type: state.timestamp.timestamp()
                for state in client.read_flow_run_states(run)
            }
        ordered, taken, begun, ended = (
            reached[kind]
            for kind in (
                StateType.SCHEDULED,
                StateType.PENDING,
                StateType.RUNNING,
                StateType.COMPLETED,
            )
        )
        return {
            "until a worker takes it": taken - ordered,
            "until its process runs": begun - taken,
            "of the run": ended - begun,
            "in all": ended - ordered,
        }

    def refresh(self) -> UUID:
        """Orders a refresh; returns its run."""
        return self.machine.order("refresh", {"folder": str(self.dump)})

    def wait_for_completion(self, run: UUID) -> FlowRun:
        """Waits for a run to end as it should."""
        ended = self.machine.wait_for_end(run)
        if ended.state is None or not ended.state.is_completed():
            raise SystemExit(f"the refresh ended as {ended.state}")
        return ended


if __name__ == "__main__":
    main()
