"""Reading a dump: every form gives the same rows, and what is unusable says so."""

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from tasks.dump.dump_config import DumpConfig
from tasks.dump.events.event_reader import read_events
from tasks.dump.fields.time_units import SECOND
from tasks.dump.items.item_reader import read_items
from tasks.dump.rows import Quarantine
from tasks.dump.sources.files import UnreadableDumpError

Rows = Sequence[Mapping[str, object]]
Write = Callable[[Path, Rows], None]

ROWS: Rows = [
    {"user_id": "007", "item_id": "0012", "domain": "food", "timestamp": 1_400_000_000},
    {"user_id": "ünï漢", "item_id": 'q"uo,te;d', "domain": "kitchen", "timestamp": 1_400_000_060},
    {"user_id": "u", "item_id": "x y", "domain": "food", "timestamp": 5},
]


def as_parquet(path: Path, rows: Rows) -> None:
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)


def as_csv(path: Path, rows: Rows, separator: str = ",") -> None:
    pl.DataFrame(rows, infer_schema_length=None).write_csv(path, separator=separator)


def as_jsonl(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def zipped(write: Write) -> Write:
    def write_zipped(path: Path, rows: Rows) -> None:
        plain = path.with_suffix(".plain")
        write(plain, rows)
        path.write_bytes(gzip.compress(plain.read_bytes()))

    return write_zipped


def zstandard(write: Write) -> Write:
    def write_zstandard(path: Path, rows: Rows) -> None:
        plain = path.with_suffix(".plain")
        write(plain, rows)
        with pa.output_stream(path, compression="zstd") as file:
            file.write(plain.read_bytes())

    return write_zstandard


FORMS: dict[str, Write] = {
    "a.parquet": as_parquet,
    "a.pq": as_parquet,
    "a [1].parquet": as_parquet,
    "a.csv": as_csv,
    "a*.csv": as_csv,
    "A.CSV": as_csv,
    "semicolon.csv": lambda path, rows: as_csv(path, rows, ";"),
    "tabs.csv": lambda path, rows: as_csv(path, rows, "\t"),
    "a.tsv": lambda path, rows: as_csv(path, rows, "\t"),
    "a.jsonl": as_jsonl,
    "a.ndjson": as_jsonl,
    "a.json": as_jsonl,
    "a.csv.gz": zipped(as_csv),
    "a.tsv.gz": zipped(lambda path, rows: as_csv(path, rows, "\t")),
    "a.jsonl.gz": zipped(as_jsonl),
    "a.csv.zst": zstandard(as_csv),
    "a.jsonl.zst": zstandard(as_jsonl),
}


def dump_of(path: Path, items: Path | None = None, **columns: str) -> DumpConfig:
    return DumpConfig(
        interactions=str(path), items=None if items is None else str(items), columns=columns
    )


@dataclass(frozen=True)
class Read:
    """A dump as read, ids as text again."""

    interactions: pl.DataFrame
    items: pl.DataFrame
    quarantine: pl.DataFrame
    rows_in: int


def read_dump(dump: DumpConfig) -> Read:
    quarantine = Quarantine()
    read = read_events(dump, quarantine)
    events = read.events
    interactions = pl.DataFrame(
        {
            "user_id": events.user_ids.gather(events.users),
            "item_id": events.item_keys["item_id"].gather(events.items),
            "domain": events.item_keys["domain"].gather(events.items),
            "timestamp": events.times,
        }
    )
    items = read_items(dump, quarantine).items
    rows_in = sum(account.tally.records for account in read.told.accounts)
    return Read(interactions, items, quarantine.table(), rows_in)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_file_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    FORMS[name](tmp_path / name, ROWS)
    raw = read_dump(dump_of(tmp_path / name))
    expected = [{**row, "timestamp": int(str(row["timestamp"])) * SECOND} for row in ROWS]
    assert raw.interactions.to_dicts() == expected
    assert raw.quarantine.is_empty()
    assert raw.rows_in == 3


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    as_csv(tmp_path / "a.csv", ROWS)
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.csv").read_bytes())
    assert read_dump(dump_of(tmp_path / "b.csv")).interactions.height == 3


def test_numbers_as_ids_are_the_text_of_the_numbers(tmp_path: Path) -> None:
    rows = [{**row, "user_id": number} for number, row in enumerate(ROWS)]
    as_jsonl(tmp_path / "a.jsonl", rows)
    assert read_dump(dump_of(tmp_path / "a.jsonl")).interactions["user_id"].to_list() == [
        "0", "1", "2",
    ]  # fmt: skip


def test_whole_numbers_stored_as_floats_are_ids_and_nan_is_none(tmp_path: Path) -> None:
    floats = pl.DataFrame(ROWS).with_columns(pl.Series("user_id", [12.0, float("nan"), 1.5]))
    floats.write_parquet(tmp_path / "a.parquet")
    raw = read_dump(dump_of(tmp_path / "a.parquet"))
    assert raw.interactions["user_id"].to_list() == ["12", "1.5"]
    assert raw.quarantine.select("row", "reason").rows() == [(1, "no user_id")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.csv", b""),
        ("empty.jsonl", b""),
        ("empty.parquet", b""),
        ("empty.csv.gz", b""),
        ("empty.jsonl.gz", gzip.compress(b"", mtime=0)),
        ("latin_header.csv", "é,item_id,domain,timestamp\n".encode("latin-1")),
        ("noise.parquet", b"PAR1" + b"noise" * 9),
        ("not_zipped.csv.zst", b"user_id,item_id,domain,timestamp\na,b,c,1\n"),
        ("not_zipped.csv.gz", b"user_id,item_id,domain,timestamp\na,b,c,1\n"),
        ("no_objects.jsonl", b"not json\n[1]\n"),
        ("torn.jsonl", b'{"user_id": "a", "item_id": "b"}\n{"user_id":'),
        ("array.json", b'[{"user_id": "a"}]'),
        ("table.xlsx", b"PK"),
        ("no_suffix", b"user_id"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableDumpError, match=name):
        read_dump(dump_of(path))


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz", "a.parquet"])
def test_a_file_cut_in_the_middle_is_an_error_not_fewer_rows(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    FORMS[name](path, [{**ROWS[0], "item_id": str(n * 7919 % 10007)} for n in range(20_000)])
    whole = path.read_bytes()
    for stop in (len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:stop])
        with pytest.raises(
            UnreadableDumpError, match=r"cannot be read: .*[^.]; (export|fetch) it again"
        ):
            read_dump(dump_of(path))


def test_a_missing_file_and_a_missing_column_name_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDumpError, match="is not a file; give the path"):
        read_dump(dump_of(tmp_path / "none.csv"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableDumpError, match="empty holds no file with rows"):
        read_dump(dump_of(tmp_path / "empty"))
    as_csv(tmp_path / "a.csv", [{"reviewerID": "a", "item_id": "b", "timestamp": 1}])
    with pytest.raises(
        UnreadableDumpError, match=r"no column user_id, domain .*has reviewerID.*--col"
    ):
        read_dump(dump_of(tmp_path / "a.csv"))
    as_csv(tmp_path / "b.csv", ROWS)
    with pytest.raises(UnreadableDumpError, match=r"items\.csv"):
        read_dump(dump_of(tmp_path / "b.csv", tmp_path / "items.csv"))


def test_other_column_names_are_mapped_in_both_files(tmp_path: Path) -> None:
    renamed = {"user_id": "reviewerID", "item_id": "asin", "timestamp": "unixReviewTime"}
    as_jsonl(tmp_path / "a.json", [{renamed.get(k, k): v for k, v in row.items()} for row in ROWS])
    as_csv(tmp_path / "items.csv", [{"asin": "0012", "domain": "food", "title": "Tea"}])
    columns = {ours: theirs for theirs, ours in renamed.items()}
    raw = read_dump(dump_of(tmp_path / "a.json", tmp_path / "items.csv", **columns))
    assert raw.interactions["user_id"].to_list() == ["007", "ünï漢", "u"]
    assert raw.items["item_id"].to_list() == ["0012"]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    as_csv(tmp_path / "a.csv", [{**row, "uid": "x", "visitor": "y"} for row in ROWS])
    with pytest.raises(UnreadableDumpError, match=r"a\.csv: the columns uid, visitor would all"):
        read_dump(dump_of(tmp_path / "a.csv", uid="user_id", visitor="user_id"))


def test_unusable_rows_are_set_aside_with_reason_and_place(tmp_path: Path) -> None:
    good = ROWS[0]
    bad: list[dict[str, object]] = [
        {**good, "user_id": None},
        {**good, "item_id": "  "},
        {**good, "domain": ""},
        {**good, "timestamp": None},
        {**good, "timestamp": "yesterday"},
        {**good, "timestamp": "NaN"},
        {**good, "timestamp": "1e300"},
        {**good, "user_id": None, "item_id": None},
    ]
    as_jsonl(tmp_path / "a.jsonl", [good, *bad])
    raw = read_dump(dump_of(tmp_path / "a.jsonl"))
    assert raw.rows_in == 9
    assert raw.interactions.height == 1
    assert raw.quarantine.select("source", "row", "reason").rows() == [
        ("interactions", row, reason)
        for row, reason in enumerate(
            ["no user_id", "no item_id", "no domain", *["no usable timestamp"] * 4, "no user_id"],
            start=1,
        )
    ]
    assert raw.quarantine["item_id"].to_list()[:2] == ["0012", None]


MOMENT = datetime(2014, 5, 13, 16, 53, 20, tzinfo=UTC)
BERLIN = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        (1_400_000_000, 0),
        (1_400_000_000.25, 250_000),
        ("1400000000", 0),
        (1_400_000_000_250, 250_000),
        ("1400000000250", 250_000),
        (1_400_000_000_250_001, 250_001),
        (1_400_000_000_250_001_999, 250_001),
        (MOMENT.replace(tzinfo=None), 0),
        (MOMENT.astimezone(BERLIN), 0),
        ("2014-05-13T16:53:20Z", 0),
        ("2014-05-13T16:53:20.25Z", 250_000),
        ("2014-05-13 18:53:20+02:00", 0),
        ("2014-05-13T18:53:20+0200", 0),
        (" 2014-05-13 16:53:20.250 ", 250_000),
        ("2014-05-13 16:53", -20 * SECOND),
        (date(2014, 5, 13), -60_800 * SECOND),
        ("2014-05-13", -60_800 * SECOND),
    ],
)
def test_a_time_in_any_usual_form_is_the_same_moment(
    value: object, micros: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({**ROWS[0], "timestamp": [value] * 3}).write_parquet(path)
    found = read_dump(dump_of(path)).interactions["timestamp"]
    assert found.to_list() == [1_400_000_000 * SECOND + micros] * 3


def test_one_odd_row_does_not_change_the_unit_of_a_file(tmp_path: Path) -> None:
    times = [1_400_000_000, 1_400_000_001, 0, -5, 1_400_000_000_000, 1_400_000_002]
    as_csv(tmp_path / "a.csv", [{**ROWS[0], "timestamp": time} for time in times])
    raw = read_dump(dump_of(tmp_path / "a.csv"))
    assert raw.interactions["timestamp"].to_list() == [
        time * SECOND for time in times if 0 < time < 1e12
    ]
    assert raw.quarantine["reason"].to_list() == [
        "timestamp of zero or less",
        "timestamp of zero or less",
        "no usable timestamp",
    ]


def test_zero_is_a_time_like_others_where_times_are_no_dates(tmp_path: Path) -> None:
    as_csv(tmp_path / "a.csv", [{**ROWS[0], "timestamp": time} for time in (0, 1, 2)])
    raw = read_dump(dump_of(tmp_path / "a.csv"))
    assert raw.interactions["timestamp"].to_list() == [0, SECOND, 2 * SECOND]


def test_item_text_is_taken_from_the_forms_that_shops_use(tmp_path: Path) -> None:
    as_parquet(tmp_path / "a.parquet", ROWS)
    described = [
        {"categories": ["Home", None, " ", "Tea"], "description": ["Hot.", "Good."], "price": 2},
        {"categories": None, "description": None, "price": None, "title": "  "},
    ]
    key = [{"item_id": str(n), "domain": "food"} for n in range(2)]
    as_jsonl(tmp_path / "i.jsonl", [k | d for k, d in zip(key, described, strict=True)])
    items = read_dump(dump_of(tmp_path / "a.parquet", tmp_path / "i.jsonl")).items
    assert items["categories"].to_list() == [["Home", "Tea"], None]
    assert items["description"].to_list() == ["Hot. Good.", None]
    assert items["price"].to_list() == [2.0, None]
    assert items["title"].to_list() == [None, None]

    as_jsonl(tmp_path / "paths.jsonl", [key[0] | {"categories": [["Home", "Tea"], ["Gifts"]]}])
    items = read_dump(dump_of(tmp_path / "a.parquet", tmp_path / "paths.jsonl")).items
    assert items["categories"].to_list() == [["Home", "Tea", "Gifts"]]

    as_csv(tmp_path / "i.csv", [key[0] | {"categories": "Home| |Tea", "price": "nan"}])
    items = read_dump(dump_of(tmp_path / "a.parquet", tmp_path / "i.csv")).items
    assert items.select("categories", "price", "title").row(0) == (["Home", "Tea"], None, None)


def test_an_item_described_twice_keeps_its_first_description(tmp_path: Path) -> None:
    as_parquet(tmp_path / "a.parquet", ROWS)
    described = [("1", "food", "A"), ("1", "kitchen", "B"), ("1", "food", "C"), (None, "food", "D")]
    pl.DataFrame(described, schema=["item_id", "domain", "title"], orient="row").write_parquet(
        tmp_path / "i.parquet"
    )
    raw = read_dump(dump_of(tmp_path / "a.parquet", tmp_path / "i.parquet"))
    assert raw.items["title"].to_list() == ["A", "B"]
    assert raw.quarantine.select("source", "row", "reason").rows() == [
        ("items", 2, "item described more than once"),
        ("items", 3, "no item_id"),
    ]
    assert raw.rows_in == 3, "only interactions count"
