"""Page and Markdown: nothing from outside breaks them, and what is missing is said."""

import json
import re
from datetime import UTC, datetime

import polars as pl
from markupsafe import Markup

from artifacts.kinds.results import ALL, FULL
from tasks.experiments.cell_results import HEADLINE, RESULT_SCHEMA, Results
from tasks.experiments.numbers import ResultTable
from tasks.experiments.results_page import ExperimentContent, render_markdown, render_page
from tasks.experiments.results_plots import plots
from tasks.experiments.results_tables import DatasetSection
from tasks.reporting.plots import Plot

HOSTILE = "</script><script>alert(1)</script> | a"

TABLE = ResultTable("models", "Models", "A note.", ("model", "NDCG@10"), ((HOSTILE, ".1234"),))
CONTENT = ExperimentContent(
    title="Results",
    command="llm4cdsr experiment grid.toml",
    created=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    done=3,
    cells=4,
    notes=("Ties count half.",),
    sections=(
        (
            DatasetSection(HOSTILE, ("10 users.", f"Not done yet: {HOSTILE}."), (TABLE,)),
            (Plot("models", Markup("<ul></ul>"), "Bars."),),
        ),
    ),
    settings=(("ablation 'x'", json.dumps({"train": {"alpha": 0.0}})),),
)


def test_a_name_from_outside_is_shown_and_never_run() -> None:
    page = render_page(CONTENT)
    assert "alert(1)" in page
    assert "<script" not in page
    assert re.search(r'(src|href)="(?!#)', page) is None


def test_a_name_from_outside_breaks_no_table_row() -> None:
    lines = render_markdown(CONTENT).splitlines()
    row = next(line for line in lines if ".1234" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert "<script" not in row


def test_markdown_says_how_much_is_done_and_how_to_make_it_again() -> None:
    text = render_markdown(CONTENT)
    assert "**3 of 4 cells are done.**" in text
    assert "`llm4cdsr experiment grid.toml`" in text
    assert '- ablation \'x\': `{"train": {"alpha": 0.0}}`' in text
    assert text.endswith("\n")


def test_the_page_says_how_much_is_done() -> None:
    assert "3 of 4 cells are done" in render_page(CONTENT)


def test_plots_have_every_model_and_share_with_their_spread() -> None:
    one = {
        "dataset": "mini",
        "saw": "training",
        "ranking": FULL,
        "domain": ALL,
        "group": ALL,
        "metric": HEADLINE,
        "targets": 10,
    }
    told = [
        {**one, "model": HOSTILE, "ablation": "", "overlap": None, "seed": 0, "value": 0.2},
        {**one, "model": HOSTILE, "ablation": "", "overlap": None, "seed": 1, "value": 0.4},
        {**one, "model": HOSTILE, "ablation": "no text", "overlap": None, "seed": 0, "value": 0.1},
        {**one, "model": "single", "ablation": "", "overlap": 50, "seed": 0, "value": 0.25},
        {**one, "model": "single", "ablation": "", "overlap": 100, "seed": 0, "value": 0.5},
    ]
    empty = pl.DataFrame()
    models, overlap = plots(Results(pl.DataFrame(told, RESULT_SCHEMA), empty, empty), "mini")
    assert "0.3000, one standard deviation 0.1586 to 0.4414" in models.figure
    assert "0.1000, one standard deviation 0.1000 to 0.1000" in models.figure
    assert "<script" not in models.figure
    assert "single, 50 % linked: 0.2500 ± 0.0000" in overlap.figure
