"""Ends a run in every stage in every way: does the next run come to the same bytes?

    python benchmarks/crash_matrix.py
    python benchmarks/crash_matrix.py --quick --json crashes.json
    python benchmarks/crash_matrix.py --fault kill --fault 'disk full' --stage train

A reference run on generated data is made once. A cell begins with a copy of its store without what
the harmed stage and those after it make, so that a run begins at that stage; the run is harmed a
random moment after it says that the stage begins, and the next one, unharmed, must end with the
reference's artifacts: the same names, and the same SHA-256 of every file that does not tell of
times. Language models are a stand-in behind HTTP; it, and the Prefect server, are reached through
relays that can be closed. ``--json`` gets each cell when it has ended, with the seconds from the
fault to the end (on a busy machine, of it too), and the last line that the harmed run said; a cell
that the file has already is not run again. Exits with 1 where a cell differs, or a harmed run ended
with a trace.

======================  ============================================================================
kill, terminate, …      a signal
no byte can be written  a limit on the size of files (`ulimit -f`); others on open files and memory
disk full               a real file system, filled to its last byte; emptied for the next run
read-only               a real mount that becomes read-only
endpoint gone           the language model's port is closed; back for the next run
Prefect gone            the Prefect server's port is closed
power loss              the store is on a disk image; when a stage has ended, the image is taken
                        without what the kernel has not written yet, and the next run gets it
clock back, ahead       libfaketime: the clock of the run jumps by a day back, or a month ahead
======================  ============================================================================
"""

import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, cast

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts.manifest import Kind
from benchmarks.crash_places import PowerCutDisk, can_mount, fill, made_read_only, small_disk
from benchmarks.demo_runs import DemoRuns, Run, demo_machine, ends_within
from benchmarks.figures import JsonFile, keep, tell
from benchmarks.preloaded_cli import PreloadedCli, preloaded_cli
from benchmarks.process_faults import LIMITS, SIGNALS
from benchmarks.relay import Relay
from tasks.llm.providers.dummy_endpoint import build_app, running_app
from tasks.llm.providers.dummy_models import CHAT_MODEL, EMBEDDING_MODEL

SECONDS = 300.0
LONGEST_DELAY = 0.5
QUICK_STAGES = ("embed", "profile", "train")
QUICK_FAULTS = ("kill", "no byte can be written")
RUN = ("--verbose", "--epochs", "1", "--preset", "single", "--ablation-users", "40")

STAGES: dict[str, tuple[str, tuple[Kind, ...]]] = {
    "ingest": ("ingest: working", (Kind.DATASET,)),
    "embed": ("ingest: unchanged", (Kind.ITEM_EMBEDDINGS,)),
    "cluster": ("cluster items: working", (Kind.CLUSTERS,)),
    "profile": ("cluster items: unchanged", (Kind.USER_PROFILES,)),
    "name clusters": ("profile users: unchanged", (Kind.CLUSTER_NAMES,)),
    "project": ("project items: working", (Kind.ITEM_TABLES, Kind.REFRESH)),
    "train": ("train: working", (Kind.MODEL,)),
    "evaluate": ("evaluate: working", (Kind.CANDIDATES, Kind.METRICS)),
    "ablate": ("ablate: working", (Kind.ABLATION,)),
    "recommend": ("recommend: working", (Kind.RECOMMENDATIONS,)),
    "report": ("report: working", (Kind.REPORT,)),
    "release": ("report: unchanged", (Kind.RELEASE,)),
}
"""What a run logs when a stage begins whose forerunners are found, and what the stage makes."""

ENDED = {
    "embed": "embed items: done",
    "profile": "profile users: done",
    "name clusters": "name clusters: done",
    "release": "Finished in state",
}
"""What a run logs when a stage has ended, where that is not its name and `done`."""

ENDINGS = ("Failed:", "Not valid:", "Stopped", "Error:")
"""How a command line's last word on a failure begins."""

ASKING = ("embed", "profile", "name clusters")
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
JUMPS = {"clock back": "-1d", "clock ahead": "+30d"}
FILLER = ".filler"
BAD = ("DIFFERENT", "FAILED", "did not end", "a trace")
MOUNTED = ("disk full", "read-only", "power loss")
FAULTS = (
    *SIGNALS,
    *LIMITS,
    "disk full",
    "read-only",
    "endpoint gone",
    "Prefect gone",
    "power loss",
    *JUMPS,
)


