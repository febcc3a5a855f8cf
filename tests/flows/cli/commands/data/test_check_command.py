"""`llm4cdsr check`: what a dump holds, and whether it will do, before anything is started."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.command_table import app
from tasks.dump.naming.sorted_files import sorted_files
from tasks.dump.sources.files import UnreadableDumpError
from tasks.dump.trainable import NothingToTrainOnError
from tests.tasks.dump.dump_files import as_csv, as_parquet, changed, events_of, items_of

EVENTS = events_of()


@pytest.fixture
def items(tmp_path: Path) -> str:
    return as_csv(tmp_path / "what is sold.csv", items_of())


def checked(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["check", *arguments], env={"COLUMNS": "300"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0
    return done.stdout


def test_files_in_any_order_are_told_apart_and_counted(tmp_path: Path, items: str) -> None:
    events = as_parquet(tmp_path / "e.parquet", EVENTS)
    said = checked(items, events)
    assert "12 users, 12 of them in several domains" in said
    assert said.splitlines()[-1] == (
        f"The data suffice for a model: llm4cdsr run --interactions {events} --items '{items}'"
    )


def test_rows_that_go_are_named_by_their_rule(tmp_path: Path, items: str) -> None:
    rows = [{**row, "user_id": "NULL" if n < 7 else row["user_id"]} for n, row in enumerate(EVENTS)]
    assert "no user_id (7)" in checked(as_csv(tmp_path / "e.csv", rows), items)


def test_a_dump_nobody_can_train_on_is_refused(tmp_path: Path, items: str) -> None:
    rows = [{**row, "user_id": f"order {n}"} for n, row in enumerate(EVENTS)]
    with pytest.raises(NothingToTrainOnError, match="no user has two training events"):
        checked(as_csv(tmp_path / "e.csv", rows), items)


def test_a_renamed_column_is_taken_and_kept_in_the_command(tmp_path: Path, items: str) -> None:
    rows = [{"customer": row["user_id"], **row} for row in EVENTS]
    rows = [{name: value for name, value in row.items() if name != "user_id"} for row in rows]
    events = as_csv(tmp_path / "e.csv", rows)
    with pytest.raises(UnreadableDumpError, match="customer looks like user_id"):
        checked(events, items)
    assert (
        checked(events, items, "--column", "customer=user_id")
        .rstrip()
        .endswith("--column customer=user_id")
    )


def test_items_alone_are_no_dump(items: str) -> None:
    with pytest.raises(UnreadableDumpError, match="no file has a column user_id"):
        checked(items)


def test_events_with_titles_are_events(tmp_path: Path, items: str) -> None:
    rows = changed(EVENTS, title="a title")
    events = as_csv(tmp_path / "e.csv", rows)
    assert sorted_files([items, events], {}) == ((events,), (items,))


def test_of_many_parts_those_that_lost_rows_are_shown(tmp_path: Path, items: str) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in range(30):
        rows = [EVENTS[number], {**EVENTS[number + 30], "user_id": "" if number == 29 else "u1"}]
        as_csv(folder / f"part-{number:02}.csv", [*rows, EVENTS[number + 60]])
    said = checked(str(folder), items)
    shown = [
        " ".join(line.replace("│", " ").split())
        for line in said.splitlines()
        if "interactions │" in line
    ]
    assert shown[0] == "part-29.csv interactions 3 2 no user_id (1)"
    assert shown[-1] == "10 more interactions 30 30 –"
    assert "what is sold.csv" in said


def test_a_file_of_each_domain_and_a_condition_are_kept_in_the_command(tmp_path: Path) -> None:
    given = []
    for kind, rows in (("e", EVENTS), ("i", items_of())):
        for domain in ("food", "kitchen"):
            found = [{**row, "stars": n % 5} for n, row in enumerate(rows)]
            found = [row for row in found if row.pop("domain") == domain]
            given.append(f"{domain}={as_csv(tmp_path / f'{kind}-{domain}.csv', found)}")
    said = checked(*given, "--where", "stars>=1")
    assert "not stars>=1" in said
    assert said.splitlines()[-1].endswith(
        f"--interactions {given[0]} --interactions {given[1]} --items {given[2]} "
        f"--items {given[3]} --where 'stars>=1'"
    )
