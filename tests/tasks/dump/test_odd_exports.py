"""What exports write beside the usual forms: read, or refused by its cause."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
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
HEADER = "user_id,item_id,domain,timestamp"
MOMENTS = sorted(int(str(row["timestamp"])) for row in EVENTS)


def day(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda s: f"{day(s):%Y-%m-%d %H:%M:%S} +0000 UTC", ""),
        (lambda s: f"{day(s + 7200):%Y-%m-%d %H:%M:%S} +0200 CEST", ""),
        (lambda s: f"{day(s):%d/%b/%Y:%H:%M:%S} +0000", ""),
        (lambda s: f"{day(s):%Y-%m-%dt%H:%M:%Sz}", ""),
        (lambda s: f"{day(s):%Y年%m月%d日 %H:%M:%S}", ""),
        (lambda s: f" {s} ", ""),
        (lambda s: s * 10_000_000 + 621_355_968_000_000_000, "ticks of .NET"),
        (lambda s: s * 10_000_000 + 116_444_736_000_000_000, "Windows file times"),
        (lambda s: s * 1_000_000 + 11_644_473_600_000_000, "WebKit"),
    ],
    ids=["go", "go zone", "apache", "lower", "chinese", "blanks", "ticks", "filetime", "webkit"],
)
def test_times_that_programs_write_are_read(tmp_path: Path, write: object, told: str) -> None:
    made = of_events(tmp_path, changed(EVENTS, timestamp=write))
    assert made.moments == MOMENTS
    assert any(told in note for note in made.notes) or not told


@pytest.mark.parametrize("word", ["<null>", "(NULL)", "#NULL!", "#VALUE!", "[NULL]", "(none)"])
def test_a_database_browsers_word_for_null_is_no_user(tmp_path: Path, word: str) -> None:
    rows = [{**row, "user_id": word} if n % 4 == 0 else row for n, row in enumerate(EVENTS)]
    made = of_events(tmp_path, rows)
    made.require_balance()
    assert made.dropped == {"interactions: no user_id": 24}


@pytest.mark.parametrize("name", ["anonymous", "0", "guest", f"{0:032}"])
def test_an_id_far_ahead_of_all_others_is_told(tmp_path: Path, name: str) -> None:
    rows = [{**row, "user_id": name} if n % 4 == 0 else row for n, row in enumerate(EVENTS)]
    told = "the most frequent user_id alone has 24 of 96 events, the next one"
    assert any(told in note for note in of_events(tmp_path, rows).notes)


def test_a_usual_most_active_user_is_not_told(tmp_path: Path) -> None:
    rows = [{**row, "user_id": "u000"} if n % 11 == 0 else row for n, row in enumerate(EVENTS)]
    assert not any("alone has" in note for note in of_events(tmp_path, rows).notes)


@pytest.mark.parametrize("sign", ["1.001E+03", "1.001e3", "1,001E3"])
def test_ids_that_a_spreadsheet_has_cut_are_refused_with_one(tmp_path: Path, sign: str) -> None:
    with pytest.raises(UnreadableDumpError, match=r"no item_id \(96\); item_id: 96 ids such as"):
        of_events(tmp_path, changed(EVENTS, item_id=sign))


@pytest.mark.parametrize(
    ("bought", "described", "way"),
    [
        ("k%C3%BChl%2F{}", "kühl/{}", "signs of URLs"),
        ("A&amp;B{}", "A&B{}", "signs of HTML"),
        ("{}", "{}.jpg", "all after"),
    ],
)
def test_ids_of_another_writing_are_named(
    tmp_path: Path, bought: str, described: str, way: str
) -> None:
    items = as_csv(tmp_path / "i.csv", changed(ITEMS, item_id=described.format))
    with pytest.raises(UnreadableDumpError, match=rf"10 of 10 would match without .*{way}"):
        of_events(tmp_path, changed(EVENTS, item_id=bought.format), items=items)


def test_one_domain_in_two_spellings_is_refused(tmp_path: Path) -> None:
    rows = [
        {**row, "domain": str(row["domain"]).title() if n % 3 == 0 else row["domain"]}
        for n, row in enumerate(EVENTS)
    ]
    with pytest.raises(UnreadableDumpError, match="one domain as 'Food' and as 'food'"):
        of_events(tmp_path, rows)


def test_cents_are_no_price(tmp_path: Path) -> None:
    items = as_csv(tmp_path / "i.csv", [{**row, "price": "1299¢"} for row in ITEMS])
    assert of_events(tmp_path, EVENTS, items=items).items["price"].null_count() == len(ITEMS)


def test_lists_among_plain_texts_are_lists(tmp_path: Path) -> None:
    texts = ["['Grocery', 'Snacks']", "Plain|Other", "[not a list]", '["x"]']
    rows = [{**row, "categories": texts[n % 4]} for n, row in enumerate(ITEMS)]
    made = of_events(tmp_path, EVENTS, items=as_csv(tmp_path / "i.csv", rows))
    found = dict(zip(made.items["title"], made.items["categories"].to_list(), strict=True))
    assert [found[f"food no {n}"] for n in range(4)] == [
        ["Grocery", "Snacks"],
        ["Plain", "Other"],
        ["[not a list]"],
        ["x"],
    ]
    assert any("among others are read as lists" in note for note in made.notes)


@pytest.mark.parametrize(
    "way",
    [
        "List(a, b)",
        "WrappedArray(a, b)",
        "Set(a, b)",
        "set(['a', 'b'])",
        "array(['a', 'b'], dtype=object)",
        "tuple(('a', 'b'))",
        '"[\\"a\\", \\"b\\"]"',
    ],
)
def test_lists_that_programs_show_are_lists(tmp_path: Path, way: str) -> None:
    rows = [{**row, "categories": way} for row in ITEMS]
    made = of_events(tmp_path, EVENTS, items=as_csv(tmp_path / "i.csv", rows))
    assert made.items["categories"].to_list() == [["a", "b"]] * len(ITEMS)


def lines(end: str = "") -> list[str]:
    return [",".join(map(str, row.values())) + end for row in EVENTS]


def of_lines(folder: Path, rows: list[str]) -> Ingested:
    (folder / "x.csv").write_text("\n".join([HEADER, *rows]))
    items = as_csv(folder / "i.csv", ITEMS)
    made = Ingested(folder, interactions=str(folder / "x.csv"), items=items)
    made.require_balance()
    return made


def test_a_separator_behind_each_row_alone_is_no_column(tmp_path: Path) -> None:
    assert of_lines(tmp_path, lines(",")).moments == MOMENTS


def test_numbers_of_rows_without_a_name_are_no_column(tmp_path: Path) -> None:
    made = of_lines(tmp_path, [f"{n},{line}" for n, line in enumerate(lines(), 1)])
    assert made.moments == MOMENTS


def test_a_field_more_in_every_row_is_refused_by_its_rows(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDumpError, match=r"none of its 96 rows .* 5 fields instead of 4"):
        of_lines(tmp_path, lines(",x"))


@pytest.mark.parametrize(
    "held",
    [
        {name: [row[name] for row in EVENTS] for name in EVENTS[0]},
        {"columns": list(EVENTS[0]), "data": [list(row.values()) for row in EVENTS]},
        {name: {str(n): row[name] for n, row in enumerate(EVENTS)} for name in EVENTS[0]},
    ],
    ids=["lists", "split", "columns"],
)
def test_json_by_columns_is_named(tmp_path: Path, held: object) -> None:
    path = tmp_path / "e.json"
    path.write_text(json.dumps(held))
    with pytest.raises(UnreadableDumpError, match=r"one JSON object of columns .*orient='records'"):
        Ingested(tmp_path, interactions=str(path))


@pytest.mark.parametrize("start", [" \n", "\ufeff\n\n", "\r\n"], ids=["blank", "mark", "crlf"])
def test_an_array_behind_blank_lines_is_read(tmp_path: Path, start: str) -> None:
    path = tmp_path / "e.json"
    path.write_text(start + json.dumps(EVENTS))
    items = as_csv(tmp_path / "i.csv", ITEMS)
    assert Ingested(tmp_path, interactions=str(path), items=items).moments == MOMENTS


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"user_id,item_id\n", "text: give it the ending"),
        (b'{"user_id": 1}\n', "JSON: give it the ending"),
        (b"ARROW1\x00\x00", "Arrow"),
        (b"PK\x03\x04", "zip archive"),
        (b"", "it is empty"),
    ],
    ids=["text", "json", "arrow", "zip", "empty"],
)
def test_a_file_that_is_only_named_parquet_is_named(
    tmp_path: Path, content: bytes, what: str
) -> None:
    (tmp_path / "e.parquet").write_bytes(content)
    with pytest.raises(UnreadableDumpError, match=what):
        Ingested(tmp_path, interactions=str(tmp_path / "e.parquet"))


def test_a_file_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "e.csv", EVENTS)
    with pytest.raises(UnreadableDumpError, match="is named twice"):
        Ingested(tmp_path, interactions=(path, str(tmp_path / "*.csv")))


def test_rows_of_the_partition_without_a_value_are_set_aside(tmp_path: Path) -> None:
    for value in ("food", "__HIVE_DEFAULT_PARTITION__", "kitchen"):
        place = tmp_path / "events" / f"domain={value}"
        place.mkdir(parents=True)
        rows = [{k: v for k, v in row.items() if k != "domain"} for row in EVENTS[:40]]
        pl.DataFrame(rows).write_parquet(place / "part-0.parquet")
    made = Ingested(tmp_path, interactions=str(tmp_path / "events"))
    made.require_balance()
    assert sum(n for why, n in made.dropped.items() if "no domain" in why) == 40


def test_another_encoding_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "i.csv"
    text = "item_id,domain,title\n" + "".join(f"F{n:03},food,Müsli\n" for n in range(10))
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UnreadableDumpError, match=r"not UTF-8 \(10\); convert it: zcat .*iconv"):
        of_events(tmp_path, EVENTS, items=str(path))


@pytest.mark.parametrize(
    "above",
    [
        ["# Events of the shop", "# 2020-09-01, 2020-12-31", ""],
        ["", "#", "#----------------------------------------", "", "# exported"],
        ["#1"],
        ['# a "quotation mark that nothing closes'],
    ],
    ids=["titles", "rules", "one", "quote"],
)
def test_comments_above_a_header_are_counted_and_told(tmp_path: Path, above: list[str]) -> None:
    path = tmp_path / "e.csv"
    path.write_text("\n".join([*above, HEADER, *lines()]) + "\n")
    made = Ingested(tmp_path, interactions=str(path), items=as_csv(tmp_path / "i.csv", ITEMS))
    made.require_balance()
    assert made.moments == MOMENTS
    comments = sum(line.startswith("#") for line in above)
    assert made.accounts.filter(file="e.csv")["header"].to_list() == [1 + comments]
    assert f"e.csv: lines above the header that begin with # are left out ({comments})" in (
        made.notes
    )


def test_a_header_that_begins_with_a_hash_is_the_header(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("\n".join([f"#{HEADER}", *lines()]) + "\n")
    made = Ingested(tmp_path, interactions=str(path), items=as_csv(tmp_path / "i.csv", ITEMS))
    assert made.moments == MOMENTS
    assert not any("begin with #" in note for note in made.notes)


@pytest.mark.parametrize(
    ("write", "value"),
    [
        (lambda s: s + 10**10, "'1[0-9]{10}'"),
        (lambda s: f"{day(s).year + 543}-{day(s):%m-%d}", "'256[34]-"),
        (lambda s: f"{day(s).year - 621}-{day(s):%m-}15", "'1399-"),
    ],
    ids=["seconds", "Buddhist", "Persian"],
)
def test_times_that_cannot_have_been_are_refused_with_one(
    tmp_path: Path, write: object, value: str
) -> None:
    said = rf"e\.csv: the column timestamp holds times such as {value}.* in the future or before"
    with pytest.raises(UnreadableDumpError, match=said):
        of_events(tmp_path, changed(EVENTS, timestamp=write))


def test_a_few_times_of_the_future_are_quarantined_and_one_is_told(tmp_path: Path) -> None:
    rows = [{**EVENTS[0], "timestamp": "2999-01-01"}, *changed(EVENTS, timestamp=day)]
    made = of_events(tmp_path, rows)
    made.require_balance()
    assert made.dropped == {"interactions: timestamp in the future": 1}
    assert any("'2999-01-01', lie in the future" in note for note in made.notes)


@pytest.mark.parametrize("scale", [1_000, 1_000_000, 1_000_000_000])
def test_seconds_among_finer_times_are_quarantined(tmp_path: Path, scale: int) -> None:
    rows = [
        {**row, "timestamp": int(str(row["timestamp"])) * (scale if n % 4 else 1)}
        for n, row in enumerate(EVENTS)
    ]
    made = of_events(tmp_path, rows)
    made.require_balance()
    assert made.dropped == {"interactions: timestamp in 1970": 24}
    assert any("such as '1600000000', would lie in 1970" in note for note in made.notes)


def test_zeros_among_compact_dates_are_missing(tmp_path: Path) -> None:
    rows = [
        {**row, "timestamp": f"{day(MOMENTS[n]):%Y%m%d}" if n % 20 else "00000000"}
        for n, row in enumerate(EVENTS)
    ]
    made = of_events(tmp_path, rows)
    made.require_balance()
    assert made.dropped["interactions: no usable timestamp"] == 5
    assert min(made.moments) >= MOMENTS[0] - 86_400


def test_most_times_may_be_zero_and_are_missing(tmp_path: Path) -> None:
    rows = [{**row, "timestamp": 0} if n % 10 < 6 else row for n, row in enumerate(EVENTS)]
    made = of_events(tmp_path, rows)
    made.require_balance()
    assert made.dropped == {"interactions: timestamp of zero or less": 60}


def test_a_column_called_by_a_number_is_not_taken_for_a_missing_header(tmp_path: Path) -> None:
    rows = [{"2020": 1, **{k: v for k, v in row.items() if k != "timestamp"}} for row in EVENTS]
    with pytest.raises(UnreadableDumpError, match=r"no column timestamp .*has another name"):
        of_events(tmp_path, rows)


@pytest.mark.parametrize(
    ("first", "way"),
    [
        ("u000\tF002\tfood\t1600000000", "first line holds values"),
        ("u000\t2020-09-13T12:26:40Z\tF002\tfood", "first line holds values"),
        ("user_id::item_id::domain::timestamp", "its separator is .::."),
        (chr(34) + "user_id,item_id,domain,timestamp" + chr(34), "in quotation marks as a whole"),
        ("F000;food;Oat Rye", "first line holds values"),
        ("u000\t2020-09-13T12:26:40Z\tArtist\tTrack", "first line holds values"),
        ("user_id item_id domain timestamp", "separated by a comma, ; tab or"),
        ('"All amounts in USD"', "separated by a comma, ; tab or"),
        ("-- MySQL dump 10.13", "separated by a comma, ; tab or"),
    ],
)
def test_a_first_line_that_names_no_columns_is_told(tmp_path: Path, first: str, way: str) -> None:
    (tmp_path / "e.csv").write_text("\n".join([first, *lines()]) + "\n")
    with pytest.raises(UnreadableDumpError, match=rf"has no column user_id.*{way}"):
        Ingested(tmp_path, interactions=str(tmp_path / "e.csv"))


@pytest.mark.parametrize("separator", [",", ";", "|"])
def test_a_tsv_file_of_another_separator_is_read(tmp_path: Path, separator: str) -> None:
    path = as_csv(tmp_path / "e.tsv", EVENTS, delimiter=separator)
    made = Ingested(tmp_path, interactions=path, items=as_csv(tmp_path / "i.csv", ITEMS))
    assert made.moments == MOMENTS


def test_columns_with_recboles_types_are_known(tmp_path: Path) -> None:
    types = {"timestamp": "float"}
    rows = [{f"{name}:{types.get(name, 'token')}": v for name, v in row.items()} for row in EVENTS]
    made = of_events(tmp_path, rows)
    assert made.moments == MOMENTS
    assert "e.csv: the column user_id:token is read as user_id" in made.notes


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("ids", ["u{}", "会員{}"])
def test_a_header_that_is_longer_in_utf8_than_in_its_file_hides_no_row(
    tmp_path: Path, encoding: str, ids: str
) -> None:
    rows = "".join(
        f"{ids.format(n)},i{n % 3},{'ab'[n % 2]},{n + 1_600_000_000}\n" for n in range(9)
    )
    header = "会員番号,商品番号,部門の名称,購入した日時\n"
    names = dict(zip(header.strip().split(","), HEADER.split(","), strict=True))
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "e.csv").write_bytes((mark + header + rows).encode(encoding))
    made = Ingested(tmp_path, interactions=str(tmp_path / "e.csv"), columns=names)
    made.require_balance()
    assert made.counts["events"] == 9
