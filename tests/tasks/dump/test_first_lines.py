"""Dumps whose fault has one cause: the first line of the message names it, with the way out."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tasks.dump.dump_config import Source
from tasks.dump.items.item_reader import TooFewDomainsError
from tasks.dump.naming.headers import require_named_columns
from tasks.dump.naming.sorted_files import sorted_files
from tasks.dump.sources.files import UnreadableDumpError
from tests.tasks.dump.dump_files import Ingested, as_csv, changed, events_of, items_of

EVENTS, ITEMS = events_of(), items_of()
Row = dict[str, Any]


def of_domain(rows: list[Row], domain: str) -> list[Row]:
    return [
        {name: value for name, value in row.items() if name != "domain"}
        for row in rows
        if row["domain"] == domain
    ]


def in_milliseconds(rows: list[Row]) -> list[Row]:
    return changed(rows, timestamp=lambda value: int(str(value)) * 1000)


def test_a_domain_of_which_no_row_can_be_used_is_refused_by_its_cause(tmp_path: Path) -> None:
    rows = [{**row, "user_id": "", "visitorid": "v"} for row in of_domain(EVENTS, "food")]
    food = as_csv(tmp_path / "food.csv", rows)
    kitchen = as_csv(tmp_path / "kitchen.csv", of_domain(EVENTS, "kitchen"))
    cause = r"food.csv: none of its 48 rows can be used: no user_id.*--column visitorid=user_id"
    with pytest.raises(UnreadableDumpError, match=cause):
        Ingested(tmp_path, interactions=(f"food={food}", f"kitchen={kitchen}"))


def test_named_domains_are_read_in_their_own_formats(tmp_path: Path) -> None:
    foods = changed(
        of_domain(ITEMS, "food"), item_id=lambda name: f"{str(name)[1:]}.0", price="1.299"
    )
    kitchens = changed(of_domain(ITEMS, "kitchen"), price="12,50")
    food = changed(of_domain(EVENTS, "food"), item_id=lambda name: str(int(str(name)[1:])))
    foods = changed(foods, item_id=lambda name: str(float(str(name))))
    made = Ingested(
        tmp_path,
        interactions=(
            f"food={as_csv(tmp_path / 'food.csv', in_milliseconds(food))}",
            f"kitchen={as_csv(tmp_path / 'kitchen.csv', of_domain(EVENTS, 'kitchen'))}",
        ),
        items=(
            f"food={as_csv(tmp_path / 'foods.csv', foods)}",
            f"kitchen={as_csv(tmp_path / 'kitchens.csv', kitchens)}",
        ),
    )
    made.require_balance()
    assert made.moments == sorted(int(str(row["timestamp"])) for row in EVENTS)
    prices = made.dataset.items.select("domain", "price").unique().sort("domain").rows()
    assert prices == [("food", None), ("kitchen", 12.5)]
    assert made.dataset.items["title"].null_count() == 0


def test_a_column_is_mapped_for_the_files_of_one_domain(tmp_path: Path) -> None:
    food = [
        {"sku": row["item_id"], "time": row["timestamp"], "user_id": row["user_id"]}
        for row in of_domain(EVENTS, "food")
    ]
    kitchen = [{**row, "time": 1, "name": "x"} for row in of_domain(EVENTS, "kitchen")]
    foods = [{"item": row["item_id"], "name": row["title"]} for row in of_domain(ITEMS, "food")]
    dump: Row = {
        "interactions": (
            f"food={as_csv(tmp_path / 'food.csv', food)}",
            f"kitchen={as_csv(tmp_path / 'kitchen.csv', kitchen)}",
        ),
        "items": (
            f"food={as_csv(tmp_path / 'foods.csv', foods)}",
            f"kitchen={as_csv(tmp_path / 'kitchens.csv', of_domain(ITEMS, 'kitchen'))}",
        ),
    }
    names = {"food:time": "timestamp", "food:item": "item_id", "sku": "item_id", "name": "user_id"}
    made = Ingested(tmp_path, **dump, columns={**names, "name": "title"})
    made.require_balance()
    assert made.moments == sorted(int(str(row["timestamp"])) for row in EVENTS)
    assert made.counts["items_without_text"] == 0
    require_named_columns(Source(**dump, columns=names))
    with pytest.raises(UnreadableDumpError, match="no file has a column films:time"):
        require_named_columns(Source(**dump, columns={"films:time": "timestamp"}))
    every = {
        "sku": "item_id",
        "item": "item_id",
        "name": "title",
        "time": "timestamp",
        "food:time": "timestamp",
    }
    paths = [*dump["interactions"], *dump["items"]]
    assert sorted_files(paths, every) == (dump["interactions"], dump["items"])


def test_an_order_of_events_beside_dates_is_noted(tmp_path: Path) -> None:
    food = [{**row, "timestamp": n} for n, row in enumerate(of_domain(EVENTS, "food"))]
    paths = (
        f"food={as_csv(tmp_path / 'food.csv', food)}",
        f"kitchen={as_csv(tmp_path / 'kitchen.csv', of_domain(EVENTS, 'kitchen'))}",
    )
    notes = Ingested(tmp_path, interactions=paths).notes
    assert any("food.csv: timestamp: small numbers such as '1'" in note for note in notes)
    assert any("food.csv: times are an order of events, those of kitchen" in note for note in notes)


def test_too_few_domains_name_the_file_without_events_first(tmp_path: Path) -> None:
    food, kitchen = (
        [row for row in EVENTS if row["domain"] == name] for name in ("food", "kitchen")
    )
    paths = (
        as_csv(tmp_path / "food.csv", food),
        as_csv(tmp_path / "kitchen.csv", in_milliseconds(kitchen)),
    )
    cause = r"^food.csv has no event left: timestamp in 1970 \(48 of 48 rows\), so that the dump"
    with pytest.raises(TooFewDomainsError, match=cause):
        Ingested(tmp_path, interactions=paths)


def test_single_quotation_marks_are_named(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "e.csv", EVENTS, quotechar="'", quoting=1)
    with pytest.raises(UnreadableDumpError, match="single quotation marks, as 'user_id'"):
        Ingested(tmp_path, interactions=path)


def test_rows_by_their_ids_are_no_table_of_columns(tmp_path: Path) -> None:
    rows = {str(row["item_id"]): {"domain": row["domain"], "title": "x"} for row in ITEMS}
    path = tmp_path / "i.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(UnreadableDumpError, match=r"rows by their ids \(F000.*to_entries"):
        Ingested(tmp_path, interactions=as_csv(tmp_path / "e.csv", EVENTS), items=str(path))


def archived(content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("e.csv")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("pack", "said"),
    [
        (archived, "it is a tar archive: unpack it"),
        (lambda content: gzip.compress(gzip.compress(content)), "compressed by gzip: unpack it"),
    ],
    ids=["tar", "twice"],
)
def test_what_a_compressed_file_holds_is_named(tmp_path: Path, pack: Any, said: str) -> None:
    plain = Path(as_csv(tmp_path / "e.csv", EVENTS))
    path = tmp_path / "e.csv.gz"
    path.write_bytes(pack(plain.read_bytes()))
    with pytest.raises(UnreadableDumpError, match=said):
        Ingested(tmp_path, interactions=str(path))


def test_a_field_of_an_object_of_the_same_name_is_read_as_asked(tmp_path: Path) -> None:
    rows = [
        {**row, "item_id": {"S": row["item_id"]}, "domain": {"S": row["domain"]}} for row in EVENTS
    ]
    path = tmp_path / "e.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    columns = {"item_id.S": "item_id", "domain.S": "domain"}
    items = as_csv(tmp_path / "i.csv", ITEMS)
    made = Ingested(tmp_path, interactions=str(path), items=items, columns=columns)
    assert made.counts["events"] == len(EVENTS)
    assert made.counts["items_not_described"] == 0
