"""A quotation mark hides no line: it is quoting, or text, and every line is accounted for."""

import csv
import io
from pathlib import Path

import pytest

from tests.tasks.dump.dump_files import Ingested, as_csv, changed, events_of, items_of, of_events


def ingested_text(folder: Path, text: str, encoding: str = "utf-8") -> Ingested:
    (folder / "e.csv").write_bytes(text.encode(encoding))
    items = as_csv(folder / "i.csv", items_of())
    made = Ingested(folder, interactions=str(folder / "e.csv"), items=items)
    made.require_balance()
    return made


def with_comments(*comments: str, rows: int = 96) -> str:
    """Events with a last column of comments as they are given, `fine` where none is."""
    lines = ["user_id,item_id,domain,timestamp,comment"]
    for place, event in enumerate(events_of()[:rows]):
        fields = [str(value) for value in event.values()]
        comment = comments[place] if place < len(comments) else "fine"
        lines.append(",".join([*fields, comment]))
    return "\n".join(lines) + "\n"


LONE = {
    "before a text": '"so good',
    "alone": '"',
    "before blanks": '" so good',
    "doubled once": '""so good',
    "before an inch mark": '"12" pan',
    "inside": 'so "good',
    "at the end": 'so good"',
    "after a word in marks": '"so" good',
}


@pytest.mark.parametrize("comment", LONE.values(), ids=LONE.keys())
def test_a_lone_mark_in_a_column_that_is_not_read_costs_no_row(
    comment: str, tmp_path: Path
) -> None:
    made = ingested_text(tmp_path, with_comments("fine", "fine", comment))
    assert (made.counts["rows_in"], made.counts["events"]) == (96, 96)


@pytest.mark.parametrize("apart", [1, 2, 7, 60])
@pytest.mark.parametrize("second", ['"so bad', 'so bad"', '""'])
def test_two_lone_marks_do_not_become_the_ends_of_one_value(
    apart: int, second: str, tmp_path: Path
) -> None:
    comments = ["fine", '"so good', *["fine"] * (apart - 1), second]
    made = ingested_text(tmp_path, with_comments(*comments))
    assert (made.counts["rows_in"], made.counts["events"]) == (96, 96)


def test_a_lone_mark_is_told(tmp_path: Path) -> None:
    made = ingested_text(tmp_path, with_comments('"so good', '"so bad'))
    said = "e.csv: quotation marks that nothing closes, in 2 rows, are read as text"
    assert said in made.notes


def test_quoted_fields_of_several_lines_stay_one_value(tmp_path: Path) -> None:
    texts = ["Good, cheap.\nLight.", 'A "12" pan\r\n\r\nthat lasts, long', "\n", ",,\n,,,\n"]
    rows = [
        {**event, "comment": texts[place % 4] if place < 40 else "fine"}
        for place, event in enumerate(events_of())
    ]
    made = of_events(tmp_path, rows)
    made.require_balance()
    assert (made.counts["rows_in"], made.counts["events"]) == (96, 96)
    assert made.accounts.row(0, named=True)["continued"] == 10 + 20 + 10 + 20


def test_titles_of_several_lines_are_read_whole_beside_a_lone_mark(tmp_path: Path) -> None:
    rows = items_of()
    text = io.StringIO()
    writer = csv.DictWriter(text, ["item_id", "domain", "title", "description"])
    writer.writeheader()
    for place, row in enumerate(rows):
        several = "Steel, heavy.\nFor soups, stews, roasts"
        writer.writerow({**row, "description": several if place % 3 == 0 else "Light"})
    lines = text.getvalue().replace("food no 4,Light", 'food no 4,"Light')
    (tmp_path / "i.csv").write_text(lines)
    made = of_events(tmp_path, events_of(), items=str(tmp_path / "i.csv"))
    found = dict(made.items.select("title", "description").rows())
    assert found["food no 3"] == "Steel, heavy.\nFor soups, stews, roasts"
    assert found["food no 4"] == '"Light'
    assert found["kitchen no 9"] == "Light"
    assert made.items.height == 20
    made.require_balance()


def test_a_mark_that_nothing_closes_is_no_part_of_an_id(tmp_path: Path) -> None:
    text = with_comments().replace("u003,", '"u003,', 1)
    made = ingested_text(tmp_path, text)
    assert made.counts["events"] == 95
    assert made.dropped == {"interactions: a quotation mark not closed": 1}


def test_everything_quoted_with_one_mark_lost_costs_no_row(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    as_csv(path, changed(events_of(), comment="so good"), quoting=csv.QUOTE_ALL)
    whole = path.read_text()
    for wrong in ('"so good\n', 'so good"\n'):
        text = whole.replace('"so good"\r\n', wrong, 1).replace("\r\n", "\n")
        made = ingested_text(tmp_path, text)
        assert (made.counts["rows_in"], made.counts["events"]) == (96, 96), wrong


@pytest.mark.parametrize("writer", ["spark", "mysql", "both"])
def test_a_backslash_that_escapes_a_mark_keeps_the_fields_apart(
    writer: str, tmp_path: Path
) -> None:
    quoted = {
        "spark": '"He said \\"hi\\", and left"',
        "mysql": '"\\"Best\\", they say"',
        "both": '"a \\"b\\",\nc"',
    }[writer]
    made = ingested_text(tmp_path, with_comments(*[quoted] * 30))
    assert (made.counts["rows_in"], made.counts["events"]) == (96, 96)


def test_a_file_that_is_one_run_on_value_is_still_counted_line_by_line(tmp_path: Path) -> None:
    text = with_comments(*['"never closed'] * 96)
    made = ingested_text(tmp_path, text)
    assert (made.counts["rows_in"], made.counts["events"]) == (96, 96)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_line_ends_marks_and_encodings_change_no_count(
    end: str, encoding: str, tmp_path: Path
) -> None:
    text = with_comments("fine", '"so good', '"Gut.\nGünstig."', "", '""').replace("\n", end)
    made = ingested_text(tmp_path, text, encoding)
    assert (made.counts["rows_in"], made.counts["events"]) == (96, 96)


@pytest.mark.parametrize(
    ("text", "rows", "kept"),
    [
        (with_comments() + "\n\n\r\n", 96, 96),
        ("\n\n" + with_comments(), 96, 96),
        (with_comments().rstrip("\n"), 96, 96),
        (with_comments() + "   \n", 97, 96),
        (with_comments() + "\x00\x00\x00", 97, 96),
        (with_comments().replace("fine\n", "fi\x00ne\n", 3), 96, 96),
        ("sep=,\n" + with_comments(), 96, 96),
        (with_comments() + with_comments(), 193, 96),
        (with_comments() + "(96 rows)\n", 97, 96),
    ],
    ids=["blank end", "blank start", "no end", "blanks", "nul tail", "nul", "sep", "twice", "psql"],
)
def test_what_stands_around_the_rows_is_counted_for_what_it_is(
    text: str, rows: int, kept: int, tmp_path: Path
) -> None:
    made = ingested_text(tmp_path, text)
    assert (made.counts["rows_in"], made.counts["events"]) == (rows, kept)
