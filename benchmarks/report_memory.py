"""Peak memory of what the report reads of the recommendations, at two sizes.

Each size is a process of its own: made-up lists of that many users, ten items in each of two
domains, and those of the release before.

    python benchmarks/report_memory.py --users 200000 --more-users 400000
"""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import polars as pl
import typer
from figures import peak_gib, tell
from own_process import in_own_process

from artifacts import columns as col
from artifacts.kinds.dataset import Split, read_dataset, write_dataset
from artifacts.kinds.results import RECOMMENDATION_SCHEMA, RECOMMENDATIONS, scan_recommendations
from artifacts.manifest import Kind, identity
from artifacts.shown_users import shown_users
from artifacts.store import Store
from tasks.recommend import BLOCK_USERS, write_recommendations
from tasks.reporting.facts.changes import kept_lists
from tasks.reporting.facts.examples import cold_items, cross_domain, guards

ITEMS, LISTED, EVENTS_A_USER = 50_000, 10, 6
DOMAINS = ("books", "gear")
COUNTED = ("popular_share", "popular_event_share", "users_without")


def main(
    users: Annotated[int, typer.Option(help="The smaller size.")] = 200_000,
    more_users: Annotated[int, typer.Option(help="The larger size.")] = 400_000,
) -> None:
    """Make the lists of both sizes, read them and compare."""
    for size in (users, more_users):
        with TemporaryDirectory() as folder:
            in_own_process(make, size, Path(folder))
            tell(in_own_process(one, size, Path(folder)), None)


def make(users: int, folder: Path) -> None:
    """Writes a dataset and two artifacts of lists."""
    store, rng = Store(folder), np.random.default_rng(0)
    numbers = range(len(DOMAINS) * ITEMS)
    items = pl.DataFrame(
        {
            col.ITEM_INDEX: pl.Series([number + 1 for number in numbers], dtype=pl.UInt32),
            col.ITEM_ID: [f"item-{number}" for number in numbers],
            col.DOMAIN: np.repeat(DOMAINS, ITEMS),
            col.TITLE: [f"A made-up article with a title, number {n}" for n in numbers],
        }
    )
    people = pl.DataFrame(
        {
            col.USER_INDEX: pl.Series(range(users), dtype=pl.UInt32),
            col.USER_ID: [f"user-{number:012d}" for number in range(users)],
            "events": [EVENTS_A_USER] * users,
        }
    )
    events = users * EVENTS_A_USER
    bought = {
        # Some items are never bought.
        col.ITEM_INDEX: rng.integers(1, ITEMS - 1000, events),
        col.TIMESTAMP: np.arange(events),
        col.SPLIT: np.full(events, Split.TRAIN),
    }
    with store.create(identity(Kind.DATASET, {"users": users}, {})) as draft:
        write_dataset(draft.path, people, items, pl.DataFrame(bought))
    for number in range(2):
        with store.create(identity(Kind.RECOMMENDATIONS, {"number": number}, {})) as draft:
            write_recommendations(draft.path / RECOMMENDATIONS, _blocks(people, items, rng))


def _blocks(
    people: pl.DataFrame, items: pl.DataFrame, rng: np.random.Generator
) -> Iterator[pl.DataFrame]:
    width = len(DOMAINS) * LISTED
    for block in people[col.USER_ID].to_frame().iter_slices(BLOCK_USERS):
        drawn = rng.integers(0, ITEMS, (block.height, len(DOMAINS), LISTED))
        rows = items[(drawn + np.arange(len(DOMAINS))[:, None] * ITEMS).ravel()]
        yield (
            rows.with_columns(
                pl.Series(col.USER_ID, np.repeat(block[col.USER_ID].to_numpy(), width)),
                pl.Series(col.RANK, np.tile(np.arange(1, LISTED + 1), block.height * len(DOMAINS))),
                pl.Series(col.SCORE, rng.random(len(rows), dtype=np.float32)),
            )
            .cast({col.RANK: pl.Int32})
            .select(list(RECOMMENDATION_SCHEMA))
        )


def one(users: int, folder: Path) -> dict[str, float]:
    """Reads the lists as the report does; returns the figures."""
    store = Store(folder)
    before, now = (
        identity(Kind.RECOMMENDATIONS, {"number": number}, {}).ref for number in range(2)
    )
    data = read_dataset(store, identity(Kind.DATASET, {"users": users}, {}).ref)
    begin, cpu = peak_gib(), time.process_time()
    table, shown = scan_recommendations(store, now), shown_users(store)
    counted: dict[str, int | float] = dict.fromkeys(COUNTED, 0)
    found = (
        guards(data, table, counted),
        cold_items(data, table, shown),
        cross_domain(data, table, shown),
    )
    assert all(found)
    kept_lists(store, before, now)
    return {
        "users": users,
        "rows": users * len(DOMAINS) * LISTED,
        "MiB before": round(1024 * begin),
        "peak MiB": round(1024 * peak_gib()),
        "CPU seconds": time.process_time() - cpu,
    }


if __name__ == "__main__":
    typer.run(main)
