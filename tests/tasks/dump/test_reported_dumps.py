"""Dumps that made like tools fail, as they were reported: read rightly, or refused by their cause.

The files lie beside the repository (``../shared/cases``); without them these tests are skipped.
Inputs of the same kinds, made by the tests themselves, are tested where the last column says.

| case | test of its own files and server | further inputs of the kind |
|---|---|---|
| 01 an unclosed quote | here | ``readers/test_quotation_marks``, ``readers/test_csv_account`` |
| 02 ids that do not meet | here | ``items/test_item_match``, ``fields/test_identifiers`` |
| 03 Parquet types | here | ``fields/test_identifiers``, ``fields/test_item_texts`` |
| 04, 05 times | here | ``fields/test_times``, ``test_odd_exports`` |
| 06 prices | here | ``fields/test_prices`` |
| 07 arrays and literals | here | ``readers/test_json_forms``, ``test_odd_exports`` |
| 10 one text answered 500 | ``llm/client/test_reported_servers`` | ``test_offending_text`` |
| 11 reasoning | the same | ``checks/test_reasoning`` |
| 12 parameters refused | the same | ``servers/test_dialects`` |
| 13 no credit | the same | ``llm/client/test_sameness`` |
| 14 vectors without index | the same | ``checks/test_vector_checks``, ``servers/test_dialects`` |
| 15 a query in the URL | the same | ``llm/settings/test_urls``, ``servers/test_dialects`` |
| 16 errors that are 200 | the same | ``llm/client/test_sameness``, ``failures/test_fault_kinds`` |
| 17 proxies | ``flows/test_reported_commands`` | ``system/test_proxies`` |
| 20 a tiny domain | here | ``model/scoring/test_measurable``, ``test_evaluate`` |
| 21 nothing to learn | here, ``flows/test_reported_commands`` | ``test_trainable`` |
"""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from model.baselines.simple import Popularity
from model.scoring.model_scorer import Scorer
from tasks.dump.sources.files import UnreadableDumpError
from tasks.dump.trainable import NothingToTrainOnError, require_trainable
from tasks.evaluate import EvaluationConfig, asked_events, headline, measure
from tasks.frame.model_inputs import sequences_of
from tests.tasks.dump.dump_files import Ingested
from tests.tasks.shops.reported_cases import CASES, needs_cases

pytestmark = needs_cases

FIRST = 1_600_086_400
"""Seconds of the first event in each of these dumps: 2020-09-14 12:26:40 UTC."""


PRICES = {
    "12,99 €": 12.99,
    "1.234,56": 1234.56,
    "12,50": 12.5,
    "€ 9,95": 9.95,
    "4,5": 4.5,
    "1 299,00": 1299.0,
    "CDN$ 5": 5.0,
    "Rs. 5": 5.0,
    "₹499": 499.0,
    "-1": None,
}


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
    plain = ingested(tmp_path, "03-parquet-types", "e.csv")
    assert made.moments == plain.moments
    assert (made.counts["events"], made.moments[0]) == (96, FIRST)


def test_days_as_one_number_are_days(tmp_path: Path) -> None:
    made = ingested(tmp_path, "05-time-yyyymmdd", "e_yyyymmdd.csv")
    plain = ingested(tmp_path, "03-parquet-types", "e.csv")
    assert made.moments == [moment - moment % 86_400 for moment in plain.moments]
    assert made.moments[0] == FIRST - FIRST % 86_400
    assert any("YYYYMMDD" in note for note in made.notes)


def test_decimal_commas_are_decimal(tmp_path: Path) -> None:
    made = ingested(tmp_path, "06-price-decimal-comma", "e.csv")
    written = pl.read_csv(CASES / "06-price-decimal-comma" / "i.csv", infer_schema=False)
    found = made.items.join(written, on=["item_id", "domain"], suffix="_written")
    assert dict(found.select("price_written", "price").iter_rows()) == PRICES


@pytest.mark.parametrize("events", ["e_array.json", "e_literal.json"])
def test_arrays_and_literals_are_rows(tmp_path: Path, events: str) -> None:
    made = ingested(tmp_path, "07-json-array-and-literals", events)
    plain = ingested(tmp_path, "03-parquet-types", "e.csv")
    assert (made.counts["rows_in"], made.moments) == (96, plain.moments)
    assert made.dataset.users.equals(plain.dataset.users)
    assert np.array_equal(made.dataset.item_indices, plain.dataset.item_indices)


def test_a_dump_of_single_events_is_refused(tmp_path: Path) -> None:
    made = ingested(tmp_path, "21-nothing-to-learn-told-late", "e.csv")
    with pytest.raises(NothingToTrainOnError, match="no user has two training events"):
        require_trainable(made.dataset)


def test_a_domain_of_three_items_has_no_figure(tmp_path: Path, usual_candidates: int) -> None:
    made = ingested(tmp_path, "20-tiny-domain", "e.csv")
    sequences = sequences_of(made.dataset)
    asked = asked_events(sequences, EvaluationConfig())
    popularity: dict[str, Scorer] = {"popularity": Popularity.fit(sequences)}
    metrics, ranks = measure(popularity, sequences, {}, asked)
    assert metrics["value"].is_null().all()
    assert ranks.is_empty()
    assert headline(metrics) == {"targets": 0}
