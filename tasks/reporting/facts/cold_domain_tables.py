"""Metrics of withheld domains by model and direction, with paired differences to the model."""

import polars as pl

from artifacts import columns as col
from artifacts.kinds.dataset import Dataset
from artifacts.kinds.results import ALL, COLD_DOMAIN
from model.scoring.bootstrap import paired_bootstrap
from model.scoring.cold_domain_metrics import METRICS, FloatArray
from tasks.frame.model_inputs import sequences_of
from tasks.reporting.facts.content import ColdDomainRow, ColdDomainTable
from tasks.reporting.facts.withheld_domains import gains_of, groups_of, withheld_items

DRAWS = 1_000
ALL_DIRECTIONS = "all directions"


def cold_domain_tables(
    data: Dataset, ranks: pl.DataFrame, ours: str
) -> tuple[ColdDomainTable, ...]:
    """Returns tables of all directions together, then of each; empty without withheld domains.

    `ranks` is the table of `artifacts.results.RANKS`.
    """
    rows = ranks.filter(ranking=COLD_DOMAIN)
    if rows.is_empty():
        return ()
    measured = rows.filter(model=ours)[col.USER_INDEX].unique().to_numpy()
    withheld = withheld_items(sequences_of(data), measured)
    models = rows["model"].unique(maintain_order=True).to_list()
    gains = {model: gains_of(rows.filter(model=model), withheld) for model in models}
    directions = groups_of(gains[ours], data.domains)
    found = []
    for (domain, group), chosen in directions.items():
        if group == ALL and domain != ALL:
            continue  # The directions are more specific than their sum.
        values = {
            model: [of_model.values[metric][chosen] for metric in METRICS]
            for model, of_model in gains.items()
        }
        found.append(
            ColdDomainTable(
                direction=ALL_DIRECTIONS if group == ALL else group,
                users=int(chosen.sum()),
                metrics=METRICS,
                rows=tuple(
                    ColdDomainRow(
                        model=model,
                        values=tuple(float(value.mean()) for value in own),
                        leads=None
                        if model == ours
                        else tuple(
                            _lead(mine, theirs)
                            for mine, theirs in zip(values[ours], own, strict=True)
                        ),
                    )
                    for model, own in values.items()
                ),
            )
        )
    return tuple(found)


def _lead(ours: FloatArray, theirs: FloatArray) -> tuple[float, float, float]:
    (compared,) = paired_bootstrap(ours, theirs[:, None], DRAWS)
    return compared.difference, compared.low, compared.high
