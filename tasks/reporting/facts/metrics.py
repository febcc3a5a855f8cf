"""Comparison tables and headlines from a metrics frame."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from artifacts.kinds.results import ALL, FULL, OUR_MODEL
from model.scoring.groups import FIRST_IN_DOMAIN

NO_VALUE = "–"
POPULARITY = "popularity"
"""Name of the baseline that the others are multiples of."""
Scores = dict[tuple[str, str, str], float]
"""Values by (model, domain or group, metric), without missing ones."""


@dataclass(frozen=True)
class MetricCell:
    """One value as text; `best` marks the highest of its column."""

    text: str
    best: bool


@dataclass(frozen=True)
class MetricRow:
    """One model's cells, aligned with the table's columns; `gains` are 'all' over popularity."""

    model: str
    is_ours: bool
    cells: tuple[MetricCell, ...]
    gains: tuple[str, ...]


@dataclass(frozen=True)
class MetricTable:
    """Rows are models, columns are metrics by domain or group.

    `columns` pairs each domain or group with its number of targets.
    """

    columns: tuple[tuple[str, int], ...]
    metrics: tuple[str, ...]
    rows: tuple[MetricRow, ...]
    popularity: str | None


@dataclass(frozen=True)
class Headline:
    """One metric over all targets, fully ranked: ours, popularity's, the strongest baseline's.

    `rival` is (model, value) of the best baseline other than popularity, None without one.
    """

    metric: str
    targets: int
    ours: float
    popularity: float | None
    rival: tuple[str, float] | None


def metric_table(
    metrics: pl.DataFrame,
    ranking: Literal["full", "sampled"],
    across: Literal["domain", "group"],
) -> MetricTable | None:
    """Returns the table of one ranking, None if the frame has no such rows.

    The model is first, others are sorted by their first overall metric.
    """
    other = "group" if across == "domain" else "domain"
    rows = metrics.filter((pl.col("ranking") == ranking) & (pl.col(other) == ALL))
    columns = sorted(_in_order(rows[across]), key=lambda name: name != ALL)
    if rows.is_empty() or (across == "group" and columns == [ALL]):
        return None
    names = _metric_names(rows)
    scores = _scores(rows, across)
    targets = dict(rows.group_by(across).agg(pl.col("targets").max()).iter_rows())
    models = sorted(
        _in_order(rows["model"]),
        key=lambda model: (
            model != OUR_MODEL,
            -scores.get((model, columns[0], names[0]), -math.inf),
        ),
    )
    base = POPULARITY if POPULARITY in models and len(models) > 1 else None
    return MetricTable(
        columns=tuple((column, targets[column]) for column in columns),
        metrics=tuple(names),
        rows=tuple(_row(model, models, columns, names, scores, base) for model in models),
        popularity=base if across == "domain" else None,
    )


def headlines(metrics: pl.DataFrame) -> tuple[Headline, ...]:
    """Returns one headline per metric of the model, hit ratios first."""
    rows = metrics.filter(ranking=FULL, domain=ALL, group=ALL)
    found = []
    for name in _metric_names(rows):
        scores = {m: v for (m, _, metric), v in _scores(rows, "domain").items() if metric == name}
        if OUR_MODEL not in scores:
            continue
        rivals = [pair for pair in scores.items() if pair[0] not in (OUR_MODEL, POPULARITY)]
        targets = rows.filter(model=OUR_MODEL, metric=name)["targets"][0]
        rival = max(rivals, key=lambda pair: pair[1], default=None)
        found.append(Headline(name, targets, scores[OUR_MODEL], scores.get(POPULARITY), rival))
    return tuple(found)


def first_crossings(metrics: pl.DataFrame) -> tuple[dict[str, float], int]:
    """Returns HR@10 by model on events that are their user's first in a domain, and the number of
    these events; nothing if ours is not known."""
    rows = metrics.filter(ranking=FULL, domain=ALL, group=FIRST_IN_DOMAIN, metric="HR@10")
    rows = rows.drop_nulls("value")
    values = dict(rows.select("model", "value").iter_rows())
    return (values, rows["targets"][0]) if OUR_MODEL in values else ({}, 0)


def format_score(metric: str, value: float | None) -> str:
    """Return a hit ratio as a percentage, another metric with three decimals."""
    if value is None or not math.isfinite(value):
        return NO_VALUE
    return f"{value:.1%}" if metric.startswith("HR") else f"{value:.3f}"


def format_gain(value: float | None, base: float | None) -> str:
    """Return how many times `base` a value is, such as '3.4×'."""
    if value is None or base is None or not base > 0:
        return NO_VALUE
    return f"{value / base:.1f}×"


def hit_ratio_margin(value: float, targets: int) -> float:
    """Return half the width of the 95 % interval of a hit ratio (normal approximation)."""
    return 1.96 * math.sqrt(value * (1 - value) / targets)


def _row(
    model: str,
    models: Sequence[str],
    columns: Sequence[str],
    names: Sequence[str],
    scores: Scores,
    base: str | None,
) -> MetricRow:
    cells = []
    for column in columns:
        for name in names:
            text = format_score(name, scores.get((model, column, name)))
            rivals = [scores[key] for m in models if (key := (m, column, name)) in scores]
            # Compared as displayed, so that of two equal numbers none is marked as the best.
            best = len(rivals) > 1 and max(rivals) > 0 and text == format_score(name, max(rivals))
            cells.append(MetricCell(text, best))
    gains = (
        format_gain(scores.get((model, ALL, name)), scores.get((base or "", ALL, name)))
        for name in names
    )
    return MetricRow(model, model == OUR_MODEL, tuple(cells), tuple(gains))


def _scores(rows: pl.DataFrame, across: str) -> Scores:
    return {
        (model, column, metric): value
        for model, column, metric, value in rows.select(
            "model", across, "metric", "value"
        ).iter_rows()
        if value is not None and math.isfinite(value)
    }


def _metric_names(rows: pl.DataFrame) -> list[str]:
    return sorted(_in_order(rows["metric"]), key=lambda name: not name.startswith("HR"))


def _in_order(values: pl.Series) -> list[str]:
    return values.unique(maintain_order=True).to_list()
