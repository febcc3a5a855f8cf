"""Faults of a running process: signals, and limits that make it fail as a sick machine would."""

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

from benchmarks.demo_runs import Run

Fault = Callable[[Run], None]


def _signal(number: int) -> Fault:
    return lambda process: process.send_signal(number)


def _limit(kind: int, most: Callable[[int], int]) -> Fault:
    def set_limit(process: Run) -> None:
        resource.prlimit(process.pid, kind, (most(process.pid), most(process.pid)))

    return set_limit


def _address_space(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE") + (1 << 20)


SIGNALS: dict[str, Fault] = {
    "kill": _signal(signal.SIGKILL),
    "terminate": _signal(signal.SIGTERM),
    "interrupt": _signal(signal.SIGINT),
}
LIMITS: dict[str, Fault] = {
    "no byte can be written": _limit(resource.RLIMIT_FSIZE, lambda pid: 0),
    "no file can be opened": _limit(resource.RLIMIT_NOFILE, lambda pid: 0),
    "no memory": _limit(resource.RLIMIT_AS, _address_space),
}
