"""Dumps that made like tools fail, as they were reported: read rightly, or refused by their cause.

The files lie beside the repository (``../shared/cases``); without them these tests are skipped.
Inputs of the same forms are made by the other tests of this room.
"""

from pathlib import Path

import pytest

from tasks.dump.sources.files import UnreadableDumpError
from tasks.dump.trainable import NothingToTrainOnError, require_trainable
from tests.tasks.dump.dump_files import Ingested

CASES = Path(__file__).parents[4] / "shared" / "cases"

pytestmark = pytest.mark.skipif(
    not CASES.is_dir(), reason="the reported dumps are not beside this repository"
)


def ingested(folder: Path, case: str, events: str, items: str = "i.csv") -> Ingested:
    made = Ingested(
        folder, interactions=str(CASES / case / events), items=str(CASES / case / items)
    )
    made.require_balance()
    return made


def test_a_lone_quotation_mark_costs_no_row(tmp_path: Path) -> None:
    made = ingested(tmp_path, "01-unclosed-quote", "e.csv")
    assert (made.counts["rows_in"], made.counts["events"]) == (96, 96)
    assert any("quotation marks that nothing closes" in note for note in made.notes)


def test_ids_that_are_floats_meet_and_the_change_is_told(tmp_path: Path) -> None:
    made = ingested(tmp_path, "02-ids-do-not-meet", "e_float.csv")
    assert made.items.height == 20
    assert made.items["title"].null_count() == 0
    assert any("'.0'" in note or ".0'" in note for note in made.notes)


def test_uuids_are_text(tmp_path: Path) -> None:
    made = ingested(tmp_path, "03-parquet-types", "e_uuid.parquet")
    users = made.dataset.users["user_id"].to_list()
    assert made.counts["events"] == 96
    assert all(len(user) == 36 and user.count("-") == 4 for user in users)


def test_a_title_of_structs_is_named_with_its_type(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDumpError, match=r"i_struct_title.*title has the type struct"):
        ingested(tmp_path, "03-parquet-types", "e.csv", "i_struct_title.parquet")


@pytest.mark.parametrize("events", ["e_postgres.csv", "e_utc.csv"])
def test_times_of_databases_are_moments(tmp_path: Path, events: str) -> None:
    made = ingested(tmp_path, "04-time-text", events)
    assert made.counts["events"] == 96
    assert 1_590_000_000 < made.moments[0] < made.moments[-1] < 1_610_000_000


def test_days_as_one_number_are_days(tmp_path: Path) -> None:
    made = ingested(tmp_path, "05-time-yyyymmdd", "e_yyyymmdd.csv")
    assert all(moment % 86_400 == 0 for moment in made.moments)
    assert 1_590_000_000 < made.moments[0] < made.moments[-1] < 1_610_000_000
    assert any("YYYYMMDD" in note for note in made.notes)


def test_decimal_commas_are_decimal(tmp_path: Path) -> None:
    made = ingested(tmp_path, "06-price-decimal-comma", "e.csv")
    prices = set(made.items["price"].drop_nulls().to_list())
    assert prices == {12.99, 1234.56, 12.5, 9.95, 4.5, 1299.0, 5.0, 499.0}


@pytest.mark.parametrize("events", ["e_array.json", "e_literal.json"])
def test_arrays_and_literals_are_rows(tmp_path: Path, events: str) -> None:
    assert ingested(tmp_path, "07-json-array-and-literals", events).counts["events"] == 96


def test_a_dump_of_single_events_is_refused(tmp_path: Path) -> None:
    made = ingested(tmp_path, "21-nothing-to-learn-told-late", "e.csv")
    with pytest.raises(NothingToTrainOnError, match="no user has two training events"):
        require_trainable(made.dataset)
