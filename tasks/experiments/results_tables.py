"""Results of an experiment as text tables, one section per dataset."""

from dataclasses import dataclass

import polars as pl

from artifacts.kinds.results import ALL, FULL
from tasks.experiments.breakdowns import (
    HIT_RATE,
    cold_tables,
    group_table,
    metric_tables,
    overlap_table,
)
from tasks.experiments.cell_results import HEADLINE, Results
from tasks.experiments.numbers import (
    NO_VALUE,
    SAW_BOTH_MARK,
    Numbers,
    ResultTable,
    RowKey,
    numbers_of,
    row_name,
    spread,
)
from tasks.frame.number_texts import signed


@dataclass(frozen=True)
class DatasetSection:
    """All tables and notes of one dataset."""

    dataset: str
    facts: tuple[str, ...]
    tables: tuple[ResultTable, ...]


def section(results: Results, dataset: str, compare: str, facts: tuple[str, ...]) -> DatasetSection:
    """Returns the non-empty tables of one dataset."""
    chosen = Results(*(table.filter(dataset=dataset) for table in results))
    if withheld := cold_tables(chosen, compare):
        return DatasetSection(dataset, facts, withheld)
    numbers = numbers_of(chosen.metrics.filter(pl.col("overlap").is_null()))
    tables = (
        _models(numbers, chosen),
        _ablations(numbers, chosen),
        _comparisons(chosen, compare),
        *metric_tables(numbers),
        group_table(numbers, compare),
        overlap_table(chosen.metrics),
    )
    return DatasetSection(dataset, facts, tuple(table for table in tables if table and table.rows))


def _cell(numbers: Numbers, row: RowKey, metric: str, domain: str = ALL) -> str:
    mean, sd, _ = numbers.values.get((row, FULL, domain, ALL, metric), (None, None, 0))
    return spread(mean, sd)


def _models(numbers: Numbers, results: Results) -> ResultTable:
    metrics = [
        metric if domain == ALL else f"{domain} {metric}"
        for domain in numbers.domains
        for metric in (HEADLINE, HIT_RATE)
    ]
    rows = [row for row in numbers.rows if not row[1]]
    return ResultTable(
        "models",
        "Models, full ranking",
        _seed_note(numbers),
        ("model", "seeds", *metrics, "train s"),
        tuple(_model_row(numbers, results, row) for row in rows),
    )


def _model_row(numbers: Numbers, results: Results, row: RowKey) -> tuple[str, ...]:
    cells = [
        _cell(numbers, row, metric, domain)
        for domain in numbers.domains
        for metric in (HEADLINE, HIT_RATE)
    ]
    seeds = numbers.values[row, FULL, ALL, ALL, HEADLINE][2]
    return (row_name(row), str(seeds), *cells, _train_seconds(results, row))


def _train_seconds(results: Results, row: RowKey) -> str:
    model, ablation, saw = row
    facts = results.facts.filter(
        pl.col("overlap").is_null(), model=model, ablation=ablation, saw=saw
    )
    seconds = facts["train_seconds"].mean()
    if not isinstance(seconds, float):
        return NO_VALUE
    return f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}"


def _seed_note(numbers: Numbers) -> str:
    return (
        f"{numbers.targets.get((ALL, ALL), 0):,} held-out events. Mean ± standard deviation over "
        f"seeds. {SAW_BOTH_MARK}: fitted on training and validation events, the others on "
        "training events alone."
    )


def _ablations(numbers: Numbers, results: Results) -> ResultTable:
    """Returns each ablation with its difference to the complete model, in points of NDCG@10 and
    HR@10."""
    rows = []
    for whole in (row for row in numbers.rows if not row[1]):
        ablated = [row for row in numbers.rows if row[1] and row[0] == whole[0]]
        if ablated:
            rows.append((*_model_row(numbers, results, whole)[:4], NO_VALUE))
            rows += [
                (*_model_row(numbers, results, row)[:4], _change(numbers, row, whole))
                for row in ablated
            ]
    return ResultTable(
        "ablations",
        "Ablations, full ranking",
        "One change each, against the whole model above it.",
        ("model", "seeds", HEADLINE, HIT_RATE, f"change of {HEADLINE}"),
        tuple(rows),
    )


def _change(numbers: Numbers, row: RowKey, whole: RowKey) -> str:
    key = (FULL, ALL, ALL, HEADLINE)
    change = numbers.values[row, *key][0] - numbers.values[whole, *key][0]
    return signed(change, 4).replace("0.", ".", 1)


def _comparisons(results: Results, compare: str) -> ResultTable:
    rows = [
        (
            row_name((model, ablation, saw)),
            signed(difference, 4),
            f"{signed(low, 4)} to {signed(high, 4)}",
            f"{p_value:.3f}",
        )
        for model, ablation, saw, difference, low, high, p_value in results.comparisons.sort(
            "difference"
        )
        .select("model", "ablation", "saw", "difference", "low", "high", "p_value")
        .iter_rows()
    ]
    return ResultTable(
        "comparisons",
        f"Difference of {compare} to other models in {HEADLINE}",
        "Paired bootstrap over users, gains averaged over seeds first: a difference between users, "
        "not between seeds. An interval that contains 0 is not significant.",
        ("model", "difference", "95 % interval", "p"),
        tuple(rows),
    )
