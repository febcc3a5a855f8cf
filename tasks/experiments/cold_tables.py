"""Tables of withheld domains: models by direction, with differences to the reference model."""

import polars as pl

from artifacts.kinds.results import ALL, COLD_DOMAIN
from model.scoring.cold_domain_metrics import ANY_HIT, FIRST_HIT, METRICS
from tasks.experiments.cell_results import Results, over_seeds
from tasks.experiments.numbers import NO_VALUE, SAW_BOTH_MARK, ResultTable, row_name, score

LEADS = (ANY_HIT, FIRST_HIT)
NOTE = (
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
                *(_value(*own[metric]) for metric in METRICS),
                *(_lead(leads.filter(**key, metric=metric)) for metric in LEADS),
            )
        )
    users = means["targets"].max() or 0
    direction = "all directions" if group == ALL else group
    return ResultTable(
        f"cold-{number}",
        f"Withheld domains, {direction}: {users:,} users",
        f"{NOTE} Lead: how far {compare} is ahead, with a 95 % interval over users.",
        ("model", "seeds", *METRICS, *(f"lead in {metric}" for metric in LEADS)),
        tuple(rows),
    )


def _value(mean: float, sd: float | None) -> str:
    return score(mean) if sd is None else f"{score(mean)} ± {score(sd)}"


def _lead(found: pl.DataFrame) -> str:
    if found.is_empty():
        return NO_VALUE
    difference, low, high = found.select("difference", "low", "high").row(0)
    return f"{difference:+.4f} ({low:+.4f} to {high:+.4f})"
