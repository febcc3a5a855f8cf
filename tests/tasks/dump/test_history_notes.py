"""Users who meet in no domain, and times that order no events, are told."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tasks.dump.dump_files import Ingested, Row, as_csv, changed, events_of, of_events

EVENTS = events_of()


def split(change: Callable[[str], str]) -> list[Row]:
    """The events, with other ids of the users in one domain."""
    return [
        {**row, "user_id": change(str(row["user_id"])[1:] if row["domain"] == "food" else "")}
        if row["domain"] == "food"
        else {**row, "user_id": str(row["user_id"])[1:]}
        for row in EVENTS
    ]


@pytest.mark.parametrize(
    ("name", "is_noted"),
    [(lambda n: str(int(n[1:]) + 1), True), (lambda n: n, False), (lambda n: f"9{n[1:]}", False)],
    ids=["numbers from 1 on", "names", "other numbers"],
)
def test_numbers_of_users_of_two_systems_are_noted(
    tmp_path: Path, name: Callable[[str], str], is_noted: bool
) -> None:
    rows = changed(EVENTS, user_id=name)
    paths = [
        f"{domain}="
        + as_csv(
            tmp_path / f"{domain}.csv",
            [
                {key: value for key, value in row.items() if key != "domain"}
                for row in rows
                if row["domain"] == domain
            ],
        )
        for domain in ("food", "kitchen")
    ]
    notes = Ingested(tmp_path, interactions=tuple(paths)).notes
    assert any("user_ids are numbers from 1 on" in note for note in notes) == is_noted
    of_one = of_events(tmp_path, rows).notes
    assert not any("user_ids are numbers" in note for note in of_one)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda name: f"{name}.0", "12 of 12 users of food would be users of kitchen without '.0'"),
        (lambda name: name.lstrip("0") or "0", "users of kitchen without leading zeros"),
        (lambda name: f"shop:{name}", "without all before the last"),
        (lambda name: f"x{name}y", "is user_id written alike in all domains?"),
    ],
    ids=["float", "zeros", "prefix", "others"],
)
def test_users_of_one_domain_only_are_told_with_the_likely_change(
    tmp_path: Path, change: Callable[[str], str], said: str
) -> None:
    notes = of_events(tmp_path, split(change)).notes
    found = [note for note in notes if note.startswith("no user has events in more than one")]
    assert len(found) == 1
    assert said in found[0]
    assert "001" not in found[0]  # Notes name no user.


def test_users_with_one_time_for_all_events_are_told(tmp_path: Path) -> None:
    day = {f"u{user:03}": 1_600_000_000 + user * 86_400 for user in range(12)}
    rows = [{**row, "timestamp": day[str(row["user_id"])]} for row in EVENTS]
    said = "12 of 12 users with several events have them all at one time"
    assert any(said in note for note in of_events(tmp_path, rows).notes)
    assert not any("at one time" in note for note in of_events(tmp_path, EVENTS).notes)


def test_times_that_a_spreadsheet_has_rounded_are_told(tmp_path: Path) -> None:
    rows = changed(EVENTS, timestamp=lambda value: f"{int(str(value)):.5E}")
    made = of_events(tmp_path, rows)
    assert any("'1.60000E+09' are rounded" in note for note in made.notes)
