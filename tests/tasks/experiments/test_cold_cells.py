"""Cells of a dataset with withheld domains: ranks of every withheld item, tables by direction."""

from pathlib import Path

import numpy as np
import pytest

from artifacts.kinds.results import COLD_DOMAIN, RANKS, read_table
from artifacts.store import Store
from model.baselines.registry import COLD_BASELINES, TEXT_BRIDGE
from model.baselines.text_bridge import TextBridge
from model.data.sequences import COLD_TEST
from model.scoring.cold_domain_metrics import ANY_HIT, FIRST_HIT, METRICS, measure_cold
from model.scoring.model_scorer import ModelScorer, Scorer
from model.training.trainer import fit
from tasks.dump.dump_config import ColdDomain
from tasks.experiments.cell import CellData, cell_identity, make_cell
from tasks.experiments.cell_results import (
    COMPARISON_SCHEMA,
    RESULT_SCHEMA,
    FinishedCell,
    Results,
    collect,
)
from tasks.experiments.grid import Cell, DatasetEntry, Grid, NeuralRecipe, Saw
from tasks.experiments.results_page import render_markdown, render_page
from tasks.experiments.results_report import FinishedGrid, experiment_content
from tasks.experiments.results_tables import section
from tasks.frame.model_inputs import load_sequences, load_tables
from tests.tasks.experiments.experiment_shop import DATASET, baseline, cell_data, neural

NAMES = (*COLD_BASELINES, TEXT_BRIDGE)
CELLS = [
    neural(),
    neural(seed=1),
    *(baseline(name) for name in NAMES),
    baseline("EMCDR", Saw.TRAIN_AND_VALIDATION),
]


def finished(store: Store, data: CellData, cells: list[Cell]) -> list[FinishedCell]:
    for cell in cells:
        assert make_cell(store, cell, data)
    return [FinishedCell(cell, cell_identity(cell, data).ref, data) for cell in cells]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, CellData, Results]:
    folder: Path = tmp_path_factory.mktemp("experiment")
    store = Store(folder / "store")
    split = ColdDomain(test_share=0.5, validation_share=0.2)
    data = cell_data(store, folder / "dump", split)
    return store, data, collect(store, finished(store, data, CELLS), {DATASET: "paper"})


def scorer_of(store: Store, data: CellData, cell: Cell) -> Scorer:
    sequences, tables = load_sequences(store, data.dataset), load_tables(store, data.tables)
    if isinstance(cell.recipe, NeuralRecipe):
        return ModelScorer(fit(sequences, tables, cell.recipe.config).model)
    if cell.saw is Saw.TRAIN_AND_VALIDATION:
        sequences = sequences.with_validation_in_training()
    if cell.recipe.name == TEXT_BRIDGE:
        return TextBridge.fit(sequences, tables.global_table)
    return COLD_BASELINES[cell.recipe.name](sequences)


@pytest.mark.parametrize("cell", CELLS, ids=[cell.label for cell in CELLS])
def test_a_cells_figures_are_those_of_its_model_measured_by_hand(
    made: tuple[Store, CellData, Results], cell: Cell
) -> None:
    store, data, results = made
    withheld = load_sequences(store, data.dataset).prefixes_of_withheld(COLD_TEST)
    ranks = read_table(store, cell_identity(cell, data).ref, RANKS)
    assert ranks["ranking"].unique().to_list() == [COLD_DOMAIN]
    assert ranks["item_index"].to_list() == withheld.targets.tolist()
    expected = measure_cold(scorer_of(store, data, cell), withheld)
    found = results.metrics.filter(
        model=cell.model, seed=cell.seed, saw=cell.saw, domain="all", group="all"
    )
    assert dict(found.select("metric", "value").iter_rows()) == pytest.approx(
        {metric: expected.values[metric].mean() for metric in METRICS}
    )
    assert set(found["targets"]) == {len(expected.users)}
    assert results.metrics.schema == RESULT_SCHEMA


def test_leads_are_differences_of_means_over_seeds_by_direction(
    made: tuple[Store, CellData, Results],
) -> None:
    results = made[2]
    assert results.comparisons.schema == COMPARISON_SCHEMA
    chosen = results.comparisons.filter(model="EMCDR", saw=Saw.TRAIN)
    assert set(chosen["group"]) == {"all", "books → gear", "gear → books"}
    for row in chosen.rows(named=True):
        where = {"group": row["group"], "metric": row["metric"]}
        metrics = results.metrics.filter(**where)
        if row["group"] == "all":
            metrics = metrics.filter(domain="all")
        ours = metrics.filter(model="paper")["value"].mean()
        rival = metrics.filter(model="EMCDR", saw=Saw.TRAIN)["value"].item()
        assert row["difference"] == pytest.approx(ours - rival)
        assert row["low"] <= row["difference"] <= row["high"]


def test_every_direction_has_a_table_with_every_model(
    made: tuple[Store, CellData, Results],
) -> None:
    told = section(made[2], DATASET, "paper", ("facts",))
    captions = [table.caption for table in told.tables]
    assert [caption.split(": ")[0] for caption in captions] == [
        "Withheld domains, all directions",
        "Withheld domains, books → gear",
        "Withheld domains, gear → books",
    ]
    for table in told.tables:
        names = {row[0] for row in table.rows}
        assert names == {"paper", *NAMES, "EMCDR †"}
        assert {len(row) for row in table.rows} == {len(table.columns)}
        assert table.columns[-2:] == (f"lead in {ANY_HIT}", f"lead in {FIRST_HIT}")
        any_hits = [float(row[2].split(" ")[0]) for row in table.rows]
        assert np.all(np.diff(any_hits) <= 0)


def test_an_experiment_of_both_kinds_shows_both(
    made: tuple[Store, CellData, Results], tmp_path: Path
) -> None:
    store, data, _ = made
    ordinary = cell_data(store, tmp_path / "dump")
    cells = finished(store, data, [baseline(), neural()])
    others = [
        FinishedCell(each.cell.model_copy(update={"dataset": "ordinary"}), each.ref, each.data)
        for each in finished(store, ordinary, [baseline(), neural()])
    ]
    results = collect(store, [*cells, *others], {DATASET: "paper", "ordinary": "paper"})
    rows = results.comparisons.select("dataset", "metric").unique().rows()
    assert set(rows) == {("ordinary", "NDCG@10"), *((DATASET, metric) for metric in METRICS)}
    assert "models" in {t.name for t in section(results, "ordinary", "paper", ()).tables}
    assert "cold-0" in {t.name for t in section(results, DATASET, "paper", ()).tables}
    entries = tuple(
        DatasetEntry(name=name, interactions="e.csv", items="i.csv")
        for name in (DATASET, "ordinary")
    )
    grid = Grid(title="both", datasets=entries, compare="paper")
    shown = [each._replace(data=each.data._replace(profiles={})) for each in (*cells, *others)]
    grids = [FinishedGrid(grid, shown, [])]
    content = experiment_content(store, grids, results, "Results", "experiment")
    text = render_markdown(content)
    assert "### Withheld domains, books → gear" in text
    assert "Not leave-one-out: held out by cold domain: of" in text
    assert "### Models, full ranking" in text
    assert "books → gear" in render_page(content)
