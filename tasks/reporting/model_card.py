"""The model card of a release: description, data, metrics, limits.

The front matter follows Hugging Face's model cards.
"""

from tasks.frame.markdown_text import markdown_text
from tasks.frame.number_texts import signed
from tasks.reporting.facts.content import AblationFacts, MetricInterval, ReportContent

MODEL_CARD = "model_card.md"

FRONT_MATTER = """---
library_name: llm4cdsr
pipeline_tag: other
tags: [recommendation, sequential-recommendation, cross-domain]
---"""


def render_model_card(content: ReportContent) -> str:
    """Returns the report's facts as Markdown."""
    sections = (
        FRONT_MATTER,
        f"# {markdown_text(content.title)}",
        _what_it_is(content),
        _data(content),
        _quality(content),
        _language_model(content.ablation),
        _limits(content),
        _settings(content),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _what_it_is(content: ReportContent) -> str:
    embedder = markdown_text(content.embedding_model or "unknown")
    profiler = markdown_text(content.chat_model or "unknown")
    lines = [
        "A cross-domain sequential recommender (LLM4CDSR): it scores the items of a domain as the "
        "next event of a history that may lie in other domains.",
        "",
        f"- Made {content.created:%Y-%m-%d %H:%M} UTC from: {markdown_text(content.dataset_name)}",
        f"- Item texts embedded by {embedder}, users profiled by {profiler}",
        '- Use: `from llm4cdsr import Recommender; Recommender.load("STORE")`',
    ]
    return "\n".join(lines)


def _data(content: ReportContent) -> str:
    data = content.dataset
    if data is None:
        return ""
    rows = [
        f"| {markdown_text(each.name)} | {each.users:,} | {each.items:,} | {each.events:,} | "
        f"{each.items_without_text:,} | {each.items_never_bought:,} |"
        for each in data.domains
    ]
    return "\n".join(
        (
            "## Data",
            "",
            f"{data.events:,} events of {data.users:,} users on {data.items:,} items; "
            f"{data.overlapping_users:,} users are active in several domains, "
            f"{data.single_domain_users:,} in one.",
            "",
            "| domain | users | items | events | items without text | never bought |",
            "|---|---|---|---|---|---|",
            *rows,
        )
    )


def _quality(content: ReportContent) -> str:
    if not content.intervals:
        return "## Quality\n\nNot measured: there was no held-out event to rank."
    asked = content.held_out
    events = f"{asked.events:,} held-out events of {asked.users:,} users, " if asked else ""
    return "\n".join(
        (
            "## Quality",
            "",
            f"{events}ranked among all items of their domain that the user has not seen; 95% "
            "intervals over users.",
            "",
            "| model | NDCG@10 | HR@10 | lead in NDCG@10 |",
            "|---|---|---|---|",
            *(_interval_row(each) for each in content.intervals),
        )
    )


def _interval_row(row: MetricInterval) -> str:
    lead = "" if row.behind_ours is None else _interval(row.behind_ours, is_signed=True)
    values = f"{_interval(row.ndcg)} | {_interval(row.hit_ratio)} | {lead}"
    return f"| {markdown_text(row.model)} | {values} |"


def _language_model(ablation: AblationFacts | None) -> str:
    if ablation is None or not ablation.findings:
        return ""
    found = [f"- {sentence}" for sentence in ablation.findings]
    measured = (
        f"Measured with smaller models on a sample of {ablation.users:,} of "
        f"{ablation.of_users:,} users:"
    )
    return "\n".join(("## Contribution of the language model", "", measured, "", *found))


def _limits(content: ReportContent) -> str:
    lines = [
        "- Scores are comparable within one domain only.",
        "- Quality is measured offline, on held-out events of the data above, not by reactions of "
        "users to the lists.",
        "- Profiles are written by a language model from titles and may be wrong about a person; "
        "they align the model in training and are not used in scoring.",
    ]
    if content.dummy:
        lines.insert(0, "- **Made with the dummy in place of a language model: for trials only.**")
    return "\n".join(("## Limits", "", *lines))


def _settings(content: ReportContent) -> str:
    cells = (map(markdown_text, setting) for setting in content.settings)
    rows = [f"| {' | '.join(row)} |" for row in cells]
    if not rows:
        return ""
    return "\n".join(("## Settings", "", "| setting | value |", "|---|---|", *rows))


def _interval(values: tuple[float, float, float], *, is_signed: bool = False) -> str:
    value, low, high = map(signed, values) if is_signed else (f"{each:.3f}" for each in values)
    return f"{value} ({low} to {high})"