@dataclass(frozen=True)
class Bench:
    """What all cells share: the reference run, its checksums, the relays to the servers, and
    command lines whose time is that of the file ``clock``.
    """

    folder: Path
    reference: DemoRuns
    wanted: dict[str, str]
    endpoint: Relay
    prefect: Relay
    timed: PreloadedCli
    clock: Path
    dice: random.Random


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Three stages, two faults.")] = False,
    stage: Annotated[list[str] | None, typer.Option(help="Only these stages.")] = None,
    fault: Annotated[list[str] | None, typer.Option(help="Only these faults.")] = None,
    minutes: Annotated[float, typer.Option(help="No cell begins later than this.")] = 600,
    seed: Annotated[int, typer.Option()] = 0,
    target: JsonFile = None,
) -> None:
    """Runs every cell and tells what came of it."""
    stages = stage or (QUICK_STAGES if quick else tuple(STAGES))
    faults = fault or (QUICK_FAULTS if quick else FAULTS)
    began, figures = time.monotonic(), dict[str, str]()
    if target is not None and target.exists():
        figures = cast(dict[str, str], json.loads(target.read_text("utf-8")))
    with TemporaryDirectory() as name, _bench(Path(name), seed) as bench:
        impossible = _impossible(bench.folder)
        for at, each in _spread(stages, faults):
            cell = f"{at}: {each}"
            if cell in figures or time.monotonic() - began > minutes * 60:
                continue
            since = time.monotonic()
            figures[cell] = impossible.get(each) or _cell(bench, at, each)
            print(f"{cell}: {figures[cell]} ({time.monotonic() - since:.0f} s)", flush=True)
            keep(figures, target)
    tell({"files compared": len(bench.wanted), **figures}, None)
    if any(bad in outcome for outcome in figures.values() for bad in BAD):
        raise typer.Exit(1)


def _spread(stages: Sequence[str], faults: Sequence[str]) -> list[tuple[str, str]]:
    """Returns all cells, those first that have another fault and another stage than each other."""
    numbered = product(enumerate(stages), enumerate(faults))
    in_turns = sorted(numbered, key=lambda cell: ((cell[0][0] - cell[1][0]) % len(stages), cell))
    return [(stage, fault) for (_, stage), (_, fault) in in_turns]


@contextmanager
def _bench(folder: Path, seed: int) -> Iterator[Bench]:
    with ExitStack() as stack:
        variables = stack.enter_context(demo_machine(folder))
        prefect = stack.enter_context(Relay.to(variables["PREFECT_API_URL"]))
        answering = stack.enter_context(running_app(build_app()))
        endpoint = stack.enter_context(Relay.to(f"http://{answering.host}:{answering.port}/v1"))
        variables |= {
            "PREFECT_API_URL": prefect.url,
            "LLM4CDSR_CHAT_BASE_URL": endpoint.url,
            "LLM4CDSR_CHAT_MODEL": CHAT_MODEL,
            "LLM4CDSR_EMBED_BASE_URL": endpoint.url,
            "LLM4CDSR_EMBED_MODEL": EMBEDDING_MODEL,
            "LLM4CDSR_OUTAGE_MINUTES": "0.05",
            "COLUMNS": "500",
        }
        cli = stack.enter_context(preloaded_cli(variables))
        clock = folder / "clock"
        clock.write_text("+0")
        timed = stack.enter_context(preloaded_cli(variables | _timed_by(clock)))
        (folder / "reference").mkdir()
        reference = DemoRuns(folder / "reference", variables, cli, provider=())
        reference.write_dump(seed=3, users=40, items=60)
        reference.finish(*RUN)
        wanted = reference.checksums()
        dice = random.Random(seed)
        yield Bench(folder, reference, wanted, endpoint, prefect, timed, clock, dice)


def _timed_by(clock: Path) -> dict[str, str]:
    """Returns the environment of processes whose clock is as far off as a file says."""
    if not FAKETIME.exists():
        return {}
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _impossible(folder: Path) -> dict[str, str]:
    """Returns the faults that cannot be made here, and why."""
    found: dict[str, str] = {}
    if not can_mount(folder):
        found |= dict.fromkeys(MOUNTED, "not run: nothing can be mounted here")
    if not FAKETIME.exists():
        found |= dict.fromkeys(JUMPS, "not run: libfaketime is not installed")
    return found


def _cell(bench: Bench, stage: str, fault: str) -> str:
    """Returns how the harmed run ended, and whether the next one came to the same bytes."""
    with TemporaryDirectory(dir=bench.folder) as name, ExitStack() as stack:
        folder = Path(name)
        cell = replace(bench.reference, folder=folder)
        for file in bench.reference.folder.glob("*.parquet"):
            shutil.copyfile(file, folder / file.name)
        _copy_until(stage, bench.reference.store.local, folder / "until")
        cell.store.local.mkdir()
        harm, mend = _ways(bench, fault, cell, folder / "until", stack)
        if fault not in MOUNTED:
            shutil.copytree(folder / "until", cell.store.local, dirs_exist_ok=True)
        begins = STAGES[stage][0]
        if fault == "power loss":
            begins = ENDED.get(stage, begins.replace("working", "done"))
        ended = _harmed(bench, cell, begins, fault, harm)
        mend()
        try:
            cell.finish(*RUN)
        except RuntimeError as error:
            return f"{ended}; FAILED: {error}"
        same = cell.checksums() == bench.wanted
    return f"{ended}; {'same' if same else 'DIFFERENT'}"


