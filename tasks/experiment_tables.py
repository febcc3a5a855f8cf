"""The results of an experiment as tables of text, one section a dataset: what both the page and the
Markdown show."""

from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from artifacts import columns as col
from tasks.experiment_cell import FULL
from tasks.experiment_grid import Saw
from tasks.experiment_results import ALL, BEFORE_THE_CUT, HEADLINE, Results, over_seeds

NO_VALUE = "–"
SAW_BOTH_MARK = "†"
HIT_RATE = "HR@10"
ALL_METRICS = (
    "NDCG@5",
    HEADLINE,
    "NDCG@20",
    "HR@5",
    HIT_RATE,
    "HR@20",
    "MRR@5",
    "MRR@10",
    "MRR@20",
)
GROUP_COLUMNS = 6
"""Models shown by group: more columns than this cannot be read."""

RowKey = tuple[str, str, str]
"""Model, ablation, and the events it saw."""


@dataclass(frozen=True)
class ResultTable:
    """Text cells under a caption; the first column names the row, `best` rows stand out."""

    name: str
    caption: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class DatasetSection:
    """All tables of one dataset, and sentences on what was measured."""

    dataset: str
    facts: tuple[str, ...]
    tables: tuple[ResultTable, ...]


class _Numbers(NamedTuple):
    """One dataset's means by row, ranking, domain, group and metric; and who stands first."""

    values: dict[tuple[RowKey, str, str, str, str], tuple[float, float | None, int]]
    targets: dict[tuple[str, str], int]
    rows: list[RowKey]
    domains: list[str]


def section(results: Results, dataset: str, compare: str, facts: tuple[str, ...]) -> DatasetSection:
    """Returns the tables of one dataset; those without a number are left out."""
    chosen = Results(*(table.filter(dataset=dataset) for table in results))
    numbers = _numbers(chosen.metrics.filter(pl.col("overlap").is_null()))
    tables = (
        _models(numbers, chosen),
        _ablations(numbers, chosen),
        _comparisons(chosen, compare),
        *_sampled(numbers),
        _groups(numbers, compare),
        _overlap(chosen.metrics),
    )
    return DatasetSection(dataset, facts, tuple(table for table in tables if table and table.rows))


def row_name(row: RowKey) -> str:
    """Returns a model's name as tables show it, marked if it saw the validation events too."""
    model, ablation, saw = row
    mark = f" {SAW_BOTH_MARK}" if saw == Saw.TRAIN_AND_VALIDATION else ""
    return f"{model}{': ' + ablation if ablation else ''}{mark}"


def score(value: float | None) -> str:
    """Returns a fraction with four decimals and no leading zero."""
    return NO_VALUE if value is None else f"{value:.4f}".removeprefix("0")


def _numbers(metrics: pl.DataFrame) -> _Numbers:
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
    return _Numbers(values, targets, rows, domains)


def _cell(numbers: _Numbers, row: RowKey, metric: str, domain: str = ALL) -> str:
    mean, sd, _ = numbers.values.get((row, FULL, domain, ALL, metric), (None, None, 0))
    return score(mean) if sd is None else f"{score(mean)} ± {score(sd)}"


def _models(numbers: _Numbers, results: Results) -> ResultTable:
    columns = ["model", "seeds", *_metric_columns(numbers), "train s"]
    rows = [row for row in numbers.rows if not row[1]]
    return ResultTable(
        "models",
        "Models, full ranking",
        _seed_note(numbers),
        tuple(columns),
        tuple(_model_row(numbers, results, row) for row in rows),
    )


def _metric_columns(numbers: _Numbers) -> list[str]:
    return [
        metric if domain == ALL else f"{domain} {metric}"
        for domain in numbers.domains
        for metric in (HEADLINE, HIT_RATE)
    ]


def _model_row(numbers: _Numbers, results: Results, row: RowKey) -> tuple[str, ...]:
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


def _seed_note(numbers: _Numbers) -> str:
    return (
        f"{numbers.targets.get((ALL, ALL), 0):,} held-out events. Mean ± standard deviation over "
        f"seeds. {SAW_BOTH_MARK}: fitted on training and validation events, the others on "
        "training events alone."
    )


def _ablations(numbers: _Numbers, results: Results) -> ResultTable:
    """Each ablation beside its whole model, in points of NDCG@10 and HR@10."""
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


