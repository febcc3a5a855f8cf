"""Plots of an experiment: models with their spread over seeds, and metrics against overlap."""

import json
from dataclasses import dataclass

import plotly.graph_objects as go
import polars as pl

from tasks.experiments.cell import FULL
from tasks.experiments.cell_results import ALL, BEFORE_THE_CUT, HEADLINE, Results, over_seeds
from tasks.experiments.numbers import row_name

COLOURS = (
    "#3b7dd8",
    "#dd7f1e",
    "#2a9d78",
    "#c8506b",
    "#8a6fd1",
    "#a5782f",
    "#4a9fb5",
    "#b456a8",
    "#7b9a2d",
    "#8a8f98",
)
LEGEND_MARGIN = {"l": 60, "r": 12, "t": 56, "b": 56}
ROW_PIXELS = 26
BAR_MARGIN = {"l": 260, "r": 24, "t": 12, "b": 48}


@dataclass(frozen=True)
class PlotlyFigure:
    """A figure as JSON that is safe in a script element, with a description."""

    name: str
    figure: str
    description: str


def figure_json(figure: go.Figure, height: int, margin: dict[str, int]) -> str:
    """Returns a figure with text and grid colours of the page."""
    figure.update_layout(
        template="none",
        height=height,
        margin=margin,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "x": 0},
    )
    text = json.dumps(json.loads(str(figure.to_json())), separators=(",", ":"))
    # Escapes angle brackets, because a title may contain '</script>'.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def plots(results: Results, dataset: str, number: int) -> tuple[PlotlyFigure, ...]:
    """Returns the plots of one dataset; ``number`` makes ids unique on the page."""
    metrics = results.metrics.filter(dataset=dataset, ranking=FULL, metric=HEADLINE)
    overall = over_seeds(metrics.filter(domain=ALL))
    plain = overall.filter(pl.col("overlap").is_null(), group=ALL)
    made = (
        _bars(plain, f"models-{number}", "of every model and ablation"),
        _lines(overall.filter(pl.col("overlap").is_not_null()), f"overlap-{number}"),
    )
    return tuple(plot for plot in made if plot is not None)


def _bars(means: pl.DataFrame, name: str, words: str) -> PlotlyFigure | None:
    if means.is_empty():
        return None
    means = means.sort("mean")
    labels = [row_name(row) for row in means.select("model", "ablation", "saw").iter_rows()]
    figure = go.Figure(
        go.Bar(
            x=means["mean"].round(5).to_list(),
            y=labels,
            orientation="h",
            error_x={"array": means["sd"].fill_null(0).round(5).to_list(), "thickness": 1.5},
            marker_color=[
                COLOURS[0] if ablation == "" else COLOURS[9] for ablation in means["ablation"]
            ],
            hovertemplate="%{y}: %{x:.4f}<extra></extra>",
        )
    )
    figure.update_xaxes(title_text=HEADLINE, rangemode="tozero")
    figure.update_yaxes(automargin=True)
    height = 100 + ROW_PIXELS * means.height
    return PlotlyFigure(
        name,
        figure_json(figure, height, BAR_MARGIN),
        f"{HEADLINE} {words}, full ranking; whiskers are one standard deviation over seeds. "
        "Ablations are grey.",
    )


def _lines(means: pl.DataFrame, name: str) -> PlotlyFigure | None:
    if means.is_empty():
        return None
    figure = go.Figure()
    groups = {ALL: "all users", BEFORE_THE_CUT: "users in several domains"}
    for index, ((model, group), part) in enumerate(
        means.filter(pl.col("group").is_in(list(groups)))
        .sort("overlap")
        .group_by("model", "group", maintain_order=True)
    ):
        figure.add_scatter(
            name=f"{model}, {groups[str(group)]}",
            x=part["overlap"].to_list(),
            y=part["mean"].round(5).to_list(),
            error_y={"array": part["sd"].fill_null(0).round(5).to_list(), "thickness": 1.5},
            mode="lines+markers",
            line={"color": COLOURS[index % len(COLOURS)], "width": 2},
            hovertemplate="%{x} % linked: %{y:.4f}<extra></extra>",
        )
    figure.update_xaxes(title_text="users of several domains who keep their link, per cent")
    figure.update_yaxes(title_text=HEADLINE, rangemode="tozero")
    return PlotlyFigure(
        name,
        figure_json(figure, 380, LEGEND_MARGIN),
        f"{HEADLINE} against the share of linked users of several domains, "
        "on the same held-out events at every share.",
    )
