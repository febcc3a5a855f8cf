"""Exports as shops, trackers and warehouses write them: read, or refused by the way out."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.dump.sources.files import UnreadableDumpError
from tests.tasks.dump.dump_files import (
    Ingested,
    as_csv,
    changed,
    events_of,
    items_of,
    of_events,
)

EVENTS, ITEMS = events_of(), items_of()
MOMENTS = sorted(int(str(row["timestamp"])) for row in EVENTS)
DOMAINS = sorted({str(row["domain"]) for row in EVENTS})
Row = dict[str, Any]


def without(rows: list[Row], *names: str) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in names} for row in rows]


def json_lines(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def tracked(rows: list[Row]) -> list[Row]:
    """Events as a tracker writes them: the login is empty, the visitor is not."""
    return [
        {
            "user_id": None,
            "user_pseudo_id": row["user_id"],
            "event": {"time": row["timestamp"]},
            "product": {"id": row["item_id"], "shelf": {"name": row["domain"]}},
        }
        for row in rows
    ]


TRACKED = {
    "user_pseudo_id": "user_id",
    "event.time": "timestamp",
    "product.id": "item_id",
    "product.shelf.name": "domain",
}


def as_parquet(path: Path, rows: list[Row]) -> str:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


@pytest.mark.parametrize(
    ("write", "name"), [(as_parquet, "e.parquet"), (json_lines, "e.jsonl")], ids=["parquet", "json"]
)
def test_fields_of_structs_are_columns_and_a_given_name_beats_one_of_the_file(
    tmp_path: Path, write: Callable[[Path, list[Row]], str], name: str
) -> None:
    events = write(tmp_path / name, tracked(EVENTS))
    items = as_csv(tmp_path / "i.csv", ITEMS)
    made = Ingested(tmp_path, interactions=events, items=items, columns=TRACKED)
    made.require_balance()
    assert made.moments == MOMENTS
    told = f"{name}: user_pseudo_id is read as user_id, the column user_id is not"
    assert told in made.notes


def test_a_struct_that_is_null_gives_a_field_that_is_null(tmp_path: Path) -> None:
    rows = [
        {**row, "product": None} if n % 4 == 0 else row for n, row in enumerate(tracked(EVENTS))
    ]
    events = as_parquet(tmp_path / "e.parquet", rows)
    items = as_csv(tmp_path / "i.csv", ITEMS)
    made = Ingested(tmp_path, interactions=events, items=items, columns=TRACKED)
    made.require_balance()
    assert made.dropped == {"interactions: no item_id": len(EVENTS) // 4}


def test_two_columns_for_a_key_of_both_files_are_refused(tmp_path: Path) -> None:
    rows = [{"sku": n, **row} for n, row in enumerate(EVENTS)]
    events = as_csv(tmp_path / "e.csv", rows)
    items = as_csv(tmp_path / "i.csv", [{"sku": row["item_id"], **row} for row in ITEMS])
    with pytest.raises(UnreadableDumpError, match="sku, item_id would all be item_id"):
        Ingested(tmp_path, interactions=events, items=items, columns={"sku": "item_id"})


@pytest.mark.parametrize("product", ["item_id", "product"])
@pytest.mark.parametrize("own", ["id", "_id"])
def test_the_id_of_an_order_is_not_that_of_its_item(tmp_path: Path, own: str, product: str) -> None:
    orders = [
        {own: n, product: row["item_id"], **without([row], "item_id")[0]}
        for n, row in enumerate(EVENTS)
    ]
    items = [{own: row["item_id"], **without([row], "item_id")[0]} for row in ITEMS]
    named = {own: "item_id", **({product: "item_id"} if product != "item_id" else {})}
    made = Ingested(
        tmp_path,
        interactions=as_csv(tmp_path / "e.csv", orders),
        items=as_csv(tmp_path / "i.csv", items),
        columns=named,
    )
    made.require_balance()
    assert made.counts["items_without_text"] == 0
    assert f"e.csv: {product} is read as item_id, the column {own} is not" in made.notes


BASKETS = [
    {"user_id": row["user_id"], "timestamp": row["timestamp"], "lines": [dict(row), dict(row)]}
    for row in without(EVENTS, "x")
]


@pytest.mark.parametrize("given", [{}, {"lines.item_id": "item_id"}], ids=["unnamed", "named"])
@pytest.mark.parametrize(
    ("write", "name", "way"),
    [
        (as_parquet, "e.parquet", r"unnest\(lines\) AS lines"),
        (json_lines, "e.jsonl", r"jq -c '\.\[\"lines\"\]\[\] as \$x \| \.\[\"lines\"\] = \$x'"),
    ],
    ids=["parquet", "json"],
)
def test_rows_in_a_list_of_each_row_are_refused_with_the_way_out(
    tmp_path: Path,
    write: Callable[[Path, list[Row]], str],
    name: str,
    way: str,
    given: dict[str, str],
) -> None:
    events = write(tmp_path / name, BASKETS)
    with pytest.raises(UnreadableDumpError, match=rf"lines\[\]\.item_id lies in a list.*{way}"):
        Ingested(tmp_path, interactions=events, columns=given)


def test_several_ids_in_one_are_told(tmp_path: Path) -> None:
    rows = changed(EVENTS, item_id=lambda name: f"{name} {name},{name}")
    items = as_csv(tmp_path / "i.csv", ITEMS)
    with pytest.raises(UnreadableDumpError, match="has several items, such as 'F00"):
        of_events(tmp_path, rows, items=items)


def test_lists_of_ids_are_refused_with_the_way_out(tmp_path: Path) -> None:
    lists = changed(EVENTS, item_id=lambda name: [name])
    with pytest.raises(UnreadableDumpError, match=r"SQL: unnest\(item_id\)"):
        Ingested(tmp_path, interactions=as_parquet(tmp_path / "e.parquet", lists))
    texts = changed(EVENTS, item_id=lambda name: json.dumps([name]))
    with pytest.raises(UnreadableDumpError, match="are lists or objects, not ids"):
        of_events(tmp_path, texts)


def in_files_of_a_domain(folder: Path, rows: list[Row], kind: str) -> tuple[str, ...]:
    found = []
    for domain in DOMAINS:
        path = folder / f"{domain}-{kind}.csv"
        as_csv(path, without([row for row in rows if row["domain"] == domain], "domain"))
        found.append(f"{domain}={path}")
    return tuple(found)


def test_a_file_of_each_domain_may_be_named_with_it(tmp_path: Path) -> None:
    made = Ingested(
        tmp_path,
        interactions=in_files_of_a_domain(tmp_path, EVENTS, "events"),
        items=in_files_of_a_domain(tmp_path, ITEMS, "items"),
    )
    made.require_balance()
    assert made.moments == MOMENTS
    assert sorted(made.items["domain"].unique()) == DOMAINS


def test_a_domain_that_a_file_has_itself_is_not_replaced(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "e.csv", EVENTS)
    with pytest.raises(UnreadableDumpError, match="has a column domain itself: give it as"):
        Ingested(tmp_path, interactions=f"books={path}")


def test_a_file_without_a_domain_is_told_how_to_name_one(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "e.csv", without(EVENTS, "domain"))
    with pytest.raises(UnreadableDumpError, match=r"no column domain.*NAME=FILE in place of FILE"):
        Ingested(tmp_path, interactions=path)


def test_rows_that_leave_user_and_time_to_the_row_above_are_told(tmp_path: Path) -> None:
    rows = [
        {**row, "user_id": "", "timestamp": ""} if n % 3 == 1 else row
        for n, row in enumerate(EVENTS)
    ]
    made = of_events(tmp_path, rows)
    assert any("32 of 96 rows have an item_id and neither user_id" in note for note in made.notes)


@pytest.mark.parametrize(
    ("title", "said"),
    [
        (lambda row: "Product", "10 items have 1 different text, such as 'Product'"),
        (lambda row: row["item_id"], "the titles are the ids of the items, such as 'F000'"),
        (lambda row: f"{row['domain']} no {row['item_id']}", None),
    ],
    ids=["equal", "ids", "different"],
)
def test_titles_that_tell_no_items_apart_are_told(
    tmp_path: Path, title: Callable[[Row], str], said: str | None
) -> None:
    rows = [
        {key: row[key] for key in ("item_id", "domain")} | {"title": title(row)} for row in ITEMS
    ]
    made = of_events(tmp_path, EVENTS, items=as_csv(tmp_path / "i.csv", rows))
    found = [note for note in made.notes if note.startswith("food: ")]
    assert (said is None and not found) or (said is not None and said in found[0])


def test_equal_titles_are_told_also_where_brands_differ(tmp_path: Path) -> None:
    rows = [{**row, "title": "Product", "brand": f"b{n}"} for n, row in enumerate(ITEMS)]
    made = of_events(tmp_path, EVENTS, items=as_csv(tmp_path / "i.csv", rows))
    assert any("food: 10 items have 1 different title, such" in note for note in made.notes)


def as_arrow(path: Path, rows: list[Row]) -> str:
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table, max_chunksize=10)
    return str(path)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (as_arrow, "e.arrow"),
        (as_arrow, "e.feather"),
        (as_arrow, "part-00000"),
        (as_parquet, "part-00000"),
        (json_lines, "000000000000"),
        (as_csv, "part-r-00000"),
        (as_csv, "events.dat"),
        (partial(as_csv, delimiter="\t"), "shop.inter"),
    ],
)
def test_a_form_is_known_by_its_ending_or_its_content(
    tmp_path: Path, write: Callable[[Path, list[Row]], str], name: str
) -> None:
    events = write(tmp_path / name, EVENTS)
    made = Ingested(tmp_path, interactions=events, items=as_csv(tmp_path / "i.csv", ITEMS))
    made.require_balance()
    assert made.moments == MOMENTS


def test_a_damaged_arrow_file_is_refused(tmp_path: Path) -> None:
    path = Path(as_arrow(tmp_path / "e.arrow", EVENTS))
    content = bytearray(path.read_bytes())
    offsets = content.index(b"\x04\x00\x00\x00\x08\x00\x00\x00\x0c\x00\x00\x00")
    content[offsets + 2] = 0x7F
    path.write_bytes(content)
    with pytest.raises(UnreadableDumpError, match=r"e\.arrow cannot be read"):
        Ingested(tmp_path, interactions=str(path))


def test_a_text_without_names_is_told(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n2::661::3::978302109\n")
    with pytest.raises(UnreadableDumpError, match=r"its separator is .::.*first line holds"):
        Ingested(tmp_path, interactions=str(tmp_path / "ratings.dat"))


def test_rows_of_an_item_that_differ_are_told_and_the_first_is_used(tmp_path: Path) -> None:
    rows = [*ITEMS, *ITEMS[:5], *({**row, "title": f"old {row['title']}"} for row in ITEMS[3:6])]
    made = of_events(tmp_path, EVENTS, items=as_csv(tmp_path / "i.csv", rows))
    assert made.items["title"].to_list() == of_events(tmp_path, EVENTS).items["title"].to_list()
    told = [note for note in made.notes if "rows that differ" in note]
    assert [note.partition(",")[0] for note in told] == ["3 items"]


def test_equal_rows_of_an_item_are_not_told_as_different(tmp_path: Path) -> None:
    made = of_events(tmp_path, EVENTS, items=as_csv(tmp_path / "i.csv", [*ITEMS, *ITEMS]))
    assert not any("differ" in note for note in made.notes)
