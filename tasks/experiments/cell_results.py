"""Results of finished cells: metrics per cell, means over seeds, comparisons.

Computed from stored ranks, so new groups or metrics need no training.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.kinds.results import ALL, COLD_DOMAIN, FULL, RANKS, read_table
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from model.data.overlap import overlapping_users
from model.data.sequences import TEST, IntArray, Prefixes
from model.scoring import measurable
from model.scoring.bootstrap import paired_bootstrap
from model.scoring.cold_domain_metrics import METRICS, ColdGains
from model.scoring.groups import metric_groups
from model.scoring.ranking import expected_gains
from tasks.experiments.cell import CellData
from tasks.experiments.grid import Cell
from tasks.frame.model_inputs import load_sequences
from tasks.promoting.stored_ranks import gains_at_10, ranks_of
from tasks.reporting.facts.withheld_domains import cold_metrics, gains_of, groups_of, withheld_items

CUTOFFS = (5, 10, 20)
HEADLINE = "NDCG@10"
BEFORE_THE_CUT = "users in several domains before the cut"
NAMES = ["dataset", "model", "ablation", "saw", "overlap", "seed"]
"""Columns that identify a cell; without the seed, a row of a table."""

CELL_SCHEMA = pl.Schema(
    {
        "dataset": pl.String,
        "model": pl.String,
        "ablation": pl.String,
        "saw": pl.String,
        "overlap": pl.Int64,
        "seed": pl.Int64,
    }
)
RESULT_SCHEMA = pl.Schema(
    {
        **CELL_SCHEMA,
        "ranking": pl.String,
        col.DOMAIN: pl.String,
        "group": pl.String,
        "metric": pl.String,
        "value": pl.Float64,
        "targets": pl.Int64,
    }
)
"""One number a row; ``ranking`` is "full", the number of candidates, or "cold domain" (whose
``group`` is the direction and ``targets`` are users); ``overlap`` null or the per cent of users of
several domains who keep their link."""

FACT_SCHEMA = pl.Schema(
    {**CELL_SCHEMA, "train_seconds": pl.Float64, "rank_seconds": pl.Float64, "epochs": pl.Int64}
    | {"best_epoch": pl.Int64, "stopped_by_limit": pl.Boolean}
)
COMPARISON_SCHEMA = pl.Schema(
    {
        **{name: kind for name, kind in CELL_SCHEMA.items() if name != "seed"},
        "group": pl.String,
        "metric": pl.String,
        "difference": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "p_value": pl.Float64,
    }
)
"""Differences of the model of `Grid.compare` to others, with 95 % intervals: in NDCG@10 by full
ranking of all events, and in each metric and direction of withheld domains."""

ModelRow = tuple[str, str, str, str]
"""Dataset, model, ablation and fitted events; cells of a row differ in seeds."""

Compared = tuple[str, str, str, str, None, str, str, float, float, float, float]
"""A row of `COMPARISON_SCHEMA`."""

Values = dict[tuple[str, str], np.ndarray]
"""Values of a cell by group and metric, each (users or events,)."""


class FinishedCell(NamedTuple):
    """A cell with its artifact and data."""

    cell: Cell
    ref: ArtifactRef
    data: CellData


class Results(NamedTuple):
    """Tables of `RESULT_SCHEMA`, `FACT_SCHEMA` and `COMPARISON_SCHEMA`."""

    metrics: pl.DataFrame
    facts: pl.DataFrame
    comparisons: pl.DataFrame


class _Masks(NamedTuple):
    """Masks of groups over a dataset's test events, (masks, test events)."""

    names: tuple[tuple[str, str], ...]  # domain and group of each mask
    members: np.ndarray
    row_of_user: IntArray


