"""Page and Markdown: nothing from outside breaks them, and what is missing is said."""

import json
import re
from datetime import UTC, datetime

import plotly.graph_objects as go

from tasks.experiments.numbers import ResultTable
from tasks.experiments.results_page import ExperimentContent, render_markdown, render_page
from tasks.experiments.results_plots import LEGEND_MARGIN, PlotlyFigure, figure_json
from tasks.experiments.results_tables import DatasetSection

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
            (PlotlyFigure("models-0", figure_json(go.Figure(), 100, LEGEND_MARGIN), "Bars."),),
        ),
    ),
    settings=(("ablation 'x'", json.dumps({"train": {"alpha": 0.0}})),),
)


def test_a_name_from_outside_is_shown_and_never_run() -> None:
    page = render_page(CONTENT)
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert len(re.findall(r"<script[ >]", page.split("<main")[1].split("</main")[0])) == 1
    written = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert re.search(r'(src|href)="(?!#)', written) is None


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
