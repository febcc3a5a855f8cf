"""What finished cells say: worked out by hand, and the same events for whoever is compared."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from artifacts.kinds.results import FULL
from artifacts.store import Store
from model.baselines.registry import BASELINES
from tasks.evaluate import measure
from tasks.experiments.breakdowns import overlap_table
from tasks.experiments.cell import CellData, cell_identity, make_cell
from tasks.experiments.cell_results import (
    BEFORE_THE_CUT,
    COMPARISON_SCHEMA,
    RESULT_SCHEMA,
    FinishedCell,
    Results,
    collect,
    over_seeds,
)
from tasks.experiments.grid import Cell, OverlapCut, Saw
from tasks.experiments.numbers import NO_VALUE, row_name
from tasks.experiments.results_report import _missing
from tasks.experiments.results_tables import DatasetSection, section
from tasks.frame.model_inputs import load_sequences
from tests.tasks.experiments.experiment_shop import DATASET, baseline, cell_data, neural

CELLS = [
    baseline(),
    baseline(saw=Saw.TRAIN_AND_VALIDATION),
    neural(),
    neural(seed=1),
    neural(train={"alpha": 0.0}).model_copy(update={"ablation": "no regulariser"}),
    neural().model_copy(update={"overlap": OverlapCut(share=0, seed=0)}),
    neural().model_copy(update={"overlap": OverlapCut(share=100, seed=0)}),
]


def finished(store: Store, data: CellData, cells: list[Cell]) -> list[FinishedCell]:
    for cell in cells:
        make_cell(store, cell, data)
    return [FinishedCell(cell, cell_identity(cell, data).ref, data) for cell in cells]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, CellData, Results]:
    folder: Path = tmp_path_factory.mktemp("experiment")
    store = Store(folder / "store")
    data = cell_data(store, folder / "dump")
    return store, data, collect(store, finished(store, data, CELLS), {DATASET: "paper"})


def test_a_cells_metrics_are_those_of_an_evaluation(
    made: tuple[Store, CellData, Results],
) -> None:
    store, data, results = made
    sequences = load_sequences(store, data.dataset).with_validation_in_training()
    scorers = {"popularity": BASELINES["popularity"](sequences)}
    expected, _ = measure(scorers, sequences, {})
    ours = results.metrics.filter(model="popularity", saw=Saw.TRAIN_AND_VALIDATION, ranking=FULL)
    joined = expected.filter(ranking="full").join(ours, on=["domain", "group", "metric"])
    assert joined.height == expected.height
    assert joined["value"].to_list() == pytest.approx(joined["value_right"].to_list())
    assert joined["targets"].to_list() == joined["targets_right"].to_list()
    assert results.metrics.schema == RESULT_SCHEMA


def test_means_and_deviations_are_over_the_seeds(made: tuple[Store, CellData, Results]) -> None:
    metrics = made[2].metrics.filter(
        pl.col("overlap").is_null(),
        model="paper",
        ablation="",
        ranking=FULL,
        domain="all",
        group="all",
        metric="NDCG@10",
    )
    values = metrics["value"].to_list()
    assert metrics["seed"].to_list() == [0, 1]
    (row,) = over_seeds(metrics).rows(named=True)
    assert row["mean"] == pytest.approx(sum(values) / 2)
    assert row["sd"] == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))
    assert row["seeds"] == 2


def test_a_single_seed_has_no_deviation(made: tuple[Store, CellData, Results]) -> None:
    assert over_seeds(made[2].metrics.filter(model="popularity"))["sd"].is_null().all()


def test_the_advantage_is_the_difference_of_the_means(
    made: tuple[Store, CellData, Results],
) -> None:
    results = made[2]
    assert results.comparisons.schema == COMPARISON_SCHEMA
    means = over_seeds(
        results.metrics.filter(
            pl.col("overlap").is_null(),
            ranking=FULL,
            domain="all",
            group="all",
            metric="NDCG@10",
        )
    )
    ours = means.filter(model="paper", ablation="")["mean"][0]
    for row in results.comparisons.rows(named=True):
        rival = means.filter(model=row["model"], ablation=row["ablation"], saw=row["saw"])
        assert row["difference"] == pytest.approx(ours - rival["mean"][0])
        assert row["low"] <= row["difference"] <= row["high"]
    named = results.comparisons.select("model", "ablation", "saw").rows()
    assert set(named) == {
        ("popularity", "", "training"),
        ("popularity", "", "training + validation"),
        ("paper", "no regulariser", "training"),
    }


def told(results: Results) -> DatasetSection:
    return section(results, DATASET, "paper", ("facts",))


def test_tables_show_every_row_with_its_mark(made: tuple[Store, CellData, Results]) -> None:
    tables = {table.name: table for table in told(made[2]).tables}
    assert set(tables) == {
        "models",
        "ablations",
        "comparisons",
        "metrics-full",
        "metrics-5",
        "groups",
        "overlap",
    }
    assert {row[0] for row in tables["models"].rows} == {"paper", "popularity", "popularity †"}
    assert [row[0] for row in tables["ablations"].rows] == ["paper", "paper: no regulariser"]
    assert [row[1] for row in tables["overlap"].rows] == ["0 %", "100 %"]
    seeds = {row[0]: row[1] for row in tables["models"].rows}
    assert seeds == {"paper": "2", "popularity": "1", "popularity †": "1"}
    assert {"books HR@10", "gear NDCG@10"} <= set(tables["metrics-5"].columns)
    for table in tables.values():
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_models_stand_best_first(made: tuple[Store, CellData, Results]) -> None:
    rows = next(table.rows for table in told(made[2]).tables if table.name == "models")
    scores = [float(row[2].split(" ")[0]) for row in rows]
    assert scores == sorted(scores, reverse=True)


def test_a_dataset_without_a_compared_model_has_no_comparison(
    made: tuple[Store, CellData, Results],
) -> None:
    store, data, _ = made
    results = collect(store, finished(store, data, [baseline()]), {DATASET: "best"})
    assert results.comparisons.is_empty()
    assert "comparisons" not in {table.name for table in told(results).tables}


def test_a_cell_of_two_grids_is_one_seed(made: tuple[Store, CellData, Results]) -> None:
    store, data, _ = made
    cells = [neural(), neural(seed=1)]
    once = collect(store, finished(store, data, cells), {})
    twice = collect(store, finished(store, data, [*cells, *cells]), {})
    assert over_seeds(twice.metrics).equals(over_seeds(once.metrics))
    assert twice.facts.equals(once.facts)


def test_an_overlap_study_of_events_whose_users_shop_in_one_domain_has_a_table(
    made: tuple[Store, CellData, Results],
) -> None:
    metrics = made[2].metrics.filter(pl.col("group") != BEFORE_THE_CUT)
    for row in overlap_table(metrics).rows:
        assert row[2] != NO_VALUE
        assert row[4:6] == (NO_VALUE, NO_VALUE)


def test_a_missing_baseline_is_not_a_missing_seed() -> None:
    assert _missing([baseline()], 3) == ["Not done yet: popularity."]
    assert _missing([neural(seed=1)], 3) == ["More seeds to come: paper (seed 1)."]
    assert _missing([neural(seed=s) for s in range(3)], 3) == ["Not done yet: paper."]


def test_a_name_says_what_was_changed_and_seen() -> None:
    assert row_name(("paper", "", Saw.TRAIN)) == "paper"
    assert row_name(("best", "ids", Saw.TRAIN_AND_VALIDATION)) == "best: ids †"
