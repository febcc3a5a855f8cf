"""Refreshes and retrains again and again, with random kills: does the store stay small?

    python benchmarks/soak.py --cycles 200
    python benchmarks/soak.py --quick --json soak.json

Each cycle brings one of a few dumps, runs everything with the dummy endpoint and cleans but for one
earlier release; some runs are ended with ``kill -9`` at a random moment and started again. Bytes
and files of the store are told after each cycle; the ledger apart, as what was paid for stays.
Exits with 1 where a run fails, the store is not whole, or the last third of the cycles holds over
5 % more than the third before it.
"""

import random
import sys
import time
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts.manifest import Kind
from artifacts.store import Store
from benchmarks.demo_runs import DemoRuns, demo_machine
from benchmarks.figures import tell
from tasks.promoting.decisions import serving_release
from tasks.promoting.releases import require_sound
from tasks.upkeep.usage import usage_of

DUMPS = 3
GROWTH = 1.05


def main(
    cycles: Annotated[int, typer.Option(min=3)] = 200,
    quick: Annotated[bool, typer.Option("--quick", help="Nine cycles.")] = False,
    kills: Annotated[float, typer.Option(min=0, max=1, help="Share of runs killed.")] = 0.3,
    seed: Annotated[int, typer.Option()] = 0,
    target: Annotated[Path | None, typer.Option("--json", help="Write the figures there.")] = None,
) -> None:
    """Runs the cycles and tells how large the store is after each."""
    dice, killed = random.Random(seed), 0
    sizes: list[tuple[int, int, int]] = []
    with TemporaryDirectory() as name, demo_machine(Path(name)) as variables:
        runs = DemoRuns(Path(name), {**variables, "LLM4CDSR_KEEP_RELEASES": "1"})
        for cycle in range(9 if quick else cycles):
            runs.write_dump(seed=cycle % DUMPS)
            # The release of a dump seen before would be found again.
            fresh = ("--seed", str(cycle))
            if dice.random() < kills:
                killed += _killed(runs, dice, *fresh)
            runs.finish(*fresh)
            sizes.append(_size(runs.store))
            print(f"cycle {cycle}: {sizes[-1][0]:,} bytes in {sizes[-1][1]:,} files", flush=True)
        _require_whole(runs.store)
    third = len(sizes) // 3
    before, last = sizes[-2 * third : -third], sizes[-third:]
    figures = {
        "cycles": len(sizes),
        "runs killed": killed,
        "MB after the first cycle": sizes[0][0] / 1e6,
        "MB after the last cycle": sizes[-1][0] / 1e6,
        "files after the first cycle": sizes[0][1],
        "files after the last cycle": sizes[-1][1],
        "ledger MB after the last cycle": sizes[-1][2] / 1e6,
        "bytes, last third to the third before": _ratio(before, last, 0),
        "files, last third to the third before": _ratio(before, last, 1),
    }
    tell(figures, target)
    if max(_ratio(before, last, 0), _ratio(before, last, 1)) > GROWTH:
        raise typer.Exit(1)


def _killed(runs: DemoRuns, dice: random.Random, *arguments: str) -> bool:
    """Kills a run at a random moment; returns whether it still ran."""
    process = runs.start(*arguments)
    time.sleep(dice.uniform(2, 20))
    alive = process.poll() is None
    process.kill()
    process.wait()
    return alive


def _size(store: Store) -> tuple[int, int, int]:
    """Returns bytes and files without the ledger, and the ledger's bytes."""
    used = usage_of(store)
    ledger = used.pop("ledger").bytes
    found = used.values()
    return sum(each.bytes for each in found), sum(each.files for each in found), ledger


def _require_whole(store: Store) -> None:
    for kind in Kind:
        for manifest in store.artifacts(kind):
            store.verify(manifest.ref)
    release = serving_release(store)
    assert release is not None
    require_sound(store, release)


def _ratio(before: list[tuple[int, int, int]], last: list[tuple[int, int, int]], at: int) -> float:
    return mean(size[at] for size in last) / mean(size[at] for size in before)


if __name__ == "__main__":
    typer.run(main)
