"""Detailed tables: all metrics and rankings, groups of users and items, the overlap study, withheld
domains."""

import polars as pl

from artifacts.kinds.results import ALL, COLD_DOMAIN, FULL
from model.scoring.cold_domain_metrics import ANY_HIT, FIRST_HIT, METRICS
from tasks.experiments.cell_results import (
    BEFORE_THE_CUT,
    CUTOFFS,
    HEADLINE,
    Results,
    over_seeds,
)
from tasks.experiments.numbers import (
    NO_VALUE,
    SAW_BOTH_MARK,
    Numbers,
    ResultTable,
    RowKey,
    row_name,
    score,
    spread,
)
from tasks.frame.number_texts import signed

HIT_RATE = "HR@10"
ALL_METRICS = tuple(f"{metric}@{cutoff}" for metric in ("NDCG", "HR", "MRR") for cutoff in CUTOFFS)
GROUP_COLUMNS = 6
"""Maximum models in tables by group."""


def metric_tables(numbers: Numbers) -> list[ResultTable]:
    """Returns all metrics of each ranking, without sampled rankings of whole domains."""
    drawn = sorted({ranking for _, ranking, *_ in numbers.values} - {FULL}, key=int)
    rows = {ranking: _metric_rows(numbers, ranking) for ranking in (FULL, *drawn)}
    same = [ranking for ranking in drawn if rows[ranking] == rows[FULL]]
    notes = {ranking: "Means over seeds. The candidates are the same for all." for ranking in drawn}
    notes[FULL] = "Means over seeds."
    if same:
        notes[FULL] += f" {' and '.join(same)} drawn candidates are the whole domain: full ranking."
    captions = {ranking: f"All metrics among {ranking} drawn candidates" for ranking in drawn}
    captions[FULL] = "All metrics, full ranking"
    names = [
        metric if domain == ALL else f"{domain} {metric}" for domain, metric in _metrics(numbers)
    ]
    return [
        ResultTable(
            f"metrics-{ranking}",
            captions[ranking],
            notes[ranking],
            ("model", *names),
            rows[ranking],
        )
        for ranking in rows
        if ranking not in same
    ]


def _metrics(numbers: Numbers) -> list[tuple[str, str]]:
    """Returns every overall metric, and the usual metrics of each domain."""
    each = [(domain, metric) for domain in numbers.domains for metric in (HEADLINE, HIT_RATE)]
    return [*((ALL, metric) for metric in ALL_METRICS), *(pair for pair in each if pair[0] != ALL)]


def _metric_rows(numbers: Numbers, ranking: str) -> tuple[tuple[str, ...], ...]:
    def shown(row: RowKey, domain: str, metric: str) -> str:
        return score(numbers.values.get((row, ranking, domain, ALL, metric), (None,))[0])

    whole = [row for row in numbers.rows if not row[1]]
    metrics = _metrics(numbers)
    return tuple((row_name(row), *(shown(row, *metric) for metric in metrics)) for row in whole)


def group_table(numbers: Numbers, compare: str) -> ResultTable:
    """Returns a table of groups by model: the compared one first, then the best variant of each
    other model."""
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
        "Histories are the events before the held-out event; head items are the most popular fifth "
        "of a domain; unseen means neither in training nor in validation events.",
        ("group", "events", *map(row_name, shown)),
        tuple(rows),
    )


def overlap_table(metrics: pl.DataFrame) -> ResultTable:
    """Returns a table by model and share, empty without an overlap study."""
    means = over_seeds(metrics.filter(pl.col("overlap").is_not_null(), ranking=FULL, domain=ALL))
    rows = []
    for (model, share), part in means.group_by("model", "overlap", maintain_order=True):
        cells = [str(model), f"{share} %"]
        for group in (ALL, BEFORE_THE_CUT):
            for metric in (HEADLINE, HIT_RATE):
                found = part.filter(group=group, metric=metric).select("mean", "sd").rows()
                mean, sd = found[0] if found else (None, None)  # A group may be empty.
                cells.append(spread(mean, sd))
        rows.append((*cells, str(part["seeds"][0])))
    return ResultTable(
        "overlap",
        "Share of linked users of several domains",
        "Linked: users of several domains who keep their link; each of the others becomes one user "
        "per domain. All shares are measured on the same events: those of users with earlier "
        "events in the domain. No user profiles, because these contain both domains.",
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


LEADS = (ANY_HIT, FIRST_HIT)
COLD_NOTE = (
    "One whole domain is withheld from each of these users, and all its items are ranked. any: one "
    "of the user's withheld items is in the first ten; NDCG: all of them are relevant; first: only "
    "that of the first withheld event is. Mean ± standard deviation over seeds of training; the "
    f"split is the same. {SAW_BOTH_MARK}: fitted on the last events of the other users too."
)


def cold_tables(results: Results, compare: str) -> tuple[ResultTable, ...]:
    """Returns tables of all directions together, then of each; empty without withheld domains."""
    means = over_seeds(results.metrics.filter(ranking=COLD_DOMAIN))
    shown = means.filter((pl.col("group") != ALL) | (pl.col("domain") == ALL))
    groups = shown["group"].unique(maintain_order=True).to_list()
    return tuple(
        _table(number, group, shown.filter(group=group), results, compare)
        for number, group in enumerate(groups)
    )


def _table(
    number: int, group: str, means: pl.DataFrame, results: Results, compare: str
) -> ResultTable:
    order = means.filter(metric=ANY_HIT).sort("mean", descending=True)
    leads = results.comparisons.filter(group=group)
    rows = []
    for model, ablation, saw, seeds in order.select(
        "model", "ablation", "saw", "seeds"
    ).iter_rows():
        key = {"model": model, "ablation": ablation, "saw": saw}
        own = {
            metric: (mean, sd)
            for metric, mean, sd in means.filter(**key).select("metric", "mean", "sd").iter_rows()
        }
        rows.append(
            (
                row_name((model, ablation, saw)),
                str(seeds),
                *(spread(*own[metric]) for metric in METRICS),
                *(_lead(leads.filter(**key, metric=metric)) for metric in LEADS),
            )
        )
    users = means["targets"].max() or 0
    direction = "all directions" if group == ALL else group
    return ResultTable(
        f"cold-{number}",
        f"Withheld domains, {direction}: {users:,} users",
        f"{COLD_NOTE} Lead: how far {compare} is ahead, with a 95 % interval over users.",
        ("model", "seeds", *METRICS, *(f"lead in {metric}" for metric in LEADS)),
        tuple(rows),
    )


def _lead(found: pl.DataFrame) -> str:
    if found.is_empty():
        return NO_VALUE
    difference, low, high = found.select("difference", "low", "high").row(0)
    return f"{signed(difference, 4)} ({signed(low, 4)} to {signed(high, 4)})"
