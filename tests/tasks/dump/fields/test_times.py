"""Times in the forms that exports have are the moments that were meant, or refused by a value."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tasks.dump.fields.time_units import SECOND, Unit
from tasks.dump.fields.times import TimeField
from tasks.dump.sources import files
from tasks.dump.sources.files import UnreadableDumpError
from tests.tasks.dump.dump_files import Ingested, as_parquet, changed, events_of, of_events

MOMENT = datetime(2020, 9, 14, 12, 26, 40, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())
MIDNIGHT = SECONDS - 12 * 3600 - 26 * 60 - 40


def read(*values: object) -> list[float | None]:
    """Seconds of the values of one column."""
    field = TimeField()
    column = pl.Series("timestamp", values)
    found = field.read(column)
    while not field.is_settled():
        field = field.fresh()
        found = field.read(column)
    return [None if moment is None else moment / SECOND for moment in found]


def fault(*values: object) -> str:
    field = TimeField()
    field.read(pl.Series("timestamp", values))
    return field.fault() or ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2020-09-14 12:26:40+00", SECONDS),
        ("2020-09-14 12:26:40 UTC", SECONDS),
        ("2020-09-14T12:26Z", SECONDS - 40),
        ("2020-09-14 12:26:40.000000 UTC", SECONDS),
        ("2020-09-14T14:26:40.5+02", SECONDS + 0.5),
        ("2020-09-14 12:26:40,250", SECONDS + 0.25),
        ("2020-09-14T12:26:40.000+0000", SECONDS),
        ("2020-09-14 05:26:40-07:00", SECONDS),
        ("2020-09-14T17:56:40+05:30[Asia/Kolkata]", SECONDS),
        ("2020-09-14 12:26:40 +0000 UTC", SECONDS),
        ("2020/09/14 12:26:40", SECONDS),
        ("2020.09.14", MIDNIGHT),
        ("20200914T122640Z", SECONDS),
        ("20200914", MIDNIGHT),
        ("20200914122640", SECONDS),
        ("202009141226", SECONDS - 40),
        ("14.09.2020 12:26", SECONDS - 40),
        ("14.9.20", MIDNIGHT),
        ("14-SEP-20 12.26.40.000000 PM", SECONDS),
        ("14 September 2020", MIDNIGHT),
        ("Sep 14, 2020", MIDNIGHT),
        ("September 14th, 2020 12:26:40", SECONDS),
        ("Mon, 14 Sep 2020 12:26:40 GMT", SECONDS),
        ("Mon Sep 14 12:26:40 2020", SECONDS),
        ("Mon Sep 14 12:26:40 +0000 2020", SECONDS),
        ("Mon Sep 14 2020 14:26:40 GMT+0200 (CEST)", SECONDS),
        ("09 14, 2020", MIDNIGHT),
        ("14/09/2020 12:26", SECONDS - 40),
        ("09/14/2020 12:26:40 PM", SECONDS),
        ("9/14/20 12:05 AM", MIDNIGHT + 300),
        ("1600086400", SECONDS),
        ("1600086400.0", SECONDS),
        ("1.6000864E9", SECONDS),
        ("1600086400000", SECONDS),
    ],
)
def test_a_text_is_the_moment_that_was_meant(text: str, seconds: float | None) -> None:
    assert read(text, text, text) == [seconds] * 3


@pytest.mark.parametrize(
    "text",
    ["2020-02-30", "0000-00-00 00:00:00", "2020-09-14 25:00", "2020-09-14 12:26:40 EST", "soon",
     "14:26", "2020-13-14", "-infinity", "1e999"],
)  # fmt: skip
def test_what_is_no_moment_is_none_beside_others(text: str) -> None:
    assert read("2020-09-14 12:26:40", text, "2020-09-14") == [SECONDS, None, MIDNIGHT]


def test_one_day_above_twelve_tells_the_order_of_all_wherever_it_stands() -> None:
    assert read("03/04/2020", "05/06/2020", "25/12/2020")[0] == read("2020-04-03")[0]
    assert read("03/04/2020", "05/06/2020", "12/25/2020")[0] == read("2020-03-04")[0]
    assert read("03-04-2020", "31-04-2020", "13-01-2020") == [
        read("2020-04-03")[0], None, read("2020-01-13")[0],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["03/04/2020", "05/06/2020"], r"two ways, such as '03/04/2020', and no day above 12"),
        (["25/12/2020", "12/25/2020"], r"day first in '25/12/2020' and its month first in '12/25"),
        (["yesterday", "soon"], r"no time that can be read, such as 'yesterday'"),
        ([None, None], r"is empty in all rows"),
        ([2014, 2015, 2020], r"such as '2014' that are no days and, as seconds, would all lie in"),
        ([202009, 202010], r"such as '202009' that are no days"),
        ([444_000, 444_500], r"such as '444000' that are no days"),
        ([26_668_106, 26_668_900], r"such as '26668106' that are no days"),
        ([1_600_086.4, 1_600_086.5], r"such as '1600086.4' that are no days"),
    ],
)
def test_a_column_that_cannot_be_told_is_refused_with_a_value(
    values: list[object], said: str
) -> None:
    assert re.search(said, fault(*values))


@pytest.mark.parametrize(
    ("numbers", "unit", "first"),
    [
        ([20200914, 20200915, 20210101], Unit.COMPACT, MIDNIGHT),
        ([20200914.0, 20200915.0], Unit.COMPACT, MIDNIGHT),
        ([2020091412, 2020091423], Unit.COMPACT_HOUR, MIDNIGHT + 12 * 3600),
        ([44088.51851851852, 44089.0], Unit.EXCEL_DAYS, SECONDS),
        ([44088, 43000, 44100], Unit.EXCEL_DAYS, MIDNIGHT),
        ([18519, 18520, 12000], Unit.DAYS, MIDNIGHT),
        ([SECONDS, 0, 20200914], Unit.SECONDS, SECONDS),
        ([20200914, 0, 20200915, 0], Unit.COMPACT, MIDNIGHT),
        ([20200914, 99991231, 7, 20200915, 20201001], Unit.COMPACT, MIDNIGHT),
        ([20200914122640, 5, 20200914122641], Unit.COMPACT_SECOND, SECONDS),
        ([44088, 0, 44100], Unit.EXCEL_DAYS, MIDNIGHT),
        ([SECONDS * 1000, 0, 0], Unit.MILLISECONDS, SECONDS),
        ([0, 0, 0], Unit.SECONDS, 0),
        ([5, 1, 9], Unit.SECONDS, 5),
        ([10_000, 90_000, 55_000], Unit.SECONDS, 10_000),
        ([SECONDS * 10**9, SECONDS * 10**9 + 1], Unit.NANOSECONDS, SECONDS),
    ],
)
def test_numbers_are_what_all_of_them_can_be(
    numbers: list[float], unit: Unit, first: float
) -> None:
    field = TimeField()
    found = field.read(pl.Series("timestamp", numbers, strict=False))
    assert field.found().unit is unit
    assert found[0] == pytest.approx(first * SECOND, abs=1000)
    assert field.fault() is None


def test_what_was_read_otherwise_is_told(tmp_path: Path) -> None:
    days = changed(events_of(), timestamp=lambda time: 20200900 + time % 28 + 1)
    made = of_events(tmp_path, days)
    assert "e.csv: timestamp: numbers such as '2020" in " ".join(made.notes)
    assert made.moments[0] >= 1_598_918_400
    assert (made.counts["rows_in"], made.counts["rows_dropped"]) == (
        96,
        made.dropped.get("repeated row", 0),
    )


def test_small_numbers_order_events_and_are_no_dates(tmp_path: Path) -> None:
    rows = [{**row, "timestamp": place} for place, row in enumerate(events_of())]
    made = of_events(tmp_path, rows)
    assert any("read as an order of events, not as dates" in note for note in made.notes)
    with pytest.raises(
        UnreadableDumpError, match=r"small numbers, such as '1', and no dates; leave out"
    ):
        of_events(tmp_path, rows, since="2014-01-01")


def test_times_of_an_export_are_no_times_of_events(tmp_path: Path) -> None:
    rows = [
        {**row, "timestamp": 1_600_000_000 + place // 40} for place, row in enumerate(events_of(40))
    ]
    with pytest.raises(
        UnreadableDumpError, match=r"320 times that all lie within 7 seconds of 2020-09-"
    ):
        of_events(tmp_path, rows)
    same = changed(rows, timestamp=1_600_000_000)
    assert any("all times are equal" in note for note in of_events(tmp_path, same).notes)


def test_later_rows_can_show_what_the_first_ones_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 500)
    rows = events_of()
    moments = [MOMENT.replace(month=1 + n // 12 % 12, day=1 + n % 12) for n in range(90)]
    moments += [MOMENT.replace(month=12, day=13 + n) for n in range(6)]
    dated = [
        {**row, "timestamp": f"{moment:%d/%m/%Y %H:%M}"}
        for row, moment in zip(rows, moments, strict=True)
    ]
    made = of_events(tmp_path, dated)
    assert made.moments == sorted(int(m.timestamp()) - 40 for m in moments)
    made.require_balance()


@pytest.mark.parametrize("resolution", ["ms", "us", "ns"])
def test_typed_times_need_no_guess(resolution: str, tmp_path: Path) -> None:
    rows = changed(events_of(), timestamp=lambda time: datetime.fromtimestamp(time, UTC))
    frame = pl.DataFrame(rows).with_columns(pl.col("timestamp").dt.cast_time_unit(resolution))  # type: ignore[arg-type]
    frame.write_parquet(tmp_path / "e.parquet")
    made = Ingested(tmp_path, interactions=str(tmp_path / "e.parquet"))
    assert made.moments[0] == 1_600_000_000


@pytest.mark.parametrize("value", [timedelta(days=3), True, MOMENT.time()])
def test_types_that_are_no_moments_are_refused_by_name(value: object, tmp_path: Path) -> None:
    path = as_parquet(tmp_path / "e.parquet", changed(events_of(), timestamp=value))
    said = r"e\.parquet: the column timestamp has the type \w+.*no timestamp can be read"
    with pytest.raises(UnreadableDumpError, match=said):
        Ingested(tmp_path, interactions=path)
