"""Terminal tables of the content of input files."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
from rich.table import Table

from artifacts import columns as col
from artifacts.kinds.dataset import ACCOUNTS, Dataset
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from flows.cli.output import terminal

MOST_FILES = 20
"""Shown files of each kind."""


def file_table(store: Store, dataset: ArtifactRef) -> Table:
    """Returns a table of files: rows, kept rows, and reasons of the others."""
    accounts = pl.read_parquet(store.path(dataset) / ACCOUNTS)
    table = terminal.table("Rows", "file", "holds", ">rows", ">kept", "gone")
    for (holds,), files in accounts.group_by("holds", maintain_order=True):
        parts = [part for _, part in files.group_by("file", maintain_order=True)]
        if len(parts) > MOST_FILES:  # Of hundreds, those that lost rows are of interest.
            parts.sort(key=lambda part: part["gone"].sum() == 0)
        for part in parts[:MOST_FILES]:
            gone = [
                f"{rule} ({rows:,})"
                for rule, rows in part.select("rule", "gone").iter_rows()
                if rule and rows
            ]
            rows, kept = (f"{part[name][0]:,}" for name in ("rows", "kept"))
            table.add_row(part["file"][0], str(holds), rows, kept, ", ".join(gone) or "–")
        if others := parts[MOST_FILES:]:
            rows, kept = (sum(int(part[name][0]) for part in others) for name in ("rows", "kept"))
            gone = f"{rows - kept:,}" if rows > kept else "–"
            table.add_row(f"{len(others):,} more", str(holds), f"{rows:,}", f"{kept:,}", gone)
    return table


def domain_table(data: Dataset) -> Table:
    """Returns a table of domains: users, items, events, first and last day."""
    title = (
        f"{data.users.height:,} users, "
        f"{int((data.in_domain().sum(axis=1) > 1).sum()):,} of them in several domains"
    )
    columns = ("domain", ">users", ">items", ">without text", ">events", "from", "to")
    table = terminal.table(title, *columns)
    active, events = data.in_domain(), data.domain_of_event
    bare = data.items.filter(pl.all_horizontal(pl.col(col.TITLE, col.BRAND).is_null()))
    for number, name in enumerate(data.domains):
        times = data.timestamps[events == number]
        days = [_day(int(times.min())), _day(int(times.max()))] if len(times) else ["–", "–"]
        table.add_row(
            name,
            f"{int(active[:, number].sum()):,}",
            f"{int(np.diff(data.domain_starts)[number]):,}",
            f"{bare.filter(pl.col(col.DOMAIN) == name).height:,}",
            f"{len(times):,}",
            *days,
        )
    return table


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
