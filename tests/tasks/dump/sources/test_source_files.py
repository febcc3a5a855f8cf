"""A source is one file, several, a pattern, or a folder as Spark and Hive write it."""

import gzip
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tasks.dump.dump_config import DumpConfig
from tasks.dump.sources.files import UnreadableDumpError
from tasks.dump.sources.source_files import absolute, source_files
from tasks.ingest import dataset_identity
from tests.tasks.dump.dump_files import (
    DOMAINS,
    Ingested,
    Row,
    as_csv,
    as_parquet,
    changed,
    events_of,
    items_of,
)

ROWS = events_of()


def parts(rows: list[Row], count: int = 3) -> list[list[Row]]:
    return [rows[start::count] for start in range(count)]


def spark_csv(folder: Path) -> str:
    folder.mkdir()
    for place, rows in enumerate(parts(ROWS)):
        as_csv(folder / f"part-0000{place}-a1b2-c000.csv", rows)
        (folder / f".part-0000{place}-a1b2-c000.csv.crc").write_bytes(b"crc")
    (folder / "part-00003-a1b2-c000.csv").touch()
    (folder / "_SUCCESS").touch()
    return str(folder)


def spark_parquet(folder: Path) -> str:
    folder.mkdir()
    for place, rows in enumerate(parts(ROWS)):
        as_parquet(folder / f"part-0000{place}.snappy.parquet", rows)
    (folder / "_SUCCESS").touch()
    return str(folder)


def hive(folder: Path, extra: str = "", rows: list[Row] = ROWS) -> str:
    for domain in DOMAINS:
        place = folder / f"domain={domain}{extra}"
        place.mkdir(parents=True)
        own = [
            {name: value for name, value in row.items() if name != "domain"}
            for row in rows
            if row["domain"] == domain
        ]
        as_parquet(place / "000000_0.parquet", own)
    return str(folder)


def hive_below_years(folder: Path) -> str:
    return hive(folder, "/year=2020/month=09")


def several(folder: Path) -> tuple[str, ...]:
    folder.mkdir()
    return tuple(as_csv(folder / f"{n}.csv", rows) for n, rows in enumerate(parts(ROWS)))


def mixed(folder: Path) -> tuple[str, ...]:
    folder.mkdir()
    first, *others = parts(ROWS)
    return as_parquet(folder / "a.parquet", first), *(
        as_csv(folder / f"b{n}.csv", rows) for n, rows in enumerate(others)
    )


def pattern(folder: Path) -> str:
    several(folder)
    (folder / "notes.txt").write_text("not a table")
    return str(folder / "*.csv")


def deep_pattern(folder: Path) -> str:
    hive(folder)
    return str(folder / "**" / "*.parquet")


