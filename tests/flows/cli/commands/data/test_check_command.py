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
        f"A model can be made from it: llm4cdsr run --interactions {events} --items '{items}'"
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
