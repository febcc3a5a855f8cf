"""Numbers of an experiment's tables: means by row, names and formats."""

from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from artifacts import columns as col
from artifacts.kinds.results import ALL, FULL
from tasks.experiments.cell_results import HEADLINE, over_seeds
from tasks.experiments.grid import Saw

NO_VALUE = "–"
SAW_BOTH_MARK = "†"

RowKey = tuple[str, str, str]
"""Model, ablation, and fitted events."""


@dataclass(frozen=True)
class ResultTable:
    """A table of texts with a caption; the first column names the row, `best` rows are
    highlighted."""

    name: str
    caption: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Numbers(NamedTuple):
    """Means of one dataset by row, ranking, domain, group and metric, with the order of rows."""

    values: dict[tuple[RowKey, str, str, str, str], tuple[float, float | None, int]]
    targets: dict[tuple[str, str], int]
    rows: list[RowKey]
    domains: list[str]


def row_name(row: RowKey) -> str:
    """Returns a model's display name, marked if it was fitted on validation events."""
    model, ablation, saw = row
    mark = f" {SAW_BOTH_MARK}" if saw == Saw.TRAIN_AND_VALIDATION else ""
    return f"{model}{': ' + ablation if ablation else ''}{mark}"


def score(value: float | None) -> str:
    """Returns a fraction with four decimals and no leading zero."""
    return NO_VALUE if value is None else f"{value:.4f}".removeprefix("0")


def spread(mean: float | None, sd: float | None) -> str:
    """Returns a mean, with the standard deviation over seeds if there are several."""
    return score(mean) if sd is None else f"{score(mean)} ± {score(sd)}"


def numbers_of(metrics: pl.DataFrame) -> Numbers:
    """Returns the means over seeds of one dataset's metrics, the best row first."""
    means = over_seeds(metrics)
    names = ["model", "ablation", "saw", "ranking", col.DOMAIN, "group", "metric"]
    values, targets, rows, domains = {}, {}, [], []
    for *key, mean, sd, seeds, count in means.select(
        *names, "mean", "sd", "seeds", "targets"
    ).iter_rows():
        model, ablation, saw, ranking, domain, group, metric = key
        row = (model, ablation, saw)
        values[row, ranking, domain, group, metric] = (mean, sd, seeds)
        targets[domain, group] = count
        rows += [row] if row not in rows else []
        domains += [domain] if domain not in domains else []
    rows.sort(key=lambda row: -values[row, FULL, ALL, ALL, HEADLINE][0])
    return Numbers(values, targets, rows, domains)
