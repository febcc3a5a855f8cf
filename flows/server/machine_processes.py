"""Processes of one machine: found, distinguished from later ones with the same id, and ended.

A run outlives its worker where only the worker is killed, and then belongs to no process group that
is known. It is found by its environment: that of the machine's Prefect home, with a run's id.
"""

import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 30.0
"""Between SIGTERM and SIGKILL; a run records its end and sends its alert in it."""

_POLL_SECONDS = 0.2
_RUN_ID = "PREFECT__FLOW_RUN_ID="


@dataclass(frozen=True)
class Process:
    """A process. ``started``: clock ticks since boot (proc(5)), because ids are reused."""

    pid: int
    started: int

    @property
    def is_alive(self) -> bool:
        return start_of(self.pid) == self.started


def start_of(pid: int) -> int | None:
    """Returns the start time of a process; None if it is dead or a zombie."""
    try:
        # The name is arbitrary; fields after its closing bracket: state, …, start time.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def processes_of_runs(home: Path) -> dict[Process, str]:
    """Returns the living processes of runs, children included, with the id of their run.

    Args:
        home: Prefect home of the machine.
    """
    found: dict[Process, str] = {}
    for process, _, variables in _with_home(home):
        run = next((line for line in variables if line.startswith(_RUN_ID)), None)
        if run:
            found[process] = run.removeprefix(_RUN_ID)
    return found


def processes_of_module(home: Path, module: str) -> list[Process]:
    """Returns the living processes that run a module in a Prefect home, also those that a killed
    `up` started and did not record."""
    return [process for process, arguments, _ in _with_home(home) if module in arguments]


def _with_home(home: Path) -> Iterator[tuple[Process, list[str], list[str]]]:
    """Yields the living processes of a Prefect home with their arguments and variables."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_text(errors="replace").split("\0")
            arguments = (folder / "cmdline").read_text(errors="replace").split("\0")
        except OSError:  # Another user's, or ended in the meantime.
            continue
        started = start_of(int(folder.name))
        if started and f"PREFECT_HOME={home}" in variables:
            yield Process(int(folder.name), started), arguments, variables


def end(processes: Iterable[Process]) -> None:
    """Ends processes with SIGTERM, after `STOP_SECONDS` with SIGKILL, and waits for their end."""
    left = _signal(processes, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        left = [process for process in left if process.is_alive]
    left = _signal(left, signal.SIGKILL)
    while any(process.is_alive for process in left):
        time.sleep(_POLL_SECONDS)


def _signal(processes: Iterable[Process], number: signal.Signals) -> list[Process]:
    """Sends a signal to the living of some processes, which are returned."""
    living = [process for process in processes if process.is_alive]
    for process in living:
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:  # It ended in the meantime.
            continue
    return living
