"""Terminal output of a run: one line per stage, then a summary."""

from typing import TYPE_CHECKING

import polars as pl
from rich.table import Table
from rich.text import Text

from artifacts import columns as col
from artifacts.kinds.ablation import ABLATION
from artifacts.kinds.results import ALL, COLD_DOMAIN, FULL, METRICS, OUR_MODEL, read_table
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from flows.cli.output import terminal
from tasks.ablation.findings import findings
from tasks.frame.number_texts import signed
from tasks.frame.stage import LlmUsage, RunFacts, StageResult
from tasks.promoting.baseline_lead import FEWEST
from tasks.promoting.verdict import Verdict
from tasks.reporting.facts.metrics import first_crossings

if TYPE_CHECKING:
    from flows.cli.dry_run import PlannedCalls

HEADLINE_METRICS = ("NDCG@10", "HR@10")
CHOICE_STAGE = "choose preset"


def stage_table(stages: tuple[StageResult, ...]) -> Table:
    """Returns a table of stages: prompts sent and reused, cost, duration."""
    table = terminal.table(
        "Stages; prompts: sent, found in the ledger, equal to another, failed",
        *("stage", ">seconds", ">asked", ">ledger", ">equal", ">failed", ">tokens", ">USD"),
    )
    table.columns[0].no_wrap = True
    for stage in stages:
        took = "reused" if stage.reused else f"{stage.seconds:,.1f}"
        table.add_row(stage.stage, took, *_usage_cells(stage.usage))
    table.add_section()
    seconds = f"{sum(stage.seconds for stage in stages):,.1f}"
    table.add_row("all", seconds, *_usage_cells(RunFacts(stages).usage), style="bold")
    return table


def plan_table(planned: "tuple[PlannedCalls, ...]") -> Table:
    """Returns a table of LLM steps: prompts to send and their cost."""
    table = terminal.table(
        "Prompts that a run would send; none was sent",
        *("step", ">prompts", ">ledger", ">requests", ">tokens in", ">and out", ">USD"),
    )
    table.columns[0].no_wrap = True
    for step in planned:
        bound = "" if step.is_exact else "≤ "
        table.add_row(
            step.step,
            f"{bound}{step.prompts:,}",
            f"{step.reused:,}",
            f"{bound}{step.requests:,}",
            f"{step.prompt_tokens:,}",
            f"≤ {step.completion_tokens:,}",
            _usd(step.usd),
        )
    return table


def facts_of_plan(planned: "tuple[PlannedCalls, ...]") -> list[str]:
    """Returns sentences about the total, the token counting and the upper bounds."""
    costs = [step.usd for step in planned]
    known = sum(cost for cost in costs if cost is not None)
    requests = sum(step.requests for step in planned)
    if not requests:
        return ["No prompt to send: all answers exist."]
    chats = any(step.completion_tokens for step in planned)
    about = "About" if chats else "At most"
    lines = [f"{about} {requests:,} requests and ${known:,.4f}."]
    if None in costs:
        lines[0] = (
            f"{about} {requests:,} requests. The price of a model is unknown: set "
            'LLM4CDSR_PRICES=\'{"MODEL": {"prompt": …, "completion": …}}\' (USD a million tokens).'
        )
    if chats:
        lines.append("Not counted: an answer over the word limit is requested again.")
    counted = sorted({step.tokens_how for step in planned if step.requests})
    lines += [f"Tokens: {how}." for how in counted]
    if not all(step.is_exact for step in planned):
        lines.append(
            "≤ marks upper bounds: the number of profile prompts is known once the items are "
            "embedded and clustered, that of summaries once the analyses exist."
        )
    return lines


def metric_tables(store: Store, metrics: ArtifactRef) -> list[Table]:
    """Returns tables of the metrics of model and baselines: full ranking, overall and by domain,
    and withheld domains if any."""
    frame = read_table(store, metrics, METRICS)
    cold = frame.filter(ranking=COLD_DOMAIN)
    tables = [] if cold.height == frame.height > 0 else [_full_ranking(frame)]
    return tables if cold.is_empty() else [*tables, _cold_domain(cold)]


def crossing_fact(store: Store, metrics: ArtifactRef) -> list[str]:
    """Returns a sentence on held-out events that are their user's first in a domain, where there
    are any."""
    values, events = first_crossings(read_table(store, metrics, METRICS))
    if not values:
        return []
    ours = values.pop(OUR_MODEL)
    others = ", ".join(f"{model} {value:.2f}" for model, value in values.items())
    against = f" ({others})" if others else ""
    return [
        f"First events in a domain that is new to the user, {events:,} of them: "
        f"HR@10 {ours:.2f}{against}."
    ]


def facts_of_ablation(store: Store, ablation: ArtifactRef) -> list[str]:
    """Returns one sentence per ablated part: its gain on a sample of users, or the reason for its
    absence."""
    manifest = store.manifest(ablation)
    found = findings(read_table(store, ablation, ABLATION))
    users = f"Measured with smaller models on a sample of {manifest.counts['users']:,} users:"
    return [users, *found] if found else manifest.notes


def ablation_table(store: Store, ablation: ArtifactRef) -> Table:
    """Returns a table by part and group: NDCG@10 with and without the part."""
    table = terminal.table(
        "NDCG@10 on held-out events of a sample",
        *("part", "events of", ">count", ">with", ">without", ">difference (95% interval)"),
    )
    for part, group, events, *values in read_table(store, ablation, ABLATION).iter_rows():
        cells = ("", "", "too few events")
        if values[0] is not None:
            whole, without, gap, low, high = values
            interval = f"{signed(gap)} ({signed(low)} to {signed(high)})"
            cells = (f"{whole:.4f}", f"{without:.4f}", interval)
        table.add_row(part, group, f"{events:,}", *cells)
    return table


