"""Datasets made of a few rows, with their histories in readable form."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from artifacts.kinds.dataset import DROPPED, QUARANTINE, Dataset, Split, read_dataset
from artifacts.store import Store
from tasks.dump.dump_config import DumpConfig
from tasks.dump.made_dataset import made_from
from tasks.ingest import dataset_identity

SCHEMA = {
    "user_id": pl.String,
    "item_id": pl.String,
    "domain": pl.String,
    "timestamp": pl.Int64,
}
Row = tuple[str | None, str | None, str | None, int | None]

ROWS: list[Row] = [
    ("u", "1", "a", 30),
    ("u", "1", "b", 10),
    ("u", "2", "a", 20),
    ("u", "3", "b", 20),
    ("v", "1", "a", 5),
    ("v", "3", "b", 4),
    ("ü漢", "2", "a", 7),
]


@dataclass(frozen=True)
class Made:
    dataset: Dataset
    counts: dict[str, int | float]
    dropped: dict[str, int]
    quarantine: pl.DataFrame

    @property
    def history(self) -> dict[str, list[tuple[str, str, int, Split]]]:
        """Every user's (domain, item id, seconds, split) in the stored order."""
        data = self.dataset
        ids = list(zip(data.items["domain"], data.items["item_id"], strict=True))
        events = [
            (*ids[item - 1], int(time), Split(int(split)))
            for item, time, split in zip(
                data.item_indices, data.timestamps, data.splits, strict=True
            )
        ]
        spans = zip(data.users["user_id"], data.offsets[:-1], data.offsets[1:], strict=True)
        return {user: events[start:stop] for user, start, stop in spans}


def write(folder: Path, rows: list[Row]) -> str:
    path = folder / "interactions.parquet"
    pl.DataFrame(rows, schema=SCHEMA, orient="row").write_parquet(path)
    return str(path)


def made(folder: Path, dump: DumpConfig) -> Made:
    """Makes the dataset of a dump in a store; anew where the folder has none of it."""
    store = Store(folder / "store")
    identity = dataset_identity(dump)
    with store.create(identity) as draft:
        made_from(dump).write(draft)
    path = store.path(identity.ref)
    return Made(
        read_dataset(store, identity.ref),
        store.manifest(identity.ref).counts,
        dict(pl.read_parquet(path / DROPPED).rows()),
        pl.read_parquet(path / QUARANTINE),
    )


def made_of(folder: Path, rows: list[Row], **choices: object) -> Made:
    return made(folder, DumpConfig.model_validate({"interactions": write(folder, rows), **choices}))


def dropped_interactions(result: Made) -> int:
    """Rows of the interactions that `dropped.parquet` accounts for."""
    return sum(rows for rule, rows in result.dropped.items() if not rule.startswith("items: "))
