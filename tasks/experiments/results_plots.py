"""Plots of an experiment: models with their spread over seeds, and metrics against overlap."""

import polars as pl

from artifacts.kinds.results import ALL, FULL
from tasks.experiments.cell_results import BEFORE_THE_CUT, HEADLINE, Results, over_seeds
from tasks.experiments.numbers import row_name
from tasks.reporting.plots import Plot
from tasks.reporting.svg_chart import Interval, Line, interval_chart, line_chart

GROUPS = {ALL: "all users", BEFORE_THE_CUT: "users in several domains"}


def plots(results: Results, dataset: str) -> tuple[Plot, ...]:
    """Returns the plots of one dataset."""
    metrics = results.metrics.filter(dataset=dataset, ranking=FULL, metric=HEADLINE)
    overall = over_seeds(metrics.filter(domain=ALL)).with_columns(pl.col("sd").fill_null(0.0))
    plain = overall.filter(pl.col("overlap").is_null(), group=ALL)
    made = (_models(plain), _overlap(overall.filter(pl.col("overlap").is_not_null())))
    return tuple(plot for plot in made if plot is not None)


def _models(means: pl.DataFrame) -> Plot | None:
    if means.is_empty():
        return None
    columns = ("model", "ablation", "saw", "mean", "sd")
    rows = [
        Interval(row_name((model, ablation, saw)), mean, mean - sd, mean + sd, ours=not ablation)
        for model, ablation, saw, mean, sd in means.sort("mean", descending=True)
        .select(columns)
        .iter_rows()
    ]
    description = (
        f"{HEADLINE} of every model and ablation, full ranking; whiskers are one standard "
        "deviation over seeds. Ablations are grey."
    )
    return Plot("models", interval_chart(rows, "one standard deviation", digits=4), description)


def _overlap(means: pl.DataFrame) -> Plot | None:
    if means.is_empty():
        return None
    lines = [
        Line(
            f"{model}, {GROUPS[str(group)]}",
            [(float(share), mean) for share, mean, _ in points],
            [f"{model}, {share} % linked: {mean:.4f} ± {sd:.4f}" for share, mean, sd in points],
            colour,
        )
        for colour, ((model, group), part) in enumerate(
            means.filter(pl.col("group").is_in(list(GROUPS)))
            .sort("overlap")
            .group_by("model", "group", maintain_order=True)
        )
        for points in [part.select("overlap", "mean", "sd").rows()]
    ]
    description = (
        f"{HEADLINE} against the share of linked users of several domains, on the same held-out "
        "events at every share."
    )
    label = "users of several domains who keep their link, per cent"
    return Plot("overlap", line_chart(lines, label, HEADLINE), description)