SHAPES: dict[str, Callable[[Path], str | tuple[str, ...]]] = {
    "spark csv": spark_csv,
    "spark parquet": spark_parquet,
    "hive": hive,
    "hive below years": hive_below_years,
    "several": several,
    "mixed": mixed,
    "pattern": pattern,
    "deep pattern": deep_pattern,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_a_source_gives_the_events_of_one_file(shape: str, tmp_path: Path) -> None:
    items = as_csv(tmp_path / "i.csv", items_of())
    one = Ingested(tmp_path, interactions=as_csv(tmp_path / "e.csv", ROWS), items=items)
    made = Ingested(tmp_path, interactions=SHAPES[shape](tmp_path / "source"), items=items)
    made.require_balance()
    assert made.items.equals(one.items)
    assert made.dataset.users.equals(one.dataset.users)
    assert made.dataset.item_indices.tolist() == one.dataset.item_indices.tolist()
    assert made.dataset.timestamps.tolist() == one.dataset.timestamps.tolist()


def test_a_part_without_rows_and_the_writers_own_files_are_no_data(tmp_path: Path) -> None:
    found = source_files(spark_csv(tmp_path / "source"))
    assert [file.name for file in found] == [f"part-0000{n}-a1b2-c000.csv" for n in range(3)]


def test_rows_are_counted_file_by_file(tmp_path: Path) -> None:
    paths = several(tmp_path / "source")
    with Path(paths[1]).open("a") as file:
        file.write("u000,,food,1600000000\nshort\n")
    made = Ingested(tmp_path, interactions=paths)
    made.require_balance()
    gone = made.accounts.filter(pl.col("gone") > 0).select("file", "rule", "gone").rows()
    assert gone == [("1.csv", "1 fields instead of 4", 1), ("1.csv", "no item_id", 1)]
    assert made.accounts.group_by("file").agg(pl.col("rows").first()).sort("file").rows() == [
        ("0.csv", 32), ("1.csv", 34), ("2.csv", 32),
    ]  # fmt: skip


def test_the_form_of_a_column_is_that_of_all_parts(tmp_path: Path) -> None:
    rows = changed(
        ROWS,
        timestamp=lambda time: f"0{1 + int(str(time)) % 9}/0{1 + int(str(time)) // 7 % 9}/2020",
    )
    first, second, third = parts(rows)
    third[-1]["timestamp"] = "25/12/2020"
    (tmp_path / "s").mkdir()
    paths = tuple(
        as_csv(tmp_path / "s" / f"{n}.csv", p) for n, p in enumerate((first, second, third))
    )
    made = Ingested(tmp_path, interactions=paths)
    assert made.moments[-1] == 1_608_854_400
    made.require_balance()


def test_ties_of_files_by_domain_do_not_put_one_domain_first(tmp_path: Path) -> None:
    rows = changed(events_of(60, per=1), timestamp=1_600_000_000)
    made = Ingested(tmp_path, interactions=hive(tmp_path / "source", rows=rows))
    first = made.dataset.item_indices[made.dataset.offsets[:-1]]
    assert 15 < int((first <= made.dataset.domain_starts[1]).sum()) < 45


def test_the_value_of_a_folder_is_part_of_the_identity(tmp_path: Path) -> None:
    first = dataset_identity(DumpConfig(interactions=hive(tmp_path / "a")))
    assert dataset_identity(DumpConfig(interactions=hive(tmp_path / "b"))) == first
    (tmp_path / "b" / "domain=food").rename(tmp_path / "b" / "domain=drink")
    assert dataset_identity(DumpConfig(interactions=str(tmp_path / "b"))) != first


def test_values_of_folders_are_written_as_urls(tmp_path: Path) -> None:
    place = tmp_path / "s" / "domain=a%2Fb%20c" / "day=__HIVE_DEFAULT_PARTITION__"
    place.mkdir(parents=True)
    as_parquet(place / "0.parquet", ROWS)
    assert dict(source_files(str(tmp_path / "s"))[0].partition) == {
        "domain": "a/b c",
        "day": None,
    }


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda f: (f / "_delta_log").mkdir(parents=True), "a Delta table"),
        (lambda f: (f / ".hoodie").mkdir(parents=True), "a Hudi table"),
        (
            lambda f: (
                (f / "metadata").mkdir(parents=True),
                (f / "metadata" / "v1.metadata.json").touch(),
            ),
            "an Iceberg table",
        ),
        (lambda f: f.mkdir(), "holds no file with rows"),
        (
            lambda f: (
                f.mkdir(),
                as_csv(f / "interactions.csv", ROWS),
                as_csv(f / "items.csv", items_of()),
            ),
            "is a whole dump and not one table; give --interactions",
        ),
        (lambda f: (f.mkdir(), (f / "a.xlsx").write_bytes(b"PK")), "save the sheet as CSV UTF-8"),
    ],
    ids=["delta", "hudi", "iceberg", "empty", "dump", "excel"],
)
def test_folders_that_are_no_table_are_refused_by_what_they_are(
    make: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    make(tmp_path / "s")
    with pytest.raises(UnreadableDumpError, match=said):
        Ingested(tmp_path, interactions=str(tmp_path / "s"))


def test_a_pattern_without_a_file_and_a_wrong_path_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDumpError, match=r"\*\.csv matches no file; correct the pattern"):
        absolute(str(tmp_path / "*.csv"))
    with pytest.raises(UnreadableDumpError, match=r"nothing\.csv is not a file; give the path of"):
        absolute((str(tmp_path / "nothing.csv"),))
    assert absolute("s3://bucket/e.csv") == "s3://bucket/e.csv"


CONTENTS = {
    b"PK\x03\x04 sheet": "a zip archive or an Excel workbook",
    b"PAR1....": "Parquet: give it the ending .parquet",
    b"<!DOCTYPE html><html>": "a web page",
    b"\n<html>": "a web page",
    b"version https://git-lfs.github.com/spec/v1\noid": "a pointer of Git LFS",
    b"SQLite format 3\x00": "an SQLite database",
    b"Obj\x01avro": "Avro",
    b"BZh91AY": "compressed by bzip2",
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", ["e.csv", "e.json"])
def test_a_file_that_is_something_else_says_what(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        UnreadableDumpError, match=f"{name} cannot be read: its content is {CONTENTS[content]}"
    ):
        Ingested(tmp_path, interactions=str(tmp_path / name))


def test_a_gzip_without_its_ending_is_read_all_the_same(tmp_path: Path) -> None:
    as_csv(tmp_path / "plain.csv", ROWS)
    (tmp_path / "e.csv").write_bytes(gzip.compress((tmp_path / "plain.csv").read_bytes()))
    assert Ingested(tmp_path, interactions=str(tmp_path / "e.csv")).counts["events"] == 96
