"""Lists that an export wrote as text are lists again; objects in place of texts are refused."""

import json
from pathlib import Path

import polars as pl
import pytest

from tasks.dump.fields.item_texts import ListField, TextField
from tasks.dump.fields.text_lists import listed
from tasks.dump.sources.files import UnreadableDumpError
from tests.tasks.dump.dump_files import Ingested, as_csv, as_parquet, events_of, items_of, of_events

LISTS = {
    "python": ("['Grocery', \"Men's, salty\"]", ["Grocery", "Men's, salty"]),
    "json": ('["Grocery", "Snacks"]', ["Grocery", "Snacks"]),
    "json escapes": ('["Caf\\u00e9"]', ["Café"]),
    "numpy": ("['Grocery' 'Snacks']", ["Grocery", "Snacks"]),
    "numpy lines": ("['Grocery'\n 'Snacks']", ["Grocery", "Snacks"]),
    "tuple": ("('Grocery',)", ["Grocery"]),
    "set": ("{'Grocery', 'Snacks'}", ["Grocery", "Snacks"]),
    "r": ('c("Grocery", "Snacks")', ["Grocery", "Snacks"]),
    "postgres": ('{Grocery,"Snacks, salty",NULL}', ["Grocery", "Snacks, salty"]),
    "duckdb": ("[Grocery, Snacks]", ["Grocery", "Snacks"]),
    "paths": ("[['Home', 'Tea'], ['Gifts']]", ["Home", "Tea", "Gifts"]),
    "objects": ("[{'id': 16, 'name': 'Animation'}, {'id': 1, 'name': 'Family'}]",
                ["Animation", "Family"]),
    "numbers": ("[1, 2]", ["1", "2"]),
    "nulls": ("[None, 'Tea']", ["Tea"]),
    "empty": ("[]", []),
    "empty postgres": ("{}", []),
}  # fmt: skip


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_that_was_written_as_text_is_a_list(kind: str) -> None:
    text, expected = LISTS[kind]
    assert listed(text) == expected


@pytest.mark.parametrize(
    "text", ["Grocery", "[Sealed] Game", "(new)x", "{", "[", "'a', 'b'", "c(", "5", '{"en": "Tea"}']
)
def test_a_text_that_is_no_list_is_none(text: str) -> None:
    assert listed(text) is None


def test_a_literal_is_parsed_and_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    listed(f"[__import__('pathlib').Path({str(trap)!r}).touch()]")
    listed("[" * 5000 + "]" * 5000)
    listed("[" + "9" * 10_000 + "]")
    assert not trap.exists()


@pytest.mark.parametrize("kind", ["python", "json", "numpy", "postgres", "duckdb"])
def test_categories_as_text_are_several_categories(kind: str, tmp_path: Path) -> None:
    text, expected = LISTS[kind]
    described = [{**row, "categories": text} for row in items_of()]
    made = of_events(tmp_path, events_of(), items=as_csv(tmp_path / "i.csv", described))
    assert made.items["categories"].to_list() == [expected] * 20
    assert any("are read as lists" in note for note in made.notes)


def test_a_column_with_one_bracketed_value_is_a_column_of_texts() -> None:
    texts = ["Home|Tea", "[Sealed]", "Home", *["Tea"] * 9]
    field = ListField("categories")
    found = field.read(pl.Series("categories", texts))
    assert found.to_list()[:2] == [["Home", "Tea"], ["[Sealed]"]]
    assert field.notes() == []


def test_a_description_in_paragraphs_is_one_text() -> None:
    texts = ["['Hot.', 'Good.']", '["It\'s tea."]', "[]", None]
    assert TextField("description").read(pl.Series("description", texts)).to_list() == [
        "Hot. Good.", "It's tea.", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["nan", "None", "N/A", "NULL", "\\N"])
def test_words_for_no_value_describe_nothing(word: str, tmp_path: Path) -> None:
    described = [
        {
            **row,
            "brand": word,
            "title": word if place % 2 else row["title"],
            "categories": f"{word}|Tea",
        }
        for place, row in enumerate(items_of())
    ]
    made = of_events(tmp_path, events_of(), items=as_csv(tmp_path / "i.csv", described))
    assert made.items["brand"].null_count() == 20
    assert made.items["title"].null_count() == 10
    assert made.items["categories"].to_list() == [["Tea"]] * 20
    assert any(
        f"title: words for no value are left out: {word!r} (10)" in note for note in made.notes
    )


def test_objects_where_a_title_should_be_are_refused_with_one_of_them(tmp_path: Path) -> None:
    described = [{**row, "title": {"en": "Tea"}} for row in items_of()]
    (tmp_path / "i.jsonl").write_text("".join(json.dumps(row) + "\n" for row in described))
    said = r"i\.jsonl: the column title holds objects such as '\{\"en\": \"Tea\"\}' and no text"
    with pytest.raises(UnreadableDumpError, match=said):
        of_events(tmp_path, events_of(), items=str(tmp_path / "i.jsonl"))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("title", {"en": "Tea"}),
        ("brand", True),
        ("price", {"amount": 3}),
        ("description", {"html": "x", "text": "y"}),
        ("categories", [{"name": "Tea"}]),
        ("item_id", {"id": "1"}),
    ],
)
def test_parquet_types_that_are_no_text_are_refused_by_column_and_type(
    column: str, value: object, tmp_path: Path
) -> None:
    described = [{**row, column: value} for row in items_of()]
    path = as_parquet(tmp_path / "i.parquet", described)
    said = (
        rf"i\.parquet: the column {column} has the type .*, from which no {column} can be read, as"
    )
    with pytest.raises(UnreadableDumpError, match=said):
        Ingested(tmp_path, interactions=as_csv(tmp_path / "e.csv", events_of()), items=path)


def test_lists_of_every_parquet_type_are_categories(tmp_path: Path) -> None:
    kinds = {
        "list": pl.List(pl.String),
        "fixed": pl.Array(pl.String, 2),
        "categorical": pl.List(pl.Categorical()),
        "enum": pl.List(pl.Enum(["Home", "Tea"])),
    }
    for name, kind in kinds.items():
        frame = pl.DataFrame(items_of()).with_columns(
            pl.Series("categories", [["Home", "Tea"]] * 20, dtype=kind)
        )
        frame.write_parquet(tmp_path / f"{name}.parquet")
        made = of_events(tmp_path, events_of(), items=str(tmp_path / f"{name}.parquet"))
        assert made.items["categories"].to_list() == [["Home", "Tea"]] * 20, name