def _change(numbers: _Numbers, row: RowKey, whole: RowKey) -> str:
    key = (FULL, ALL, ALL, HEADLINE)
    change = numbers.values[row, *key][0] - numbers.values[whole, *key][0]
    return f"{change:+.4f}".replace("0.", ".", 1)


def _comparisons(results: Results, compare: str) -> ResultTable:
    rows = [
        (
            row_name((model, ablation, saw)),
            f"{difference:+.4f}",
            f"{low:+.4f} to {high:+.4f}",
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
        f"How far {compare} is ahead in {HEADLINE}",
        "Paired bootstrap over users, gains averaged over seeds first: a difference between users, "
        "not between seeds. An interval that holds 0 decides nothing.",
        ("model", "difference", "95 % interval", "p"),
        tuple(rows),
    )


def _sampled(numbers: _Numbers) -> list[ResultTable]:
    """All metrics of each ranking; one that draws the whole domain repeats the full ranking."""
    drawn = sorted({ranking for _, ranking, *_ in numbers.values} - {FULL}, key=int)
    rows = {ranking: _metric_rows(numbers, ranking) for ranking in (FULL, *drawn)}
    same = [ranking for ranking in drawn if rows[ranking] == rows[FULL]]
    notes = {ranking: "Means over seeds. The candidates are the same for all." for ranking in drawn}
    notes[FULL] = "Means over seeds."
    if same:
        notes[FULL] += f" {' and '.join(same)} drawn candidates are the whole domain: the same."
    captions = {ranking: f"All metrics among {ranking} drawn candidates" for ranking in drawn}
    captions[FULL] = "All metrics, full ranking"
    return [
        ResultTable(
            f"metrics-{ranking}",
            captions[ranking],
            notes[ranking],
            ("model", *ALL_METRICS),
            rows[ranking],
        )
        for ranking in rows
        if ranking not in same
    ]


def _metric_rows(numbers: _Numbers, ranking: str) -> tuple[tuple[str, ...], ...]:
    def shown(row: RowKey, metric: str) -> str:
        return score(numbers.values.get((row, ranking, ALL, ALL, metric), (None,))[0])

    whole = [row for row in numbers.rows if not row[1]]
    return tuple((row_name(row), *(shown(row, metric) for metric in ALL_METRICS)) for row in whole)


def _groups(numbers: _Numbers, compare: str) -> ResultTable:
    """Groups down, models across: the compared one first, then the best of each other model."""
    shown: list[RowKey] = [row for row in numbers.rows if row[:2] == (compare, "")]
    for row in numbers.rows:
        if not row[1] and row[0] not in {other[0] for other in shown}:
            shown.append(row)
    shown = shown[:GROUP_COLUMNS]
    groups = [group for domain, group in numbers.targets if domain == ALL]
    rows = [
        (
            group,
            f"{numbers.targets[ALL, group]:,}",
            *(
                score(numbers.values.get((row, FULL, ALL, group, HEADLINE), (None,))[0])
                for row in shown
            ),
        )
        for group in groups
        if group not in (ALL, BEFORE_THE_CUT)
    ]
    return ResultTable(
        "groups",
        f"{HEADLINE} by group of users and items, full ranking",
        "Histories are what stands before the held-out event; head items are the most bought fifth "
        "of a domain; unseen means neither in training nor in validation events.",
        ("group", "events", *map(row_name, shown)),
        tuple(rows),
    )


def _overlap(metrics: pl.DataFrame) -> ResultTable:
    means = over_seeds(metrics.filter(pl.col("overlap").is_not_null(), ranking=FULL, domain=ALL))
    rows = []
    for (model, share), part in means.group_by("model", "overlap", maintain_order=True):
        cells = [str(model), f"{share} %"]
        for group in (ALL, BEFORE_THE_CUT):
            for metric in (HEADLINE, HIT_RATE):
                mean, sd = part.filter(group=group, metric=metric).select("mean", "sd").row(0)
                cells.append(score(mean) if sd is None else f"{score(mean)} ± {score(sd)}")
        rows.append((*cells, str(part["seeds"][0])))
    return ResultTable(
        "overlap",
        "How many users of several domains must be known as one person",
        "The share of these users who keep their link; each of the others becomes one user per "
        "domain. Every share is measured on the same events: those whose user has met the domain "
        "before. No user profiles, since they tell of both domains.",
        (
            "model",
            "linked",
            f"{HEADLINE}, all",
            f"{HIT_RATE}, all",
            f"{HEADLINE}, users of several domains",
            f"{HIT_RATE}, users of several domains",
            "seeds",
        ),
        tuple(rows),
    )
