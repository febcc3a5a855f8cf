"""Conditions say which rows of a file are events; the others are counted by rule."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tasks.dump.events.conditions import condition
from tasks.dump.sources.files import UnreadableDumpError
from tests.tasks.dump.dump_files import Ingested, as_csv, events_of, items_of

EVENTS, ITEMS = events_of(), items_of()
VALUES = ["5", "4.0", "3", "", "x", "-1", "NaN"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("v>=4", [0, 1]),
        ("v < 4", [2, 5]),
        ("v=4", [1]),
        ("v=x, 5", [0, 4]),
        ("v!=x,5", [1, 2, 3, 5, 6, 7]),
        ("v>0", [0, 1, 2]),
    ],
)
def test_rows_that_fulfil_a_condition(text: str, kept: list[int]) -> None:
    rows = pl.DataFrame({"v": [*VALUES, None]}).with_row_index()
    assert rows.filter(condition(text).holds())["index"].to_list() == kept


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rating", "write COLUMN>=NUMBER"),
        ("rating>=good", "'good' is not a number"),
        ("timestamp>5", "--since"),
        ("user_id!=u1", "must not contain user ids"),
    ],
)
def test_a_condition_that_cannot_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        condition(text)


def rated() -> list[dict[str, Any]]:
    return [{**row, "Rating": n % 5 + 1, "paid": n % 3 > 0} for n, row in enumerate(EVENTS)]


@pytest.mark.parametrize(
    ("values", "where", "said"),
    [
        (["4,5", "3,5"], "v>=4", "holds '4,5', '3,5', of which none fulfils --where 'v>=4'"),
        (["Purchase", "View"], "v=purchase", "holds 'Purchase', 'View', of which none fulfils"),
    ],
)
def test_a_condition_that_no_value_fulfils_is_refused_with_values(
    tmp_path: Path, values: list[str], where: str, said: str
) -> None:
    rows = [{**row, "v": values[n % len(values)]} for n, row in enumerate(EVENTS)]
    dump = {"interactions": as_csv(tmp_path / "e.csv", rows), "where": (where,)}
    with pytest.raises(UnreadableDumpError, match=said):
        Ingested(tmp_path, items=as_csv(tmp_path / "i.csv", ITEMS), **dump)


def test_values_that_are_no_numbers_are_counted(tmp_path: Path) -> None:
    rows = [{**row, "v": "4/5" if n % 4 == 1 else "5"} for n, row in enumerate(EVENTS)]
    path, items = as_csv(tmp_path / "e.csv", rows), as_csv(tmp_path / "i.csv", ITEMS)
    made = Ingested(tmp_path, interactions=path, items=items, where=("v>=4",))
    assert any("24 values such as '4/5' are no numbers" in note for note in made.notes)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_only_rows_that_fulfil_all_conditions_are_events(tmp_path: Path, kind: str) -> None:
    path, items = tmp_path / f"e.{kind}", as_csv(tmp_path / "i.csv", ITEMS)
    frame = pl.DataFrame(rated())
    write = {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}
    write[kind](path)
    where = ("Rating>=3", "paid=true")
    made = Ingested(tmp_path, interactions=str(path), items=items, where=where)
    made.require_balance()
    kept = [row for row in rated() if row["Rating"] >= 3 and row["paid"]]
    assert made.moments == sorted(row["timestamp"] for row in kept)
    low = sum(row["Rating"] < 3 for row in rated())
    assert made.dropped == {
        "not Rating>=3": low,
        "not paid=true": len(EVENTS) - low - len(kept),
    }


def test_a_column_that_may_tell_events_apart_is_told_where_no_condition_reads_it(
    tmp_path: Path,
) -> None:
    events, items = as_csv(tmp_path / "e.csv", rated()), as_csv(tmp_path / "i.csv", ITEMS)
    told = "Rating is not read, every row is an event; to keep some rows, add --where 'Rating>=4'"
    of_all = Ingested(tmp_path, interactions=events, items=items)
    assert any(told in note for note in of_all.notes)
    of_some = Ingested(tmp_path, interactions=events, items=items, where=("Rating>=2",))
    assert not any("is not read" in note for note in of_some.notes)
    assert of_all.result.ref != of_some.result.ref


def test_a_condition_keeps_all_rows_of_a_domain_without_its_column(tmp_path: Path) -> None:
    parts = {
        domain: [{k: v for k, v in row.items() if k != "domain"} for row in rows]
        for domain in ("food", "kitchen")
        for rows in ([row for row in rated() if row["domain"] == domain],)
    }
    kept = sum(float(str(row["Rating"])) >= 4 for row in parts["food"])
    kitchen = [{k: v for k, v in row.items() if k != "Rating"} for row in parts["kitchen"]]
    paths = [
        f"food={as_csv(tmp_path / 'food.csv', parts['food'])}",
        f"kitchen={as_csv(tmp_path / 'kitchen.csv', kitchen)}",
    ]
    made = Ingested(tmp_path, interactions=paths, where=("Rating>=4",))
    made.require_balance()
    assert len(made.moments) == kept + len(kitchen)
    told = "kitchen.csv: there is no column Rating, so --where 'Rating>=4' drops no row of it"
    assert told in made.notes
    paths[1:] = [f"food={as_csv(tmp_path / 'more.csv', kitchen)}"]
    with pytest.raises(UnreadableDumpError, match=r"more\.csv has no column Rating"):
        Ingested(tmp_path, interactions=paths, where=("Rating>=4",))


def test_a_condition_on_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    events = as_csv(tmp_path / "e.csv", rated())
    with pytest.raises(UnreadableDumpError, match=r"--where: .*e\.csv has no column stars"):
        Ingested(tmp_path, interactions=events, where=("stars>3",))
