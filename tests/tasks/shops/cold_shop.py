"""A shop of two domains from which a domain is withheld of some users, as events and as a dump."""

from pathlib import Path

import numpy as np
import polars as pl

from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from tasks.dump.dump_config import ColdDomain, DumpConfig
from tasks.ingest import ingest

USERS, ITEMS = 48, 14
SPLIT = ColdDomain(test_share=0.3, validation_share=0.2)


def cold_events() -> pl.DataFrame:
    """Users of both domains and, every fourth, of one; three to six events in each."""
    rng = np.random.default_rng(8)
    rows = []
    for user in range(USERS):
        taste = user % 2
        for domain in "ab" if user % 4 else "ab"[user % 8 // 4]:
            for _ in range(int(rng.integers(3, 7))):
                item = int(rng.integers(ITEMS // 2)) * 2 + taste
                rows.append((f"u{user:02}", f"i{item}", domain, int(rng.integers(10_000, 90_000))))
    schema = ["user_id", "item_id", "domain", "timestamp"]
    return pl.DataFrame(rows, schema=schema, orient="row")


def ingested(store: Store, events: pl.DataFrame, folder: Path) -> ArtifactRef:
    """The dataset of the events, with all items of the shop described."""
    folder.mkdir(parents=True, exist_ok=True)
    events.write_parquet(folder / "events.parquet")
    kinds = ("coffee", "running")
    items = [
        (f"i{n}", domain, f"{kinds[n % 2]} thing {n} of {domain}")
        for domain in "ab"
        for n in range(ITEMS)
    ]
    schema = ["item_id", "domain", "title"]
    pl.DataFrame(items, schema=schema, orient="row").write_parquet(folder / "items.parquet")
    dump = DumpConfig(
        interactions=str(folder / "events.parquet"),
        items=str(folder / "items.parquet"),
        split=SPLIT,
    )
    return ingest.fn(dump, store.root).ref
