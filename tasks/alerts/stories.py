"""Summaries of finished runs in the Prefect UI: Markdown and table artifacts.

They show the data, changes since the last run, cost, quality against the last model, and the
promotion decision.
"""

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.context import FlowRunContext

from artifacts import columns as col
from artifacts.bundles import parts_of
from artifacts.integrity import ArtifactError
from artifacts.kinds.results import METRICS, OUR_MODEL, REPORT, read_table
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from tasks.frame.markdown_text import markdown_text
from tasks.frame.prefect_link import shown_only
from tasks.frame.stage import LlmUsage, RunFacts, StageResult
from tasks.promoting.verdict import Verdict

REFRESH_STORY = "refresh-summary"
USAGE_TABLE = "language-model-usage"
RELEASE_STORY = "release-summary"
METRIC_TABLE = "quality-against-last-model"
REPORT_LINK = "served-report"
WATCH_STORY = "dump-watch"

DATASET_FACTS = {
    "users": "users",
    "users_in_several_domains": "users in several domains",
    "items": "items",
    "events": "events",
    "rows_in": "rows read",
    "rows_dropped": "rows dropped by a named rule",
}
HEADLINE = ("NDCG@10", "HR@10")

NOT_THE_SAME = (
    "Each model was measured on its own data, so after a new dump the metrics are of different "
    "events; the comparison above the table decides."
)

Row = dict[str, str]


def publish_refresh_summary(
    store: Store, stages: tuple[StageResult, ...], before: ArtifactRef | None, *, changed: bool
) -> None:
    """Writes the summary of a refresh to the UI; ``before`` is the previous refresh."""
    if FlowRunContext.get() is None:
        return
    story = refresh_story(store, stages, before, changed=changed)
    table = [dict(row) for row in usage_rows(stages)]
    with shown_only():
        create_markdown_artifact(
            key=REFRESH_STORY,
            markdown=story,
            description="Data, artifacts and cost of this refresh.",
        )
        create_table_artifact(
            key=USAGE_TABLE,
            table=table,
            description="Prompts by stage: sent, found in the ledger, equal to another, failed.",
        )


def publish_release_summary(
    store: Store,
    release: ArtifactRef,
    before: ArtifactRef | None,
    verdict: Verdict,
    stages: tuple[StageResult, ...],
    serve_url: str,
) -> None:
    """Writes the summary of a retraining to the UI; ``before`` is the previously served release.
    The service at ``serve_url`` has the report of a served model."""
    if FlowRunContext.get() is None:
        return
    rows = metric_rows(store, release, before)
    story = release_story(store, release, before, verdict, stages)
    with shown_only():
        create_markdown_artifact(
            key=RELEASE_STORY,
            markdown=story,
            description="Promotion decision, its reasons, and the path of the report.",
        )
        if rows:
            create_table_artifact(
                key=METRIC_TABLE,
                table=[dict(row) for row in rows],
                description="Held-out test events, full ranking; higher is better.",
            )
        if verdict.promoted:
            create_link_artifact(
                key=REPORT_LINK,
                link=f"{serve_url.rstrip('/')}/report",
                link_text="the report of the served release",
                description="Shown while `llm4cdsr serve-recs` runs at LLM4CDSR_SERVE_URL.",
            )


def refresh_story(
    store: Store, stages: tuple[StageResult, ...], before: ArtifactRef | None, *, changed: bool
) -> str:
    """Returns Markdown: data, changes since the last refresh, paid prompts."""
    opening = (
        "New data: a model will be trained on it."
        if changed
        else "No new data since the last training: no model will be trained."
    )
    return "\n\n".join(
        [
            "# Refresh",
            opening,
            *(f"**Note:** {markdown_text(note)}." for note in RunFacts(stages).notes),
            "## Data",
            _markdown_table(data_rows(store, stages, before)),
            "## Stages",
            _markdown_table(stage_rows(stages)),
            "## Language model",
            _markdown_table(usage_rows(stages)),
        ]
    )


def release_story(
    store: Store,
    release: ArtifactRef,
    before: ArtifactRef | None,
    verdict: Verdict,
    stages: tuple[StageResult, ...],
) -> str:
    """Returns Markdown: verdict, metrics against the last model, path of the report."""
    report = store.path(parts_of(store, release)["report"]) / REPORT
    parts = ["# Retrain", _verdict_text(release, before, verdict)]
    if rows := metric_rows(store, release, before):
        parts += ["## Quality on held-out test events", _markdown_table(rows), NOT_THE_SAME]
    return "\n\n".join(
        [
            *parts,
            "## Stages",
            _markdown_table(stage_rows(stages)),
            "## Paths and commands",
            f"- report: `{report.resolve()}`\n- release: `{release.fingerprint}`\n"
            "- `llm4cdsr show` prints the served release, `llm4cdsr releases` all decisions, "
            "`llm4cdsr rollback` serves the previous release",
        ]
    )


