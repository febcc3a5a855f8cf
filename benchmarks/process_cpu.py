"""CPU time of this process and all that it started and that still runs (Linux).

On a machine with other work the clock tells who else was there; CPU time tells what a thing costs.
"""

import os
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds_of(process: int) -> float:
    """Returns what a living process has used so far, in all its threads."""
    return _ticks(Path(f"/proc/{process}/stat").read_text(encoding="utf-8")) / TICKS_PER_SECOND


def living_cpu_seconds() -> float:
    """Returns what this process and its living descendants have used so far, in all threads."""
    return sum(cpu_seconds_by_process().values())


def cpu_seconds_by_process() -> dict[int, float]:
    """Returns what this process and each of its living descendants have used so far."""
    ticks: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            content = stat.read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # It ended while we looked.
        pid = int(stat.parent.name)
        ticks[pid] = _ticks(content)
        children.setdefault(int(_fields(content)[1]), []).append(pid)
    found: dict[int, float] = {}
    todo = [os.getpid()]
    while todo:
        pid = todo.pop()
        found[pid] = ticks.get(pid, 0) / TICKS_PER_SECOND
        todo += children.get(pid, [])
    return found


def _ticks(stat: str) -> int:
    """User and system time (proc(5), fields 14 and 15)."""
    fields = _fields(stat)
    return int(fields[11]) + int(fields[12])


def _fields(stat: str) -> list[str]:
    """The fields behind the process's name, which may hold anything."""
    return stat.rpartition(")")[2].split()