def _full_ranking(frame: pl.DataFrame) -> Table:
    rows = frame.filter(pl.col("metric").is_in(HEADLINE_METRICS), ranking=FULL, group="all")
    models = rows["model"].unique(maintain_order=True).to_list()
    columns = (col.DOMAIN, ">events", "metric", *(f">{model}" for model in models))
    table = terminal.table("Held-out events, full ranking (higher is better)", *columns)
    for (domain, metric), part in rows.group_by(col.DOMAIN, "metric", maintain_order=True):
        values = dict(part.select("model", "value").iter_rows())
        # Few events do not justify four decimals.
        places = 4 if part["targets"][0] >= FEWEST else 2
        cells = ["–" if values[m] is None else f"{values[m]:.{places}f}" for m in models]
        table.add_row(str(domain), f"{part['targets'][0]:,}", str(metric), *cells)
    return table


def _cold_domain(frame: pl.DataFrame) -> Table:
    rows = frame.filter((pl.col(col.DOMAIN) == ALL) | (pl.col("group") != ALL))
    metrics = rows["metric"].unique(maintain_order=True).to_list()
    title = "Withheld domains, all their items ranked (higher is better)"
    columns = ("direction", ">users", "model", *(f">{metric}" for metric in metrics))
    table = terminal.table(title, *columns)
    for (direction, model), part in rows.group_by("group", "model", maintain_order=True):
        values = [f"{value:.4f}" for value in part["value"]]
        table.add_row(str(direction), f"{part['targets'][0]:,}", str(model), *values)
    return table


def note_line(note: str) -> Text:
    """Returns a note of an artifact."""
    return Text.assemble(("Note:", "bold yellow"), f" {_ended(note)}")


def _ended(note: str) -> str:
    """Returns a note with a full stop, unless it ends in one or in an option to be copied."""
    is_ended = note.endswith((".", "?", "!")) or "--" in note.rpartition(" add ")[2]
    return note if is_ended else f"{note}."


def facts_of(stages: tuple[StageResult, ...]) -> list[str | Text]:
    """Returns notes for the user: dropped rows, flagged values, outputs of the dummy."""
    facts = RunFacts(stages)
    chosen = [note for stage in stages if stage.stage == CHOICE_STAGE for note in stage.notes]
    notes = [note for note in facts.notes if note not in chosen]
    lines: list[str | Text] = [note_line(note) for note in notes]
    lines += [f"Training: {note}." for note in chosen]
    if data := facts.counts("ingest"):
        lines.append(
            f"Dataset: {data['users']:,} users ({data['users_in_several_domains']:,} in several "
            f"domains), {data['items']:,} items, {data['events']:,} events; "
            f"{data['rows_dropped']:,} of {data['rows_in']:,} rows dropped by named rules."
        )
    if embedded := facts.counts("embed items"):
        lines.append(
            f"Items without usable text: {embedded['without_text']:,} of {embedded['items']:,}; "
            f"they have the mean embedding of their domain. Failed embeddings: "
            f"{embedded['failed']:,}."
        )
    lines += _asked_facts(facts.usage)
    if profiled := facts.counts("profile users"):
        lines.append(
            f"Users with a profile: {profiled['with_profile']:,} of {profiled['users']:,}; "
            "the others train without one."
        )
    return lines


def verdict_line(release: ArtifactRef, verdict: Verdict) -> str | Text:
    """Returns the promotion verdict with its reason, and the next command if the model is held."""
    lead = verdict.lead
    if verdict.promoted:
        served = f"Served from now on: this run's model ({verdict.summary})."
        if lead is None:
            return served
        sentence = lead.sentence[0].upper() + lead.sentence[1:]
        return Text.assemble(
            served + " ", (f"{sentence}.", "bold yellow" if lead.is_behind else "")
        )
    told = "" if lead is None or lead.sentence in verdict.reasons else f"; {lead.sentence}"
    return Text.assemble(
        ("Held:", "bold yellow"),
        f" {verdict.summary}{told}. The served release is unchanged; to serve this one: "
        f"llm4cdsr promote {release.fingerprint}",
    )


def _asked_facts(total: LlmUsage) -> list[str]:
    """Returns sentences about prompts sent and reused in this run."""
    if not total.prompts:
        return []
    cost = "cost unknown" if total.unpriced else f"${total.usd:,.4f}"
    return [
        f"Language model: {total.requests - total.failed:,} new answers, {total.reused:,} reused "
        f"from the ledger, {total.merged:,} shared with an equal prompt, {total.failed:,} failed; "
        f"{total.prompt_tokens + total.completion_tokens:,} tokens, {cost}."
    ]


def _usage_cells(usage: LlmUsage) -> tuple[str, ...]:
    if not usage.prompts:
        return ("",) * 6
    tokens = usage.prompt_tokens + usage.completion_tokens
    counts = (usage.requests, usage.reused, usage.merged, usage.failed, tokens)
    return (*(f"{count:,}" for count in counts), _usd(None if usage.unpriced else usage.usd))


def _usd(usd: float | None) -> str:
    return "unknown" if usd is None else f"{usd:,.4f}"
