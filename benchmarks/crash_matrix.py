"""Ends a run in every stage in every way: does the next run come to the same bytes?

    python benchmarks/crash_matrix.py
    python benchmarks/crash_matrix.py --quick --json crashes.json

A run on a made-up shop with the dummy endpoint is harmed as soon as it says that a stage begins:
ended by ``SIGKILL``, ``SIGTERM`` or ``SIGINT``, or limited so that no byte can be written, no file
be opened or no memory be had. The next run, unharmed, must end with the artifacts of a run that
nothing happened to: the same names, and the same SHA-256 of every file that does not tell of times.
Exits with 1 where a cell differs.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.demo_runs import STAGES, DemoRuns, demo_machine
from benchmarks.figures import tell

Process = subprocess.Popen[bytes]
SECONDS = 600.0
QUICK_STAGES = ("embed", "profile", "train")
QUICK_FAULTS = ("kill", "no byte can be written")


def _signal(number: int) -> Callable[[Process], None]:
    return lambda process: process.send_signal(number)


def _limit(kind: int, most: Callable[[int], int]) -> Callable[[Process], None]:
    def set_limit(process: Process) -> None:
        resource.prlimit(process.pid, kind, (most(process.pid), most(process.pid)))

    return set_limit


def _address_space(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE") + (1 << 20)


FAULTS: dict[str, Callable[[Process], None]] = {
    "kill": _signal(signal.SIGKILL),
    "terminate": _signal(signal.SIGTERM),
    "interrupt": _signal(signal.SIGINT),
    "no byte can be written": _limit(resource.RLIMIT_FSIZE, lambda pid: 0),
    "no file can be opened": _limit(resource.RLIMIT_NOFILE, lambda pid: 0),
    "no memory": _limit(resource.RLIMIT_AS, _address_space),
}


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Three stages, two faults.")] = False,
    target: Annotated[Path | None, typer.Option("--json", help="Write the figures there.")] = None,
) -> None:
    """Runs every cell and tells what came of it."""
    figures: dict[str, object] = {}
    with TemporaryDirectory() as name, demo_machine(Path(name)) as variables:
        reference = _shop(Path(name) / "reference", variables)
        reference.finish()
        wanted = reference.checksums()
        for stage in QUICK_STAGES if quick else STAGES:
            for fault in QUICK_FAULTS if quick else FAULTS:
                cell = _shop(Path(name) / f"{stage} {fault}", variables)
                ended = _harmed(cell, STAGES[stage], FAULTS[fault])
                cell.finish()
                same = cell.checksums() == wanted
                figures[f"{stage}: {fault}"] = f"{ended}; {'same' if same else 'DIFFERENT'}"
                print(f"{stage}: {fault}: {figures[f'{stage}: {fault}']}", flush=True)
    tell({"files compared": len(wanted), **figures}, target)
    if any("DIFFERENT" in str(outcome) for outcome in figures.values()):
        raise typer.Exit(1)


def _shop(folder: Path, variables: dict[str, str]) -> DemoRuns:
    folder.mkdir()
    shop = DemoRuns(folder, variables)
    shop.write_dump(seed=3)
    return shop


def _harmed(cell: DemoRuns, begins: str, harm: Callable[[Process], None]) -> str:
    """Returns how a run ended that was harmed when a stage began."""
    process = cell.start("--verbose")
    deadline = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if begins in cell.log.read_text("utf-8", "replace"):
            harm(process)
            break
        time.sleep(0.02)
    try:
        status = process.wait(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return "did not end"
    said = cell.log.read_text("utf-8", "replace")
    return f"status {status}" + (", a trace" if "Traceback" in said else "")


if __name__ == "__main__":
    typer.run(main)
