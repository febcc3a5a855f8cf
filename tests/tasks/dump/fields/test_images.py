"""A column of images: places are kept, anything else is counted and never a fault."""

from pathlib import Path

import polars as pl
import pytest

from artifacts.kinds.dataset import read_dataset
from artifacts.store import Store
from tasks.dump.append import described_by_both
from tasks.dump.dump_config import DumpConfig
from tasks.dump.fields.images import ImageField
from tasks.dump.items.item_reader import item_rows
from tasks.ingest import ingest


def test_addresses_and_paths_are_kept_and_the_rest_is_counted() -> None:
    column = ImageField()
    given = ["https://a.example/x", " a/b.JPG ", "", None, "a red chair", "http://a.example/x.png"]
    assert column.read(pl.Series(given)).to_list() == [given[0], "a/b.JPG", None, None, None, None]
    (note,) = column.notes()
    assert "2 of them, such as 'a red chair'" in note


def test_the_first_of_a_list_counts() -> None:
    column = ImageField()
    assert column.read(pl.Series([["a.png", "b.png"], [], None])).to_list() == ["a.png", None, None]
    assert column.notes() == []


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([b"\x89PNG\xff", b"\xff\xd8"]),
        pl.Series([{"bytes": b"\xff", "path": None}, None]),
        pl.Series([[{"thumb": "a.png"}], []]),
        pl.Series([1.5, 2.5]),
        pl.Series([None, None]),
    ],
)
def test_a_column_of_something_else_is_no_reason_to_refuse_a_dump(
    store: Store, tmp_path: Path, values: pl.Series
) -> None:
    data = read_dataset(store, ingest.fn(_dump(tmp_path, values), store.root).ref)
    assert "image" not in data.items.columns


def test_images_are_kept_when_dumps_are_joined(store: Store, tmp_path: Path) -> None:
    without = read_dataset(store, ingest.fn(_dump(tmp_path / "1", None), store.root).ref)
    images = pl.Series(["g.png", None])
    having = read_dataset(store, ingest.fn(_dump(tmp_path / "2", images), store.root).ref)
    assert having.items.sort("item_id")["image"].to_list() == [None, "g.png"]
    new = item_rows(pl.DataFrame([("v", "gear")], schema=["item_id", "domain"], orient="row"))
    for earlier, images_of_both in ((without, [None, None, None]), (having, [None, "g.png", None])):
        both = described_by_both(earlier, new)
        assert both.sort("item_id")["image"].to_list() == images_of_both


def _dump(folder: Path, images: pl.Series | None) -> DumpConfig:
    folder.mkdir(parents=True, exist_ok=True)
    events = [(f"u{n}", item, domain, n) for n in range(6) for item, domain in ITEMS]
    columns = ["user_id", "item_id", "domain", "timestamp"]
    pl.DataFrame(events, schema=columns, orient="row").write_parquet(folder / "e.parquet")
    table = pl.DataFrame(ITEMS, schema=["item_id", "domain"], orient="row")
    table = table.with_columns(title=pl.lit("Moka Pot"))
    if images is not None:
        table = table.with_columns(images.alias("image"))
    table.write_parquet(folder / "i.parquet")
    return DumpConfig(interactions=str(folder / "e.parquet"), items=str(folder / "i.parquet"))


ITEMS = [("g", "gear"), ("b", "books")]
