"""What checks of artifacts cost: their share of a refresh, and the seconds they add to opening.

    python benchmarks/checking_cost.py --interactions events.parquet --items items.parquet

A release of a dump is made with the dummy provider and no profiles. Then one event is added, and
the refresh of that dump is measured from the command line: seconds of the checks of files and
manifests and of the digests of what it writes, beside all seconds of its process. Then the served
release is opened, in new processes, with and without checks in turn; told are medians. On a busy
machine read the CPU seconds. Exits with 1 where the checks take more than 3 % of the refresh or
0.5 s of opening.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, ParamSpec, TypeVar

import polars as pl
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts import columns as col
from artifacts import integrity
from artifacts import store as stores
from benchmarks.demo_runs import clean_environment
from benchmarks.figures import JsonFile, tell

SHARE, SECONDS = 0.03, 0.5
RUN = ("--preset", "single", "--epochs", "1", "--ablation-users", "0", "--serve-anyway")
REFRESHES = """
import sys
from pathlib import Path
from benchmarks.checking_cost import checks_timed
from flows.cli.entry import main
with checks_timed(Path(sys.argv.pop(1))):
    main()
"""
OPENS = """
import sys
from pathlib import Path
from artifacts import store
from benchmarks.checking_cost import checks_timed
from tasks.serving.served_release import open_release
if sys.argv[2] == "without":
    store.fault_of = lambda *given, **named: None
with checks_timed(Path(sys.argv[1])):
    open_release(sys.argv[3])
"""

P = ParamSpec("P")
R = TypeVar("R")


def main(
    interactions: Annotated[Path, typer.Option(help="The dump's interactions (Parquet).")],
    items: Annotated[Path, typer.Option(help="The dump's items (Parquet).")],
    times: Annotated[int, typer.Option(min=1, help="Openings with checks, and without.")] = 5,
    target: JsonFile = None,
) -> None:
    """Makes a release, refreshes and opens it, tells the cost."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        store, figures = str(folder / "store"), folder / "figures.json"
        variables = clean_environment(folder)
        dump = ("--items", str(items), "--provider", "dummy", "--profile-users", "0")
        dump += ("--store", store, "--interactions")

        def measured(script: str, *arguments: str) -> dict[str, float]:
            command = [sys.executable, "-c", script, str(figures), *arguments]
            subprocess.run(command, env=variables, check=True)
            return json.loads(figures.read_text("utf-8"))

        measured(REFRESHES, "run", *dump, str(interactions), *RUN)
        more = _with_an_event_more(interactions, folder / "interactions.parquet")
        refresh = measured(REFRESHES, "refresh", *dump, str(more))
        ways = {"with": list[dict[str, float]](), "without": list[dict[str, float]]()}
        for _ in range(times):
            for way, opened in ways.items():
                opened.append(measured(OPENS, way, store))
    opening = {
        f"{unit} of opening, {way} checks": median(each[unit] for each in opened)
        for way, opened in ways.items()
        for unit in ("CPU seconds", "seconds")
    }
    checks = median(each["CPU seconds of checks"] for each in ways["with"])
    share = refresh["CPU seconds of checks"] / refresh["CPU seconds"]
    told = {f"refresh, {name}": value for name, value in refresh.items()}
    opening["CPU seconds of checks when opening"] = checks
    tell({**told, "refresh, share of checks": f"{share:.3%}", **opening}, target)
    if share > SHARE or checks > SECONDS:
        raise typer.Exit(1)


@contextmanager
def checks_timed(target: Path) -> Iterator[None]:
    """Writes to ``target`` what the checks of a block took, and the block until the last of them or
    its end, in seconds. A command may leave without coming to the block's end.
    """
    spent = {"CPU seconds of checks": 0.0, "seconds of checks": 0.0}
    cpu, began = time.process_time(), time.perf_counter()

    def note() -> None:
        checked = integrity._checked  # pyright: ignore[reportPrivateUsage]
        spent["MB checked"] = sum(Path(path).stat().st_size for path in checked) / 1e6
        spent["CPU seconds"] = time.process_time() - cpu
        spent["seconds"] = time.perf_counter() - began
        target.write_text(json.dumps(spent), "utf-8")

    def timed(work: Callable[P, R]) -> Callable[P, R]:
        @wraps(work)
        def run(*args: P.args, **named: P.kwargs) -> R:
            cpu, began = time.thread_time(), time.perf_counter()
            try:
                return work(*args, **named)
            finally:
                spent["CPU seconds of checks"] += time.thread_time() - cpu
                spent["seconds of checks"] += time.perf_counter() - began
                note()

        return run

    stores.fault_of = timed(stores.fault_of)
    stores.describe_files = timed(stores.describe_files)
    stores.parse_manifest = timed(stores.parse_manifest)
    try:
        yield
    finally:
        note()


def _with_an_event_more(interactions: Path, target: Path) -> Path:
    events = pl.read_parquet(interactions, glob=False)
    late = events.sort(col.TIMESTAMP).tail(1).with_columns(pl.col(col.TIMESTAMP) + 1)
    pl.concat([events, late]).write_parquet(target)
    return target


if __name__ == "__main__":
    typer.run(main)
