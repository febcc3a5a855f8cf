"""JSON in the forms that exports have: lines, one array, objects over lines, literals, wrappers."""

import json
import pprint
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.dump.sources import files
from tasks.dump.sources.files import UnreadableDumpError
from tests.tasks.dump.dump_files import Ingested, Row, events_of, items_of, of_events

Write = Callable[[list[Row]], str]


def lines(rows: list[Row], between: str = "\n") -> str:
    return between.join(json.dumps(row) for row in rows)


FORMS: dict[str, Write] = {
    "lines": lines,
    "lines and a last end": lambda rows: lines(rows) + "\n",
    "lines of windows": lambda rows: lines(rows, "\r\n"),
    "lines of an old mac": lambda rows: lines(rows, "\r"),
    "blank lines": lambda rows: "\n\n" + lines(rows, "\n\n \n"),
    "one array": json.dumps,
    "one indented array": lambda rows: json.dumps(rows, indent=2),
    "an array of lines": lambda rows: "[\n" + lines(rows, ",\n") + "\n]\n",
    "an array with a comma first": lambda rows: "[\n" + lines(rows, "\n,") + "\n]",
    "indented objects": lambda rows: "\n".join(json.dumps(row, indent=4) for row in rows),
    "arrays by page": lambda rows: json.dumps(rows[:40]) + "\n" + json.dumps(rows[40:]),
    "literals": lambda rows: "\n".join(map(repr, rows)),
    "an array of literals": repr,
    "a printed array of literals": pprint.pformat,
    "a mark of utf-8": lambda rows: "\ufeff" + lines(rows),
    "a mark and an array": lambda rows: "\ufeff" + json.dumps(rows),
    "mongo": lambda rows: lines(
        [
            {
                **row,
                "user_id": {"$oid": row["user_id"]},
                "timestamp": {"$date": {"$numberLong": str(int(str(row["timestamp"])) * 1000)}},
            }
            for row in rows
        ]
    ),
}


@pytest.mark.parametrize("block", [100, 1 << 24])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_json_gives_the_same_events(
    form: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", block)
    monkeypatch.setattr("tasks.dump.readers.json_values.BLOCK_BYTES", block)
    rows = events_of()
    (tmp_path / "e.json").write_text(FORMS[form](rows), newline="")
    made = Ingested(tmp_path, interactions=str(tmp_path / "e.json"))
    made.require_balance()
    assert (made.counts["rows_in"], made.counts["events"]) == (96, 96)
    assert made.dataset.users["user_id"].to_list() == [f"u{n:03}" for n in range(12)]
    assert made.moments == sorted(int(str(row["timestamp"])) for row in rows)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le"])
def test_an_array_in_another_unicode_encoding_is_read(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "e.json").write_bytes(json.dumps(events_of()).encode(encoding))
    assert Ingested(tmp_path, interactions=str(tmp_path / "e.json")).counts["events"] == 96


def test_elements_of_an_array_that_are_no_objects_are_set_aside(tmp_path: Path) -> None:
    rows = [*events_of(), 5, "x", None]
    (tmp_path / "e.json").write_text(json.dumps(rows))
    made = Ingested(tmp_path, interactions=str(tmp_path / "e.json"))
    made.require_balance()
    assert made.dropped == {"interactions: not a JSON object": 3}
    assert made.quarantine["row"].to_list() == [96, 97, 98]


def test_bytes_that_are_no_utf8_cost_their_object_alone(tmp_path: Path) -> None:
    text = json.dumps(events_of()).encode().replace(b'"u003"', b'"u\xff3"', 1)
    (tmp_path / "e.json").write_bytes(text)
    made = Ingested(tmp_path, interactions=str(tmp_path / "e.json"))
    assert made.dropped == {"interactions: not UTF-8": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps(events_of())[:-40], r"it ends in the middle of a value, '\{.*fetch it again"),
        (json.dumps(events_of()).replace("u003", 'u"3', 1), r"not valid at character [\d,]+ \("),
        (json.dumps({"products": events_of()}), r"field 'products' holds the rows.*jq -c"),
        (json.dumps({"lists": events_of()}, indent=4), r"field 'lists' holds the rows.*jq -c"),
        (
            json.dumps({"user_id": {"0": "u", "1": "v"}, "item_id": {"0": "a", "1": "b"}}),
            r"one JSON object of columns \(user_id, item_id\).*orient='records', lines=True",
        ),
        (json.dumps([["u", "i", "a", 1]]), r"no row of it is an object"),
        ("[" * 100_000, r"cannot be read"),
        ("[]", r"no row of it is an object"),
        ("{}", r"no row of it is an object"),
        ("null", r"no row of it is an object"),
        ('"text"', r"no row of it is an object"),
    ],
    ids=[
        "cut",
        "broken",
        "wrapped",
        "indented",
        "columns",
        "rows",
        "deep",
        "empty",
        "object",
        "null",
        "text",
    ],
)
def test_json_that_holds_no_rows_is_refused_with_the_way_out(
    text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(UnreadableDumpError, match=said):
        Ingested(tmp_path, interactions=str(tmp_path / "e.json"))


def test_ids_are_alike_in_blocks_with_and_without_a_broken_line(tmp_path: Path) -> None:
    rows = [{**row, "item_id": float(str(row["item_id"])[1:])} for row in events_of()]
    (tmp_path / "whole.jsonl").write_text(lines(rows))
    (tmp_path / "broken.jsonl").write_text("nonsense\n" + lines(rows))
    whole, broken = (
        Ingested(tmp_path, interactions=str(tmp_path / f"{name}.jsonl"))
        for name in ("whole", "broken")
    )
    assert whole.items.equals(broken.items)
    assert "1.0" not in whole.items["item_id"].to_list()


def test_items_of_an_array_keep_their_lists(tmp_path: Path) -> None:
    described = [{**row, "categories": ["Home", row["domain"]]} for row in items_of()]
    (tmp_path / "i.json").write_text(json.dumps(described, indent=1))
    made = of_events(tmp_path, events_of(), items=str(tmp_path / "i.json"))
    assert made.items["categories"].to_list()[:1] == [["Home", "food"]]


@pytest.mark.parametrize("form", ["lines", "one array", "indented objects"])
def test_a_field_with_two_values_costs_its_row(form: str, tmp_path: Path) -> None:
    text = FORMS[form](events_of())
    first, equal, other = (f'"user_id": "u{n:03}"' for n in range(3))
    text = text.replace(first, f'{first}, "user_id": "u999"', 2)
    text = text.replace(equal, f"{equal}, {equal}", 1)
    text = text.replace(other, f'{other}, "device": "a", "device": "b"', 1)  # Is not read.
    (tmp_path / "e.json").write_text(text)
    made = Ingested(tmp_path, interactions=str(tmp_path / "e.json"))
    made.require_balance()
    assert made.dropped == {"interactions: a field twice with different values": 2}
    assert made.quarantine["row"].to_list() == [0, 1]
    assert made.counts["events"] == 94
