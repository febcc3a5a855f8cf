"""Objects in lists: their names are read, or the field that was asked for, alike in all formats."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.dump.sources.files import UnreadableDumpError
from tests.tasks.dump.dump_files import Ingested, as_csv, events_of, items_of

Row = dict[str, Any]
ROWS: list[Row] = [
    {
        **row,
        "genres": [{"id": 18, "name": "Drama"}, {"id": 7, "name": f"G{n % 3}"}][: n % 3],
        "authors": [{"key": f"a{n}"}],
        "images": [{"large": f"https://a/{n}.jpg"}],
    }
    for n, row in enumerate(items_of())
]


def ingested(folder: Path, kind: str, **columns: str) -> Ingested:
    path = folder / f"i.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=7)
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    events = as_csv(folder / "e.csv", events_of())
    return Ingested(folder, interactions=events, items=str(path), columns=columns)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_field_of_the_objects_in_a_list_is_a_column(tmp_path: Path, kind: str) -> None:
    columns = {
        "genres[].name": "categories",
        "authors[].key": "brand",
        "images[].large": "image",
    }
    items = ingested(tmp_path, kind, **columns).items
    names = [["Drama", f"G{n % 3}"][: n % 3] for n in range(len(ROWS))]
    assert items["categories"].to_list() == names
    assert items["brand"].to_list() == [f"a{n}" for n in range(len(ROWS))]
    assert items["image"].to_list() == [f"https://a/{n}.jpg" for n in range(len(ROWS))]


def test_objects_of_json_are_read_by_their_name(tmp_path: Path) -> None:
    items = ingested(tmp_path, "jsonl", genres="categories").items
    assert items["categories"].to_list()[:3] == [[], ["Drama"], ["Drama", "G2"]]


def test_objects_without_a_name_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDumpError, match=r"authors holds objects such as .*PARENT\[\]"):
        ingested(tmp_path, "jsonl", authors="brand")


def test_a_parquet_list_of_objects_is_refused_with_the_option(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDumpError, match=r"--column genres\[\].FIELD=categories"):
        ingested(tmp_path, "parquet", genres="categories")
