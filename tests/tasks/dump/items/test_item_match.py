"""Items of the events and of the descriptions that do not meet stop the run, with the way out."""

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from artifacts.bundles import REFRESHED, bundle
from artifacts.manifest import Kind
from tasks.dump.items.item_match import ItemsDoNotMeetError, matched
from tests.tasks.dump.dump_files import (
    Ingested,
    Row,
    as_csv,
    changed,
    events_of,
    items_of,
    of_events,
)

Change = Callable[[object], object]


def ingested(
    folder: Path, of_events_side: dict[str, Change], of_items_side: dict[str, Change]
) -> Ingested:
    rows = changed(events_of(), **of_events_side)
    described = changed(items_of(), **of_items_side)
    return of_events(folder, rows, items=as_csv(folder / "i.csv", described))


def number(item: object) -> int:
    return 1000 + int(str(item)[1:])


def as_uuid(item: object) -> str:
    return f"{number(item):08d}-0000-4000-8000-{'abcdef' * 2}"


WAYS: dict[str, tuple[Change, Change, str]] = {
    "some are floats": (
        lambda item: f"{number(item)}.0" if number(item) % 10 else "odd",
        lambda item: f"{number(item)}",
        r"'\.0' at the end",
    ),
    "leading zeros": (lambda i: f"{number(i):010}", lambda i: f"{number(i)}", "leading zeros"),
    "capitals": (lambda i: str(i).lower(), lambda i: str(i), "capitals"),
    "blanks": (lambda i: f"{str(i)[0]} {str(i)[1:]}", lambda i: str(i), "blanks"),
    "hyphens of a uuid": (
        lambda i: as_uuid(i).replace("-", "").upper(),
        lambda i: f"{{{as_uuid(i)}}}",
        "hyphens, braces and capitals",
    ),
    "composed": (
        lambda i: unicodedata.normalize("NFD", f"é{i}"),
        lambda i: unicodedata.normalize("NFC", f"é{i}"),
        r"composed and decomposed forms \(NFC\)",
    ),
    "full width": (lambda i: f"Ａ{str(i)[1:]}", lambda i: f"A{str(i)[1:]}", r"\(NFKC\)"),
    "a prefix": (
        lambda i: f"gid://shopify/Product/{number(i)}",
        lambda i: f"{number(i)}",
        "all before the last '/'",
    ),
    "several at once": (
        lambda i: f"sku-00{i}",
        lambda i: f"SKU_00{i}".upper(),
        "all that is no letter or digit",
    ),
    "quotation marks": (lambda i: f"'{i}'", lambda i: str(i), "quotation marks"),
}


@pytest.mark.parametrize("way", WAYS)
def test_ids_that_are_written_in_two_ways_stop_the_run_and_say_how(
    way: str, tmp_path: Path
) -> None:
    bought, described, said = WAYS[way]
    with pytest.raises(ItemsDoNotMeetError) as caught:
        ingested(tmp_path, {"item_id": bought}, {"item_id": described})
    message = str(caught.value)
    assert message.startswith("the items of events and item files do not match: in the ")
    assert "0 of 10 bought and 10 described items match" in message
    assert re.search(said, message)
    first = min(str(bought(f"F{n:03}")) for n in range(10))
    assert repr(first) in message
    assert "use the same item_id in both files" in message


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ("Food", "They would match if 'Food' were 'food': use one spelling"),
        ("FOOD ", "They would match if 'FOOD' were 'food'"),
        ("food-store", "10 of 10 would match by item_id alone"),
    ],
)
def test_a_domain_that_is_spelt_in_two_ways_is_shown(
    theirs: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ItemsDoNotMeetError) as caught:
        ingested(tmp_path, {}, {"domain": lambda d: theirs if d == "food" else d})
    assert str(caught.value).startswith("no item of the domain 'food' is described, and no item of")
    assert said in str(caught.value)


def test_ids_without_any_likeness_are_shown_from_both_sides(tmp_path: Path) -> None:
    with pytest.raises(
        ItemsDoNotMeetError, match=r"Bought are 'F000', 'F001', 'F002'; described are 'x"
    ):
        ingested(tmp_path, {}, {"item_id": lambda item: f"x{hash(str(item)) % 977:04}q"})


def test_one_domain_that_does_not_meet_is_enough(tmp_path: Path) -> None:
    with pytest.raises(ItemsDoNotMeetError, match="in the domain kitchen 0 of 9 bought and 10"):
        ingested(tmp_path, {}, {"item_id": lambda i: i if str(i)[0] == "F" else f"0{i}"})


def keys(domain: str, ids: range) -> pl.DataFrame:
    return pl.DataFrame(
        [(domain, f"i{n}") for n in ids], schema=["domain", "item_id"], orient="row"
    )


def test_a_part_of_a_large_catalogue_and_a_few_words_are_no_fault() -> None:
    assert matched(keys("a", range(10)), keys("a", range(5000))).met == 10
    assert matched(keys("a", range(5000)), keys("a", range(10))).met == 10
    assert matched(keys("a", range(9)), keys("a", range(9)).clear()).described == 0
    assert matched(keys("a", range(2)), keys("a", range(8, 10))).met == 0


def test_items_that_partly_meet_are_counted_both_ways_with_what_parts_them(tmp_path: Path) -> None:
    lower: dict[str, Change] = {
        "item_id": lambda item: item if int(str(item)[1:]) < 6 else str(item).lower()
    }
    made = ingested(tmp_path, {}, lower)
    assert made.counts["items_not_described"] == 8
    note = next(note for note in made.notes if "have no description" in note)
    assert note.startswith("8 of 19 bought items have no description, and 9 of 20 described ones")
    assert "8 of 8 would match without capitals ('F006' and 'f006')" in note


def test_descriptions_of_the_dataset_before_count_when_a_dump_is_added(tmp_path: Path) -> None:

    first = of_events(tmp_path, events_of())
    bundle(first.store, Kind.REFRESH, REFRESHED, {"dataset": first.result.ref})
    new: list[Row] = [{"item_id": f"N{n}", "domain": "food", "title": "New"} for n in range(5)]
    later = of_events(
        tmp_path,
        events_of(start=1_610_000_000),
        items=as_csv(tmp_path / "n.csv", new),
        mode="append",
    )
    assert later.counts["items_not_described"] == 0
    assert later.counts["events_before"] == 96


@pytest.mark.parametrize(("moved", "noted"), [(3, True), (2, False)])
def test_items_that_the_item_files_have_in_another_domain_are_noted(
    moved: int, noted: bool, tmp_path: Path
) -> None:
    ids = [f"F{n:03}" for n in range(moved)]
    items = [{**row, "domain": "kitchen"} if row["item_id"] in ids else row for row in items_of(10)]
    made = of_events(tmp_path, events_of(), items=as_csv(tmp_path / "i.csv", items))
    said = (
        f"{moved} items have another domain in the item files than in the events, such as 'F000' "
    )
    assert any(note.startswith(f"{said}(kitchen and food)") for note in made.notes) == noted


def test_equal_ids_of_two_domains_are_not_noted(tmp_path: Path) -> None:
    """Each domain counts its items from 1; most of those without a row exist in one domain only."""
    bought = [("a", str(n)) for n in range(40)] + [("b", str(n)) for n in range(5)]
    described = [("a", str(n)) for n in range(20)] + [("b", str(n)) for n in range(25)]
    keys = [pl.DataFrame(rows, ["domain", "item_id"], orient="row") for rows in (bought, described)]
    assert not any("another domain" in note for note in matched(*keys).notes)