def _ways(
    bench: Bench, fault: str, cell: DemoRuns, until: Path, stack: ExitStack
) -> tuple[Callable[[Run], None], Callable[[], None]]:
    """Returns how a run is harmed, and how all is made well again before the next."""
    place = cell.store.local
    if fault in SIGNALS or fault in LIMITS:
        return {**SIGNALS, **LIMITS}[fault], lambda: None
    if fault in JUMPS:
        return lambda run: _replace(bench.clock, JUMPS[fault]), lambda: _replace(bench.clock, "+0")
    if fault in ("endpoint gone", "Prefect gone"):
        relay = bench.endpoint if fault == "endpoint gone" else bench.prefect
        return lambda run: relay.close(), relay.open
    if fault == "disk full":
        stack.enter_context(small_disk(place, until))
        filler = place / FILLER
        return lambda run: fill(filler), lambda: filler.unlink(missing_ok=True)
    if fault == "read-only":
        shutil.copytree(until, place, dirs_exist_ok=True)
        mounts = stack.enter_context(ExitStack())

        def make_read_only(run: Run) -> None:
            mounts.enter_context(made_read_only(place))

        return make_read_only, mounts.close
    disk = PowerCutDisk(cell.folder)
    stack.callback(disk.close)
    shutil.copytree(until, disk.place / "store")
    disk.sync()
    place.rmdir()
    place.symlink_to(disk.place / "store")

    def cut(run: Run) -> None:
        run.send_signal(signal.SIGSTOP)
        disk.cut()
        run.send_signal(signal.SIGKILL)

    return cut, disk.restart


def _harmed(
    bench: Bench, cell: DemoRuns, begins: str, fault: str, harm: Callable[[Run], None]
) -> str:
    """Returns how a run ended that was harmed after it had logged a line."""
    cli = bench.timed if fault in JUMPS else cell.cli
    process = replace(cell, cli=cli).start(*RUN)
    deadline = time.monotonic() + SECONDS
    reached = False
    while process.poll() is None and time.monotonic() < deadline and not reached:
        reached = begins in cell.log.read_text("utf-8", "replace")
        time.sleep(0.01)
    harmed = time.monotonic()
    if reached and process.poll() is None:
        if fault != "power loss":
            time.sleep(bench.dice.uniform(0, LONGEST_DELAY))
        harmed = time.monotonic()
        harm(process)
    in_time = ends_within(process, SECONDS)
    took = time.monotonic() - harmed
    said = cell.log.read_text("utf-8", "replace")
    if not in_time:
        return f"did not end: {said[-2000:]}"
    shown = [line.strip() for line in said.splitlines() if line.strip()]
    failed = [number for number, line in enumerate(shown) if line.startswith(ENDINGS)]
    last = " ".join(shown[failed[-1] :] if failed else shown[-1:])
    return (
        f"status {process.wait()}, {took:.0f} s after"
        + (f", a trace ({_traced(said)})" if "Traceback" in said else "")
        + ("" if reached else ", not harmed")
        + f" ({last})"
    )


def _traced(said: str) -> str:
    """Returns what was logged with the first traceback, and the error at its end."""
    lines = said.splitlines()
    at = next(number for number, line in enumerate(lines) if "Traceback" in line)
    rest = (line for line in lines[at + 1 :] if line.strip())
    indent = len(lines[at]) - len(lines[at].lstrip())
    end = next((line for line in rest if len(line) - len(line.lstrip()) <= indent), "")
    return f"{lines[max(at - 1, 0)].strip()} … {end.strip()}"[:300]


def _copy_until(stage: str, store: Path, copy: Path) -> None:
    """Copies a store without what a stage and those after it have made."""
    shutil.copytree(store, copy)
    order = list(STAGES)
    for later in order[order.index(stage) :]:
        for kind in STAGES[later][1]:
            shutil.rmtree(copy / kind, ignore_errors=True)
    shutil.rmtree(copy / "operation")
    for pointer in (copy / "pointers").glob("serving*"):
        pointer.unlink()
    # A part of the ledger holds what several stages asked: all of it goes.
    for asking in ASKING:
        if order.index(stage) <= order.index(asking):
            role = "embedding" if asking == "embed" else "chat"
            shutil.rmtree(copy / "ledger" / role, ignore_errors=True)


def _replace(file: Path, text: str) -> None:
    partial = file.with_suffix(".new")
    partial.write_text(text)
    partial.replace(file)


if __name__ == "__main__":
    typer.run(main)
