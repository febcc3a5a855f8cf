"""Ids are what the shop calls its users and items; what an export did to them is undone or told."""

import re
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.dump.fields.identifiers import IdField
from tests.tasks.dump.dump_files import Ingested, as_csv, changed, events_of, items_of, of_events


def read(*values: object, name: str = "user_id") -> list[str | None]:
    field = IdField(name)
    column = pl.Series(name, values, strict=False)
    found = field.read(column)
    return (found if field.is_settled() else field.fresh().read(column)).to_list()


@pytest.mark.parametrize(
    "word",
    [
        "nan",
        "NaN",
        "NULL",
        "null",
        "None",
        "N/A",
        "n/a",
        "\\N",
        "<NA>",
        "NaT",
        "(null)",
        "#N/A",
        "NA",
    ],
)
def test_a_word_for_no_value_is_no_user(word: str, tmp_path: Path) -> None:
    rows = [
        {**row, "user_id": word} if place % 6 == 0 else row for place, row in enumerate(events_of())
    ]
    made = of_events(tmp_path, rows)
    made.require_balance()
    assert made.dropped == {"interactions: no user_id": 16}
    assert word not in made.dataset.users["user_id"].to_list()
    assert any(
        f"words for missing values are not ids: {word!r} (16)" in note for note in made.notes
    )


def test_names_that_look_like_such_words_stay() -> None:
    names = ["Nan", "NAN", "Null", "none", "nano", "NANA", "N", "0", "-"]
    assert read(*names) == names
    assert read("NA", "EU", name="domain") == ["NA", "EU"]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["1001.0", "7.0", None], ["1001", "7", None]),
        (["1001.00", "-7.000"], ["1001", "-7"]),
        (["1001.0", "A7"], ["1001.0", "A7"]),
        (["1001.0", "1001.5"], ["1001.0", "1001.5"]),
        (["1001.0", "nan", "12.0"], ["1001", None, "12"]),
        (["v1.0", "v2.0"], ["v1.0", "v2.0"]),
        ([" 1001.0 ", "12.0"], ["1001", "12"]),
    ],
)
def test_a_decimal_zero_goes_where_the_whole_column_has_it(
    ids: list[str | None], expected: list[str | None]
) -> None:
    assert read(*ids) == expected


def test_one_side_that_is_written_as_floats_meets_the_other(tmp_path: Path) -> None:
    rows = changed(events_of(), item_id=lambda item: f"{1000 + int(str(item)[1:])}.0")
    described = changed(items_of(), item_id=lambda item: f"{1000 + int(str(item)[1:])}")
    made = of_events(tmp_path, rows, items=as_csv(tmp_path / "i.csv", described))
    assert made.counts["items_not_described"] == 0
    assert made.items["item_id"].head(2).to_list() == ["1000", "1001"]
    assert any("item_id: ids all end in .0: '100" in note for note in made.notes)


@pytest.mark.parametrize("cut", ["1.00123E+15", "9.2e+18", "4E+05"])
def test_ids_that_a_spreadsheet_has_cut_are_set_aside(cut: str, tmp_path: Path) -> None:
    rows = [{**row, "user_id": cut} if place < 8 else row for place, row in enumerate(events_of())]
    made = of_events(tmp_path, rows)
    assert made.dropped == {"interactions: no user_id": 8}
    form = re.sub(r"\d", "9", cut)  # Notes name no user.
    assert any(f"8 ids such as {form!r} were truncated" in note for note in made.notes)


def test_floats_that_cannot_tell_ids_apart_are_none() -> None:
    assert read(12.0, 2.0**60, 1.5, float("nan")) == ["12", None, "1.5", None]


def test_marks_that_nobody_sees_are_no_part_of_an_id() -> None:
    assert read("\ufeffu1", "u1\u200b", "\u00a0u1 ", "u1\r") == ["u1"] * 4
    assert read("a\u200db") == ["a\u200db"]


@pytest.mark.parametrize("id_", ["u\x001", "u1\x00", "\x1bu1", "u1\x7f", "u\t1", "u\n1"])
def test_an_id_with_a_control_character_does_not_become_another_persons(
    id_: str, tmp_path: Path
) -> None:
    rows = [{**row, "user_id": id_} if place < 8 else row for place, row in enumerate(events_of())]
    made = of_events(tmp_path, rows)
    assert made.dropped == {"interactions: no user_id": 8}
    form = id_.replace("u", "a").replace("1", "9")  # Notes name no user.
    assert any(f"8 ids such as {form!r} have control characters" in note for note in made.notes)


def test_leading_zeros_and_scripts_stay() -> None:
    assert read("007", "0", "00", "漢", "é", "e\u0301") == ["007", "0", "00", "漢", "é", "e\u0301"]


PARQUET = {
    "uuid": (pa.array([UUID(int=n).bytes for n in range(4)], pa.uuid()), str(UUID(int=3))),
    "bytes": (pa.array([b"u0", b"u1", b"u2", b"u3"]), "u3"),
    "fixed bytes": (pa.array([b"u0", b"u1", b"u2", b"u3"], pa.binary(2)), "u3"),
    "dictionary": (pa.array(["u0", "u1", "u2", "u3"]).dictionary_encode(), "u3"),
    "decimal": (pa.array(list(map(Decimal, range(4))), pa.decimal128(38, 0)), "3"),
    "wide decimal": (pa.array(list(map(Decimal, range(4))), pa.decimal256(60, 2)), "3"),
    "view": (pa.array(["u0", "u1", "u2", "u3"]), "u3"),
    "large": (pa.array(["u0", "u1", "u2", "u3"], pa.large_string()), "u3"),
    "half float": (pa.array([0.0, 1.0, 2.0, 3.0], pa.float16()), "3"),
    "unsigned": (pa.array([0, 1, 2, 3], pa.uint64()), "3"),
}


@pytest.mark.parametrize("kind", PARQUET)
def test_ids_of_every_type_that_warehouses_write_are_text(kind: str, tmp_path: Path) -> None:
    ids, last = PARQUET[kind]
    rows = events_of(4)
    columns = {
        name: pa.array([row[name] for row in rows]) for name in ("item_id", "domain", "timestamp")
    }
    users = pa.array([int(str(row["user_id"])[1:]) for row in rows])
    taken = ids.take(users)
    table = pa.table(
        {"user_id": taken.cast(pa.string_view()) if kind == "view" else taken, **columns}
    )
    pq.write_table(table, tmp_path / "e.parquet", store_schema=True)
    made = Ingested(tmp_path, interactions=str(tmp_path / "e.parquet"))
    assert made.dataset.users["user_id"].to_list()[-1] == last
    assert made.dataset.users.height == 4
    made.require_balance()


def test_a_parquet_text_that_is_no_utf8_costs_its_row_alone(tmp_path: Path) -> None:
    rows = events_of(4)
    ids = [
        b"u\xff" if place == 5 else str(row["user_id"]).encode() for place, row in enumerate(rows)
    ]
    table = pa.table(
        {
            "user_id": pa.array(ids, pa.binary()).view(pa.string()),
            **{
                name: pa.array([row[name] for row in rows])
                for name in ("item_id", "domain", "timestamp")
            },
        }
    )
    pq.write_table(table, tmp_path / "e.parquet")
    made = Ingested(tmp_path, interactions=str(tmp_path / "e.parquet"))
    assert made.dropped == {"interactions: not UTF-8": 1}
    made.require_balance()
