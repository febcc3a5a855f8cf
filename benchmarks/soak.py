"""Refreshes and retrains again and again beside `llm4cdsr up`, with random faults: does it grow?

    python benchmarks/soak.py --cycles 200
    python benchmarks/soak.py --quick --json soak.json

A cycle stands for a day: it brings one of a few dumps, and runs everything with the dummy endpoint,
recorded by the server of `up`. Some runs are ended at a random moment (kill, terminate, interrupt,
no byte can be written), and the next cycle has to cope with what they left. After each, files of
the store and records of the server are made a day older, so that what is to be deleted after days
is, and the store is cleaned but for one earlier release. Told are the sizes of the store, its
ledger and the server's database, and the memory of server and worker. After a harmed run the store
holds what the next could go on with, after an unharmed one two releases or, where the gate held
some, three: cycles from the fiftieth on are compared with those that are alike in this.
Exits with 1 where an unharmed run fails, the store is not whole, or, of a hundred cycles and more,
anything but the ledger and the number of recorded runs is over 5 % larger in the last third of the
cycles with the usual number of releases than in their first third.
"""

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts.manifest import Kind
from artifacts.store import Store
from benchmarks.demo_runs import DemoRuns, clean_environment, ends_within
from benchmarks.figures import JsonFile, tell
from benchmarks.preloaded_cli import preloaded_cli
from benchmarks.process_faults import LIMITS, SIGNALS
from flows.server.machine import Machine
from tasks.promoting.promotion import require_sound
from tasks.promoting.release_history import serving_release
from tasks.system.free_port import free_port
from tasks.upkeep.cleaning import clean
from tasks.upkeep.needed import Keep
from tasks.upkeep.usage import usage_of

DUMPS = 3
GROWTH = 1.05
SETTLED = 50
VARYING = frozenset({"ledger", "runs"})
"""The ledger keeps all answers that were paid for; the number of runs in ten days varies."""
KEPT_DAYS = 10
DAY = 86_400
FAULTS = {**SIGNALS, "no byte can be written": LIMITS["no byte can be written"]}
SMALL = ("--epochs", "1", "--preset", "single", "--ablation-users", "0")
MACHINE = "work: machine"


@dataclass(frozen=True)
class Sizes:
    """What a cycle leaves, in bytes but for ``files``, ``runs``, and ``releases``: their number
    after an unharmed run, 0 after another.
    """

    releases: int
    store: int
    files: int
    ledger: int
    database: int
    runs: int
    server: int
    worker: int


def main(
    cycles: Annotated[int, typer.Option(min=3)] = 200,
    quick: Annotated[bool, typer.Option("--quick", help="Nine cycles.")] = False,
    minutes: Annotated[float, typer.Option(help="No cycle begins later than this.")] = 600,
    faults: Annotated[float, typer.Option(min=0, max=1, help="Share of runs harmed.")] = 0.3,
    seed: Annotated[int, typer.Option()] = 0,
    target: JsonFile = None,
) -> None:
    """Runs the cycles and tells what there is after each."""
    dice, ends, began = random.Random(seed), Counter[str](), time.monotonic()
    sizes: list[Sizes] = []
    lengths = [5.0]
    with TemporaryDirectory() as name, _machine(Path(name)) as (runs, machine):
        for cycle in range(9 if quick else cycles):
            if time.monotonic() - began > minutes * 60:
                break
            runs.write_dump(seed=cycle % DUMPS, users=40, items=60)
            # The release of a dump seen before would be found again.
            arguments = (*SMALL, "--seed", str(cycle))
            fault = dice.choice(list(FAULTS)) if dice.random() < faults else None
            if fault is None:
                since = time.monotonic()
                runs.finish(*arguments)
                lengths.append(time.monotonic() - since)
            else:
                moment = dice.uniform(0.5, mean(lengths[-9:]))
                fault += _harmed(runs, moment, fault, *arguments)
            ends[fault or "unharmed"] += 1
            _make_older(runs.store, machine)
            clean(runs.store, Keep(releases=1))
            sizes.append(_sizes(runs.store, machine, unharmed=fault is None))
            print(f"cycle {cycle}, {fault or 'unharmed'}: {sizes[-1]}", flush=True)
            if target is not None:
                each_cycle = {
                    "ends": dict(ends),
                    "minutes": (time.monotonic() - began) / 60,
                    "cycles": [asdict(each) for each in sizes],
                }
                target.with_suffix(".cycles.json").write_text(json.dumps(each_cycle), "utf-8")
        runs.finish(*SMALL)
        _require_whole(runs.store)
    figures, growth = _figures(sizes, ends)
    tell(figures, target)
    grown = [name for name, factor in growth.items() if name not in VARYING and factor > GROWTH]
    if grown and len(sizes) >= 2 * SETTLED:
        raise typer.Exit(1)


