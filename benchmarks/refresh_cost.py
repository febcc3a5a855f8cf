"""What a refresh costs when little has changed: requests and seconds, from the command line.

Three refreshes of one store: a dump, the same dump with 1 % new items, and that dump once more.
The second must embed exactly the new items and ask nothing else, the third must ask nothing.
The dummy endpoint answers. Exits with 1 where a count is not as it must be. On a busy machine read
the CPU seconds, of the command and of the Prefect server that it starts and stops.

    python benchmarks/refresh_cost.py --interactions events.parquet --items items.parquet
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import polars as pl
import typer
from figures import JsonFile, keep
from rich.console import Console
from rich.table import Table

from artifacts import columns as col

SECONDS_ALLOWED = 10.0
"""For a refresh of an unchanged dump, with everything that it starts."""


def main(
    interactions: Annotated[str, typer.Option(help="The dump's interactions (Parquet).")],
    items: Annotated[str, typer.Option(help="The dump's items (Parquet).")],
    profile_users: Annotated[int, typer.Option(help="Users with a profile.")] = 500,
    json_file: JsonFile = None,
) -> None:
    """Refresh three times and count."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        new = _with_new_items(items, place / "items.parquet")
        plan = {"first": items, "1 % new items": str(new[0]), "unchanged": str(new[0])}
        rows = [
            {"refresh": name, **_refresh(interactions, file, profile_users, place)}
            for name, file in plan.items()
        ]
    holds = rows[1]["requests"] == new[1] and rows[2]["requests"] == 0
    _print(rows)
    print(f"new items: {new[1]:,}; requests are {'' if holds else 'NOT '}as they must be")
    print(f"unchanged: {rows[2]['seconds']:.1f} s of the {SECONDS_ALLOWED:.0f} s wanted")
    keep({"refreshes": rows, "new_items": new[1], "holds": holds}, json_file)
    if not holds:
        raise typer.Exit(1)


def _with_new_items(items: str, target: Path) -> tuple[Path, int]:
    table = pl.read_parquet(items, glob=False)
    count = max(1, table.height // 100)
    new = table.head(count).with_columns(
        pl.format("new-{}", pl.col(col.ITEM_ID)).alias(col.ITEM_ID),
        pl.format("New edition {}", pl.int_range(pl.len())).alias(col.TITLE),
    )
    pl.concat([table, new]).write_parquet(target)
    return target, count


def _refresh(interactions: str, items: str, profile_users: int, place: Path) -> dict[str, float]:
    summary = place / "summary.json"
    command = [sys.executable, "-m", "flows.cli.entry", "refresh", "--provider", "dummy"]
    dump = ["--interactions", interactions, "--items", items]
    more = ["--profile-users", str(profile_users), "--store", str(place / "store")]
    started, cpu = time.monotonic(), -_cpu_seconds()
    subprocess.run(
        [*command, *dump, *more, "--summary", str(summary)],
        env={**os.environ, "PREFECT_HOME": str(place / "prefect")},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds, cpu = time.monotonic() - started, cpu + _cpu_seconds()
    requests = json.loads(summary.read_text())["llm"]["requests"]
    return {"seconds": seconds, "cpu_seconds": cpu, "requests": requests}


def _cpu_seconds() -> float:
    """Of every process that this one, or one of its own, has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _print(rows: list[dict]) -> None:
    table = Table("refresh", "seconds", "CPU seconds", "prompts asked")
    for row in rows:
        times = (f"{row[name]:,.1f}" for name in ("seconds", "cpu_seconds"))
        table.add_row(row["refresh"], *times, f"{row['requests']:,}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
