"""Dumps of two small shops, written by the test that reads them."""

import csv
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from artifacts.kinds.dataset import ACCOUNTS, DROPPED, QUARANTINE, Dataset, read_dataset
from artifacts.store import Store
from tasks.dump.dump_config import DumpConfig
from tasks.ingest import ingested

Row = dict[str, object]

DOMAINS = ("food", "kitchen")
START = 1_600_000_000


def events_of(users: int = 12, items: int = 10, per: int = 4, start: int = START) -> list[Row]:
    """So many events of every user in each domain, a day apart, in the order of users."""
    draw = random.Random(1)
    return [
        {
            "user_id": f"u{user:03}",
            "item_id": f"{domain[0].upper()}{draw.randrange(items):03}",
            "domain": domain,
            "timestamp": start + user * 1000 + (2 * turn + number) * 86_400,
        }
        for user in range(users)
        for turn in range(per)
        for number, domain in enumerate(DOMAINS)
    ]


def items_of(items: int = 10) -> list[Row]:
    return [
        {"item_id": f"{domain[0].upper()}{n:03}", "domain": domain, "title": f"{domain} no {n}"}
        for domain in DOMAINS
        for n in range(items)
    ]


def changed(rows: Sequence[Row], **changes: object) -> list[Row]:
    """The rows with some columns of other values, each a function of the value or a constant."""
    return [
        {
            **row,
            **{name: new(row.get(name)) if callable(new) else new for name, new in changes.items()},
        }
        for row in rows
    ]


def as_csv(path: Path, rows: Sequence[Mapping[str, object]], **form: object) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), **form)  # type: ignore[arg-type]
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def as_parquet(path: Path, rows: Sequence[Mapping[str, object]]) -> str:
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
    return str(path)


class Ingested:
    """The dataset of a dump in a store beside it, whether it can be trained on or not."""

    def __init__(self, folder: Path, **choices: object) -> None:
        self.store = Store(folder / "store")
        dump = DumpConfig.model_validate(choices)
        self.result = ingested(dump, self.store)
        self.place = self.store.path(self.result.ref)
        self.counts, self.notes = self.result.counts, self.result.notes
        self.dataset: Dataset = read_dataset(self.store, self.result.ref)
        self.dropped: dict[str, int] = dict(pl.read_parquet(self.place / DROPPED).rows())
        self.quarantine = pl.read_parquet(self.place / QUARANTINE)
        self.accounts = pl.read_parquet(self.place / ACCOUNTS)

    @property
    def items(self) -> pl.DataFrame:
        return self.dataset.items

    @property
    def moments(self) -> list[int]:
        """Seconds since 1970 of all events, ascending."""
        return sorted(self.dataset.timestamps.tolist())

    def require_balance(self) -> None:
        """Rows of every file are those kept and those gone, by the table that is stored."""
        files = self.accounts.group_by("holds", "file").agg(
            pl.col("rows", "kept", "lines", "header", "blank", "continued").first(),
            pl.col("gone").sum(),
        )
        assert (files["rows"] == files["kept"] + files["gone"]).all()
        lines = files.drop_nulls("lines")
        parts = lines["header"] + lines["blank"] + lines["continued"] + lines["rows"]
        assert (lines["lines"] == parts).all()
        of_events = files.filter(holds="interactions")
        assert of_events["rows"].sum() == self.counts["rows_in"]
        assert of_events["kept"].sum() == self.counts["events"]


def of_events(folder: Path, rows: Sequence[Mapping[str, object]], **choices: object) -> Ingested:
    """Ingests rows of events beside the items of `items_of`, unless others are given."""
    path = as_csv(folder / "e.csv", rows)
    items = choices.pop("items", None) or as_csv(folder / "i.csv", items_of())
    return Ingested(folder, interactions=path, items=items, **choices)