def data_rows(
    store: Store, stages: tuple[StageResult, ...], before: ArtifactRef | None
) -> list[Row]:
    """Returns a table of counts of the dataset: now, in the last refresh, change."""
    now = RunFacts(stages).counts("ingest")
    last = _dataset_counts(store, before)
    return [
        {
            "": label,
            "now": _number(now[name]),
            "last time": _number(last[name]) if name in last else "–",
            "change": f"{now[name] - last[name]:+,}" if name in last else "–",
        }
        for name, label in DATASET_FACTS.items()
        if name in now
    ]


def stage_rows(stages: tuple[StageResult, ...]) -> list[Row]:
    """Returns a table of stages: reused or made, seconds, counts."""
    return [
        {
            "stage": stage.stage,
            "": "unchanged, reused" if stage.reused else f"made in {stage.seconds:,.1f} s",
            "facts": ", ".join(
                f"{name.replace('_', ' ')} {_number(value)}"
                for name, value in stage.counts.items()
                if "@" not in name  # Metrics have their own table.
            ),
        }
        for stage in stages
    ]


def usage_rows(stages: tuple[StageResult, ...]) -> list[Row]:
    """Returns a table of stages with prompts, and their sum."""
    facts = RunFacts(stages)
    used = [(stage.stage, stage.usage) for stage in facts.asking]
    return [_usage_row(stage, usage) for stage, usage in [*used, ("all", facts.usage)]]


def metric_rows(store: Store, release: ArtifactRef, before: ArtifactRef | None) -> list[Row]:
    """Returns a table by domain and metric: new, last, change, strongest baseline."""
    new = _headline(store, release)
    last = {} if before is None or before == release else _headline(store, before)
    rows = []
    for (model, domain, metric), value in new.items():
        if model != OUR_MODEL:
            continue
        old = last.get((model, domain, metric))
        rivals = {
            other: found
            for (other, of, name), found in new.items()
            if other != OUR_MODEL and (of, name) == (domain, metric)
        }
        best = max(rivals, key=lambda other: rivals[other], default=None)
        rows.append(
            {
                "domain": domain,
                "metric": metric,
                "new model": f"{value:.4f}",
                "last model": "–" if old is None else f"{old:.4f}",
                "change": "–" if not old else f"{value / old - 1:+z.1%}",
                "strongest baseline": "–" if best is None else f"{rivals[best]:.4f} ({best})",
            }
        )
    return rows


def _verdict_text(release: ArtifactRef, before: ArtifactRef | None, verdict: Verdict) -> str:
    if verdict.promoted:
        what = "The new model is served."
    else:
        kept = "nothing" if before is None else f"release `{before.fingerprint}`"
        what = (
            f"**Held:** the new model is not served; {kept} stays in use. "
            f"To serve it nevertheless: `llm4cdsr promote {release.fingerprint}`."
        )
    found = [f"- {markdown_text(each)}" for each in verdict.reasons or (verdict.summary,)]
    if verdict.lead is not None and verdict.lead.sentence not in verdict.reasons:
        mark = "**" if verdict.lead.is_behind else ""
        found.append(f"- {mark}{markdown_text(verdict.lead.sentence)}{mark}")
    coverage = f"- users with recommendations: {verdict.user_coverage:.1%}"
    return "\n".join([what, "", *found, coverage])


def _headline(store: Store, release: ArtifactRef) -> dict[tuple[str, str, str], float]:
    try:
        frame = read_table(store, parts_of(store, release)["metrics"], METRICS)
    except ArtifactError:
        return {}
    rows = frame.filter(ranking="full", group="all").select("model", col.DOMAIN, "metric", "value")
    return {
        (model, domain, metric): value
        for model, domain, metric, value in rows.iter_rows()
        if metric in HEADLINE and value is not None
    }


def _dataset_counts(store: Store, bundle: ArtifactRef | None) -> dict[str, int | float]:
    if bundle is None:
        return {}
    try:
        return store.manifest(parts_of(store, bundle)["dataset"]).counts
    except ArtifactError:
        return {}


def _usage_row(stage: str, usage: LlmUsage) -> Row:
    return {
        "stage": stage,
        "needed": _number(usage.prompts),
        "equal to another": _number(usage.merged),
        "found in the ledger": _number(usage.reused),
        "sent": _number(usage.requests),
        "failed": _number(usage.failed),
        "tokens in": _number(usage.prompt_tokens),
        "tokens out": _number(usage.completion_tokens),
        "US dollars": _dollars(usage),
    }


def _dollars(usage: LlmUsage) -> str:
    """Returns the cost as text; empty for local models without a price."""
    if usage.requests and usage.unpriced >= usage.requests:
        return "no price known"
    return f"{usage.usd:,.2f}" + (" and unpriced prompts" if usage.unpriced else "")


def _number(value: int | float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _markdown_table(rows: list[Row]) -> str:
    if not rows:
        return "Nothing."
    head = list(rows[0])
    cells_of = (list(map(markdown_text, row.values())) for row in rows)
    lines = [head, ["---"] * len(head), *cells_of]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
