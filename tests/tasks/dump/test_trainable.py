"""A dump that no model can be made from is refused by ingest, before anything is asked."""

from pathlib import Path

import pytest

from tasks.dump.dump_config import DumpConfig
from tasks.dump.items.item_reader import TooFewDomainsError
from tasks.dump.trainable import NothingToTrainOnError
from tasks.ingest import ingest
from tests.tasks.dump.dump_files import Row, as_csv, changed, events_of, items_of


def refused(folder: Path, rows: list[Row], items: list[Row] | None, **choices: object) -> str:
    described = None if items is None else as_csv(folder / "i.csv", items)
    dump = {"interactions": as_csv(folder / "e.csv", rows), "items": described, **choices}
    with pytest.raises((NothingToTrainOnError, TooFewDomainsError)) as caught:
        ingest.fn(DumpConfig.model_validate(dump), str(folder / "store"))
    return str(caught.value)


def single_events() -> list[Row]:
    return [{**row, "user_id": f"order{place}"} for place, row in enumerate(events_of())]


def test_users_of_one_event_each_are_refused(tmp_path: Path) -> None:
    said = refused(tmp_path, single_events(), items_of())
    assert said.startswith("no user has two training events to learn an order from: 96 of 96 users")


def test_users_whose_later_events_are_all_held_out_are_refused(tmp_path: Path) -> None:
    rows = [row for place, row in enumerate(events_of(per=2)) if place % 4]
    said = refused(tmp_path, rows, items_of())
    assert "0 of 12 users have one event, 24 of 36 events are held out" in said


def test_a_core_that_leaves_single_events_is_refused(tmp_path: Path) -> None:
    rows = [row for place, row in enumerate(events_of(per=2)) if place % 4]
    rows += changed(events_of(30, per=1), user_id=lambda user: f"two{user}")
    said = refused(tmp_path, rows, items_of(), user_core=3)
    assert "0 of 12 users have one event" in said
    assert "lower --user-core and --item-core" in said


@pytest.mark.parametrize(
    "items",
    [
        None,
        changed(items_of(), title=""),
        changed(items_of(), title="N/A"),
        changed(items_of(), title="<br>"),
        changed(items_of(), title=" \u200b "),
        [{**row, "title": row["title"] if row["domain"] == "food" else ""} for row in items_of()],
        [row for row in items_of() if row["domain"] == "food"],
    ],
    ids=["no file", "empty", "words", "markup", "invisible", "one domain", "one domain's rows"],
)
def test_a_domain_without_any_text_is_refused(items: list[Row] | None, tmp_path: Path) -> None:
    said = refused(tmp_path, events_of(), items)
    assert said.startswith("no item of the domain ")
    assert "--column NAME_IN_FILE=title" in said


def test_one_domain_is_refused(tmp_path: Path) -> None:
    rows = changed(events_of(), domain="food")
    assert "events in 1 domain(s) (food)" in refused(tmp_path, rows, items_of())


def test_a_dump_that_was_ingested_before_is_refused_again(tmp_path: Path) -> None:
    for _ in range(2):
        assert "no user has two training events" in refused(tmp_path, single_events(), items_of())
