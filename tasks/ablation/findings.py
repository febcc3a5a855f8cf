"""Findings of an ablation as sentences."""

import polars as pl

from artifacts.kinds.ablation import ALL_EVENTS, FEWEST
from tasks.frame.number_texts import signed


def findings(ablation: pl.DataFrame) -> list[str]:
    """Returns one sentence per part of the model, from a table of `ABLATION_SCHEMA`."""
    parts = ablation["part"].unique(maintain_order=True).to_list()
    return [_finding(part, ablation.filter(part=part)) for part in parts]


def _finding(part: str, rows: pl.DataFrame) -> str:
    whole = rows.row(by_predicate=pl.col("group") == ALL_EVENTS, named=True)
    name = part[0].upper() + part[1:]
    if whole["difference"] is None:
        return (
            f"{name}: not measured, {whole['events']} held-out events of the sample concern "
            f"them, {FEWEST} are needed."
        )
    interval = f"{signed(whole['low'])} to {signed(whole['high'])}"
    events = f"{whole['events']:,} events"
    size = f"NDCG@10 {signed(whole['difference'])} (95% interval {interval}, {events})"
    if whole["low"] > 0:
        return f"{name} raise quality here: {size}.{_groups(rows, 'A larger gain')}"
    if whole["high"] < 0:
        return f"{name} lower quality here: {size}.{_groups(rows, 'But a gain')}"
    return f"{name}: no significant effect: {size}.{_groups(rows, 'A gain')}"


def _groups(rows: pl.DataFrame, lead: str) -> str:
    """Returns the groups with an interval above 0 and above the overall difference."""
    whole = rows.row(by_predicate=pl.col("group") == ALL_EVENTS, named=True)
    least = max(0.0, whole["difference"])
    better = rows.filter((pl.col("group") != ALL_EVENTS) & (pl.col("low") > least))
    if better.is_empty():
        return ""
    named = ", ".join(
        f"{group} {signed(difference)}"
        for group, difference in better.select("group", "difference").iter_rows()
    )
    return f" {lead} on: {named}."
