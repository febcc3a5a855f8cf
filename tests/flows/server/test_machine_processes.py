"""`down` leaves no process of a run, whoever started it and whatever it does with SIGTERM."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artifacts.store import Store
from flows.server import machine_processes
from flows.server.machine import FOLDER, Machine, MachineProcess
from flows.server.machine_processes import Process, end, processes_of_runs, start_of

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(flush=True)
time.sleep(600)
"""


@contextmanager
def stubborn(*arguments: str, **variables: str) -> Iterator[Process]:
    """A process in a group of its own that ignores SIGTERM."""
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN, *arguments],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield Process(process.pid, start_of(process.pid) or 0)
        process.kill()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(machine_processes, "STOP_SECONDS", 0.5)
    store = Store(tmp_path / "store")
    store.workspace(FOLDER)
    return Machine(store)


def run_of(machine: Machine, run: str = "a-run") -> dict[str, str]:
    home = (machine.folder / "prefect").resolve()
    return {"PREFECT_HOME": str(home), "PREFECT__FLOW_RUN_ID": run}


def test_a_run_whose_worker_was_killed_is_found_and_ended(machine: Machine) -> None:
    with stubborn(**run_of(machine)) as run:
        dead = MachineProcess(pid=2**22 + 1, started=1, log="worker.log")
        (machine.folder / "worker.json").write_text(dead.model_dump_json())
        assert machine.running() == {}
        machine.stop()
        assert not run.is_alive


def test_a_run_that_ignores_the_signal_ends_with_its_worker(machine: Machine) -> None:
    with stubborn() as worker, stubborn(**run_of(machine)) as run:
        note = MachineProcess(pid=worker.pid, started=worker.started, log="worker.log")
        (machine.folder / "worker.json").write_text(note.model_dump_json())
        assert machine.stop() == ["worker"]
        assert not worker.is_alive
        assert not run.is_alive


def test_runs_of_another_machine_are_left_alone(machine: Machine, tmp_path: Path) -> None:
    home = (machine.folder / "prefect").resolve()
    other = run_of(Machine(Store(tmp_path / "other")))
    with stubborn(**other) as run, stubborn(PREFECT_HOME=str(home)) as command:
        assert processes_of_runs(home) == {}
        machine.stop()
        assert run.is_alive
        assert command.is_alive


def test_runs_are_told_by_their_id(machine: Machine) -> None:
    with stubborn(**run_of(machine, "one")) as one, stubborn(**run_of(machine, "two")) as two:
        home = (machine.folder / "prefect").resolve()
        assert processes_of_runs(home) == {one: "one", two: "two"}


def test_another_process_under_an_old_id_is_not_signalled(machine: Machine) -> None:
    with stubborn() as process:
        end([Process(process.pid, process.started - 1)])
        assert process.is_alive


def test_down_ends_a_server_and_a_worker_that_a_killed_up_did_not_record(machine: Machine) -> None:
    home = {"PREFECT_HOME": run_of(machine)["PREFECT_HOME"]}
    modules = ("flows.server.closed_app", "flows.server.machine_worker")
    with (
        stubborn(*modules[:1], **home) as server,
        stubborn(*modules[1:], **home) as worker,
        stubborn(*modules, PREFECT_HOME="/elsewhere") as other,
    ):
        assert machine.stop() == ["server", "worker"]
        assert (server.is_alive, worker.is_alive, other.is_alive) == (False, False, True)
