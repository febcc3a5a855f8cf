"""Metrics by direction, and comparisons, of cells with withheld domains."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import polars as pl

from artifacts.kinds.results import ALL, COLD_DOMAIN
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from model.data.sequences import Prefixes
from model.scoring.bootstrap import paired_bootstrap
from model.scoring.cold_domain_metrics import METRICS, ColdGains
from tasks.experiments.grid import Cell
from tasks.frame.model_inputs import load_sequences
from tasks.reporting.facts.withheld_domains import cold_metrics, gains_of, groups_of, withheld_items

ModelRow = tuple[str, str, str, str]
"""Dataset, model, ablation and fitted events."""

Compared = tuple[str, str, str, str, None, str, str, float, float, float, float]
"""A row of `COMPARISON_SCHEMA`."""


class MeasuredCell(NamedTuple):
    """A finished cell and its values by user."""

    cell: Cell
    gains: ColdGains
    domain_names: tuple[str, ...]


def row_of(cell: Cell) -> ModelRow:
    """Returns the row of a cell in comparisons; cells of a row differ in seeds."""
    return cell.dataset, cell.model, cell.ablation, cell.saw.value


def references(
    rows: Iterable[ModelRow], compare: dict[str, str]
) -> Iterator[tuple[ModelRow, list[ModelRow]]]:
    """Yields the row of each reference model (``compare``: by dataset), and the other rows of the
    dataset."""
    every = list(rows)
    for dataset, model in compare.items():
        ours = [row for row in every if row[:3] == (dataset, model, "")]
        if ours:
            yield ours[0], [row for row in every if row[0] == dataset and row not in ours]


def withheld_of(store: Store, dataset: ArtifactRef) -> Prefixes | None:
    """Returns the events in withheld domains, None for other splits."""
    prefixes = withheld_items(load_sequences(store, dataset))
    return prefixes if len(prefixes) else None


def measured(cell: Cell, ranks: pl.DataFrame, withheld: Prefixes) -> MeasuredCell:
    """Returns a cell's values from its stored ranks."""
    gains = gains_of(ranks.filter(ranking=COLD_DOMAIN), withheld)
    return MeasuredCell(cell, gains, withheld.sequences.domain_names)


def metrics_of(each: MeasuredCell) -> pl.DataFrame:
    """Returns a cell's metrics: ``ranking, domain, group, metric, value, targets``."""
    return cold_metrics({each.cell.model: each.gains}, each.domain_names).drop("model")


def cold_comparisons(cells: list[MeasuredCell], compare: dict[str, str]) -> list[Compared]:
    """Returns the difference of the reference model to each other one, by direction and metric.

    Values are averaged over seeds first, because users are resampled, not seeds.
    """
    by_row: dict[ModelRow, list[MeasuredCell]] = {}
    for each in cells:
        by_row.setdefault(row_of(each.cell), []).append(each)
    return [
        compared
        for ours, rivals in references(by_row, compare)
        for rival in rivals
        for compared in _compared(by_row[ours], by_row[rival], rival)
    ]


def _compared(
    ours: list[MeasuredCell], rivals: list[MeasuredCell], row: ModelRow
) -> list[Compared]:
    found: list[Compared] = []
    for (domain, group), chosen in groups_of(ours[0].gains, ours[0].domain_names).items():
        if group == ALL and domain != ALL:
            continue
        for metric in METRICS:
            one, other = (
                np.mean([each.gains.values[metric][chosen] for each in cells], axis=0)
                for cells in (ours, rivals)
            )
            (lead,) = paired_bootstrap(one, other[:, None])
            numbers = (lead.difference, lead.low, lead.high, lead.p_value)
            found.append((*row, None, group, metric, *numbers))
    return found
