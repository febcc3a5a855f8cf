"""What a person sees in the terminal: one line a stage, and at the end what came of the run."""

import logging

import polars as pl
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table

from artifacts import columns as col
from artifacts.manifest import ArtifactRef
from artifacts.results import METRICS, read_table
from artifacts.store import Store
from tasks.evaluate import FULL
from tasks.progress import TERMINAL
from tasks.promotion import Verdict
from tasks.stage import LlmUsage, StageResult

HEADLINE_METRICS = ("NDCG@10", "HR@10")

out = Console()
err = TERMINAL


def show_logs(*, verbose: bool) -> None:
    """Shows our own log lines on the terminal, with ``verbose`` also the libraries' warnings."""
    handler = RichHandler(console=err, show_path=False, show_level=False, log_time_format="%X")
    logger = logging.getLogger("llm4cdsr")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if verbose:
        logging.getLogger().addHandler(handler)


def stage_table(stages: tuple[StageResult, ...]) -> Table:
    """Returns one row a stage: what was asked, reused and paid, and how long it took."""
    table = Table(
        title="Stages, and prompts asked, found in the ledger, equal to another, failed",
        title_justify="left",
    )
    table.add_column("stage", no_wrap=True)
    for name in ("seconds", "asked", "ledger", "equal", "failed", "tokens"):
        table.add_column(name, justify="right")
    total = LlmUsage()
    for stage in stages:
        usage, total = stage.usage, total + stage.usage
        took = "reused" if stage.reused else f"{stage.seconds:,.1f}"
        table.add_row(stage.stage, took, *_usage_cells(usage))
    table.add_section()
    seconds = f"{sum(stage.seconds for stage in stages):,.1f}"
    table.add_row("all", seconds, *_usage_cells(total), style="bold")
    return table


def metric_table(store: Store, metrics: ArtifactRef) -> Table:
    """Returns full-ranking quality of the model and its baselines, overall and by domain."""
    frame = read_table(store, metrics, METRICS)
    rows = frame.filter(
        (pl.col("ranking") == FULL)
        & (pl.col("group") == "all")
        & pl.col("metric").is_in(HEADLINE_METRICS)
    )
    models = rows["model"].unique(maintain_order=True).to_list()
    table = Table(title="Held-out events, full ranking (higher is better)", title_justify="left")
    for name in (col.DOMAIN, "events", "metric", *models):
        table.add_column(name, justify="left" if name in (col.DOMAIN, "metric") else "right")
    for (domain, metric), part in rows.group_by(col.DOMAIN, "metric", maintain_order=True):
        values = dict(part.select("model", "value").iter_rows())
        cells = [f"{values[model]:.4f}" for model in models]
        table.add_row(str(domain), f"{part['targets'][0]:,}", str(metric), *cells)
    return table


def facts_of(stages: tuple[StageResult, ...]) -> list[str]:
    """Returns what a user must not miss: what was dropped, flagged, or is a dummy's work."""
    counts = {stage.stage: stage.counts for stage in stages}
    notes = sorted({note for stage in stages for note in stage.notes})
    lines = [f"[bold yellow]Note:[/] {note}." for note in notes]
    if data := counts.get("ingest"):
        lines.append(
            f"Dataset: {data['users']:,} users ({data['users_in_several_domains']:,} in several "
            f"domains), {data['items']:,} items, {data['events']:,} events; "
            f"{data['rows_dropped']:,} of {data['rows_in']:,} rows dropped by named rules."
        )
    if embedded := counts.get("embed items"):
        lines.append(
            f"Items without usable text: {embedded['without_text']:,} of {embedded['items']:,}; "
            f"they stand at the mean of their domain. Embeddings that failed: "
            f"{embedded['failed']:,}."
        )
    if profiled := counts.get("profile users"):
        lines.append(
            f"Users with a profile: {profiled['with_profile']:,} of {profiled['users']:,}; "
            "the others train with the alignment term masked."
        )
    return lines


def verdict_line(release: ArtifactRef, verdict: Verdict) -> str:
    """Returns whether a new model is served, why, and what to do where it is not."""
    if verdict.promoted:
        return f"Served from now on: {escape(verdict.summary)}."
    return (
        f"[bold yellow]Held:[/] {escape(verdict.summary)}. What was served before stays in "
        f"use; to serve this one all the same: llm4cdsr promote {release.fingerprint}"
    )


def _usage_cells(usage: LlmUsage) -> tuple[str, ...]:
    if not usage.prompts:
        return ("",) * 5
    tokens = usage.prompt_tokens + usage.completion_tokens
    counts = (usage.requests, usage.reused, usage.merged, usage.failed, tokens)
    return tuple(f"{count:,}" for count in counts)