def collect(store: Store, cells: list[FinishedCell], compare: dict[str, str]) -> Results:
    """Returns the results of finished cells; ``compare``: reference model by dataset. Cells of
    several grids count once."""
    cells = list({(_names(each.cell), each.ref): each for each in cells}.values())
    datasets = {each.data.dataset.fingerprint: each.data.dataset for each in cells}
    withheld = {fingerprint: _withheld(store, ref) for fingerprint, ref in datasets.items()}
    masks = {
        fingerprint: _masks(store, ref)
        for fingerprint, ref in datasets.items()
        if withheld[fingerprint] is None
    }
    metrics, facts, values = [], [], []
    for each in cells:
        ranks = read_table(store, each.ref, RANKS)
        facts.append((*_names(each.cell), *_facts(store, each.ref)))
        asked = withheld[each.data.dataset.fingerprint]
        if asked is not None:
            names = asked.sequences.domain_names
            gains = gains_of(ranks.filter(ranking=COLD_DOMAIN), asked)
            metrics.append(_named(each.cell, cold_metrics({each.cell.model: gains}, names)))
            values.append((each.cell, _cold_values(gains, names)))
            continue
        metrics.append(_metrics(each.cell, ranks, masks[each.data.dataset.fingerprint]))
        if each.cell.overlap is None:
            measurable_ones = pl.col("candidates") >= measurable.LEAST_CANDIDATES
            found = gains_at_10(ranks.filter(measurable_ones, ranking=FULL))
            values.append((each.cell, {(ALL, HEADLINE): found}))
    compared = _comparisons(values, compare)
    return Results(
        metrics=pl.concat(metrics) if metrics else pl.DataFrame(schema=RESULT_SCHEMA),
        facts=pl.DataFrame(facts, schema=FACT_SCHEMA, orient="row"),
        comparisons=pl.DataFrame(compared, schema=COMPARISON_SCHEMA, orient="row"),
    )


def over_seeds(metrics: pl.DataFrame) -> pl.DataFrame:
    """Returns ``mean, sd, seeds`` of each number; ``sd`` is null for a single seed."""
    keys = [name for name in RESULT_SCHEMA if name not in ("seed", "value", "targets")]
    return metrics.group_by(keys, maintain_order=True).agg(
        pl.col("value").mean().alias("mean"),
        pl.col("value").std().alias("sd"),
        pl.len().alias("seeds"),
        pl.col("targets").first(),
    )


def _names(cell: Cell) -> tuple[str, str, str, str, int | None, int]:
    return *_row_of(cell), None if cell.overlap is None else cell.overlap.share, cell.seed


def _facts(store: Store, ref: ArtifactRef) -> tuple[float, float, int | None, int | None, bool]:
    counts = store.manifest(ref).counts
    epochs, best = counts.get("epochs"), counts.get("best_epoch")
    return (
        float(counts["train_seconds"]),
        float(counts["rank_seconds"]),
        None if epochs is None else int(epochs),
        None if best is None else int(best),
        bool(counts.get("stopped_by_limit", 0)),
    )


def _masks(store: Store, dataset: ArtifactRef) -> _Masks:
    """Groups treat validation events as seen, because refitted models use them."""
    sequences = load_sequences(store, dataset)
    prefixes = sequences.with_validation_in_training().prefixes_of_split(TEST)
    groups = metric_groups(prefixes)
    groups[BEFORE_THE_CUT] = np.isin(prefixes.users, overlapping_users(sequences))
    domains = sequences.domain_of(prefixes.targets)
    in_domain = {ALL: np.ones(len(prefixes), bool)}
    in_domain |= {name: domains == number for number, name in enumerate(sequences.domain_names)}
    names = [(domain, group) for group in groups for domain in in_domain]
    row_of_user = np.full(sequences.user_count, -1)
    row_of_user[prefixes.users] = np.arange(len(prefixes))
    measured = measurable.is_measurable(prefixes)
    members = [groups[group] & in_domain[domain] & measured for domain, group in names]
    return _Masks(tuple(names), np.stack(members), row_of_user)