@contextmanager
def _machine(folder: Path) -> Iterator[tuple[DemoRuns, Machine]]:
    """Gives runs whose store has an `llm4cdsr up`, which keeps records for `KEPT_DAYS`."""
    port = free_port()
    machine = Machine(Store(folder / "store"), port)
    variables = {
        **clean_environment(folder),
        "LLM4CDSR_KEEP_RUNS_DAYS": str(KEPT_DAYS),
        "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "20",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ORPHAN_CLEANUP_LOOP_SECONDS": "60",
    }
    command = [sys.executable, "-m", "flows.cli.entry"]
    store = ("--store", str(machine.store.local))
    up = ["up", "--port", str(port), "--dumps", str(folder / "none"), "--look-every", str(DAY)]
    try:
        subprocess.run([*command, *up, *store], env=variables, check=True)
        recorded = {
            "PREFECT_API_URL": machine.api_url,
            "PREFECT_API_AUTH_STRING": machine.credential,
        }
        with preloaded_cli({**variables, **recorded}) as cli:
            yield DemoRuns(folder, {**variables, **recorded}, cli), machine
    finally:
        subprocess.run([*command, "down", *store], env=variables, check=True)


def _harmed(runs: DemoRuns, moment: float, fault: str, *arguments: str) -> str:
    """Harms a run at a moment; returns whether it had ended by then, as words."""
    process = runs.start(*arguments)
    try:
        process.wait(timeout=moment)
        return ", too late"
    except subprocess.TimeoutExpired:
        FAULTS[fault](process)
    if not ends_within(process, 120):
        print(runs.log.read_text("utf-8", "replace"), flush=True)
        return ", it did not end"
    return ""


def _make_older(store: Store, machine: Machine) -> None:
    """Makes files and the server's records a day older."""
    for path in store.local.rglob("*"):
        if machine.folder not in (path, *path.parents) and not path.is_symlink():
            try:
                found = path.stat()
                os.utime(path, (found.st_atime - DAY, found.st_mtime - DAY))
            except FileNotFoundError:  # A journal of a process that is ending.
                continue
    with sqlite3.connect(_database(machine), timeout=60) as database:
        for table, column in (
            ("flow_run", "end_time"),
            ("events", "occurred"),
            ("event_resources", "occurred"),
        ):
            database.execute(
                f"UPDATE {table} SET {column} = strftime('%Y-%m-%d %H:%M:%f', {column}, '-1 day')"
                f" || '000' WHERE {column} IS NOT NULL"
            )
    database.close()


def _sizes(store: Store, machine: Machine, *, unharmed: bool) -> Sizes:
    used = usage_of(store)
    used.pop(MACHINE)
    ledger = used.pop("ledger").bytes if "ledger" in used else 0
    database = _database(machine)
    with sqlite3.connect(database, timeout=60) as connection:
        (runs,) = connection.execute("SELECT COUNT(*) FROM flow_run").fetchone()
    connection.close()
    running = machine.running()
    return Sizes(
        releases=len(store.artifacts(Kind.RELEASE)) if unharmed else 0,
        store=sum(each.bytes for each in used.values()),
        files=sum(each.files for each in used.values()),
        ledger=ledger,
        database=sum(path.stat().st_size for path in database.parent.glob(f"{database.name}*")),
        runs=runs,
        server=_resident(running["server"].pid),
        worker=_resident(running["worker"].pid),
    )


def _database(machine: Machine) -> Path:
    return machine.folder / "prefect" / "prefect.db"


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _require_whole(store: Store) -> None:
    for kind in Kind:
        for manifest in store.artifacts(kind):
            store.verify(manifest.ref)
    release = serving_release(store)
    assert release is not None
    require_sound(store, release)


def _figures(sizes: list[Sizes], ends: Counter[str]) -> tuple[dict[str, object], dict[str, float]]:
    """Returns what is told, and of each size the last third of the usual cycles to the first."""
    settled = sizes[SETTLED:] if len(sizes) >= 2 * SETTLED else sizes
    releases = Counter(each.releases for each in settled if each.releases)
    usual = releases.most_common(1)[0][0]
    figures: dict[str, object] = {"cycles": len(sizes)}
    figures |= {f"runs {end}": count for end, count in ends.items()}
    growth: dict[str, float] = {}
    for name in Sizes.__dataclass_fields__.keys() - {"releases"}:
        figures[f"{name} after the first cycle"] = getattr(sizes[0], name)
        figures[f"{name}, largest"] = max(getattr(each, name) for each in settled)
        for count in releases:
            alike = [getattr(each, name) for each in settled if each.releases == count]
            which = f"{name} of {len(alike)} cycles with {count} releases"
            figures[f"{which}, smallest"] = min(alike)
            figures[f"{which}, largest to smallest"] = max(alike) / min(alike)
            if count == usual:
                third = max(len(alike) // 3, 1)
                growth[name] = mean(alike[-third:]) / mean(alike[:third])
                figures[f"{which}, last third to the first"] = growth[name]
    return figures, growth


if __name__ == "__main__":
    typer.run(main)