def _metrics(cell: Cell, ranks: pl.DataFrame, masks: _Masks) -> pl.DataFrame:
    frames = []
    for (ranking,), part in ranks.group_by("ranking", maintain_order=True):
        by_metric = expected_gains(ranks_of(part), CUTOFFS)
        labels = [f"{metric}@{cutoff}" for metric in by_metric for cutoff in CUTOFFS]
        gains = np.column_stack([by[cutoff] for by in by_metric.values() for cutoff in CUTOFFS])
        members = masks.members[:, masks.row_of_user[part[col.USER_INDEX].to_numpy()]]
        targets = members.sum(axis=1)
        means = members.astype(np.float64) @ gains / np.maximum(targets, 1)[:, None]
        some = np.flatnonzero(targets)
        frames.append(
            pl.DataFrame(
                {
                    "ranking": [str(ranking)] * len(some) * len(labels),
                    col.DOMAIN: np.repeat([masks.names[row][0] for row in some], len(labels)),
                    "group": np.repeat([masks.names[row][1] for row in some], len(labels)),
                    "metric": labels * len(some),
                    "value": means[some].ravel(),
                    "targets": np.repeat(targets[some], len(labels)),
                }
            )
        )
    return _named(cell, pl.concat(frames))


def _named(cell: Cell, metrics: pl.DataFrame) -> pl.DataFrame:
    """The metrics of a cell with the columns that name it, of `RESULT_SCHEMA`."""
    named = zip(NAMES, _names(cell), strict=True)
    literals = [pl.lit(value, dtype=CELL_SCHEMA[name]).alias(name) for name, value in named]
    return metrics.with_columns(literals).select(list(RESULT_SCHEMA)).cast(RESULT_SCHEMA)


def _withheld(store: Store, dataset: ArtifactRef) -> Prefixes | None:
    """Returns the events in withheld domains, None for other splits."""
    prefixes = withheld_items(load_sequences(store, dataset))
    return prefixes if len(prefixes) else None


def _cold_values(gains: ColdGains, domain_names: tuple[str, ...]) -> Values:
    """Returns the values of all directions together, and of each."""
    return {
        (group, metric): gains.values[metric][chosen]
        for (domain, group), chosen in groups_of(gains, domain_names).items()
        if group != ALL or domain == ALL
        for metric in METRICS
    }


def _row_of(cell: Cell) -> ModelRow:
    return cell.dataset, cell.model, cell.ablation, cell.saw.value


def _references(
    rows: Iterable[ModelRow], compare: dict[str, str]
) -> Iterator[tuple[ModelRow, list[ModelRow]]]:
    """Yields the row of each reference model (``compare``: by dataset), and the other rows of the
    dataset."""
    every = list(rows)
    for dataset, model in compare.items():
        ours = [row for row in every if row[:3] == (dataset, model, "")]
        if ours:
            yield ours[0], [row for row in every if row[0] == dataset and row not in ours]


def _comparisons(values: list[tuple[Cell, Values]], compare: dict[str, str]) -> list[Compared]:
    """Values are averaged over seeds first, because users are resampled, not seeds."""
    by_row: dict[ModelRow, list[Values]] = {}
    for cell, of_cell in values:
        by_row.setdefault(_row_of(cell), []).append(of_cell)
    means = {
        row: {key: np.mean([each[key] for each in cells], axis=0) for key in cells[0]}
        for row, cells in by_row.items()
    }
    found: list[Compared] = []
    for ours, rivals in _references(means, compare):
        for (group, metric), mine in means[ours].items():
            if not rivals or not len(mine):
                continue
            stacked = np.column_stack([means[row][group, metric] for row in rivals])
            found += [
                (*row, None, group, metric, each.difference, each.low, each.high, each.p_value)
                for row, each in zip(rivals, paired_bootstrap(mine, stacked), strict=True)
            ]
    return found
