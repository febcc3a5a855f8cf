"""Rendering of the report as one self-contained HTML file.

Charts are inline SVG. Script and styles are inlined, and a content security policy allows only this
script, by hash, so that unescaped text would not be executed.
"""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tasks.frame.stage import RunFacts
from tasks.reporting.facts.content import LEARNING_COLUMNS, ReportContent
from tasks.reporting.facts.metrics import (
    NO_VALUE,
    Headline,
    MetricTable,
    format_score,
    headlines,
    hit_ratio_margin,
    metric_table,
)
from tasks.reporting.plots import (
    Plot,
    answers_plot,
    concentration_plot,
    domain_colours,
    drift_plot,
    history_plot,
    item_map_plot,
    learning_plot,
    models_plot,
    releases_plot,
)
from tasks.reporting.summary import key_numbers, summary_sentences

TEMPLATES = Path(__file__).parent / "templates"
LONGEST_TITLE = 140
_NEGATIVE = re.compile(r"(?<![^\s(])-(?=\d)")
_MILLIONS = re.compile(r"(?i)(?<![\d.a-z])(\d+m|0?\.\d+b)(?![a-z])")


def render_report(content: ReportContent) -> str:
    """Return the whole page; every text of `content` is escaped."""
    found = () if content.metrics is None else headlines(content.metrics)
    plots, facts = _plots(content), RunFacts(content.stages)
    page_script = (TEMPLATES / "report_page.js").read_text(encoding="utf-8")
    template = page_environment().get_template("report.html.j2")
    return template.render(
        content=content,
        is_small_model=is_small_model(content.chat_model),
        summary=summary_sentences(content, found),
        key_numbers=key_numbers(content, found),
        tables=_tables(content),
        margin=_margin(content, found),
        last_events=_only_last_events(content),
        learning_rows=_learning_rows(content),
        plots={plot.name: plot for plot in plots},
        colours=_colours(content),
        asking=facts.asking,
        usage=facts.usage,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        page_script=Markup(page_script),
        script_hashes=Markup(csp_hash(page_script)),
    )


def is_small_model(name: str | None) -> bool:
    """Returns whether a model's name contains a size below a billion parameters."""
    return bool(_MILLIONS.search(name or ""))


def format_duration(seconds: float) -> str:
    """Return a length of time in its two largest units, such as '3 min 12 s'."""
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds >= 0.05 else "under 0.1 s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _tables(content: ReportContent) -> dict[str, MetricTable | None]:
    metrics = content.metrics
    if metrics is None:
        return {"full": None, "sampled": None, "groups": None}
    return {
        "full": metric_table(metrics, "full", "domain"),
        "sampled": metric_table(metrics, "sampled", "domain"),
        "groups": metric_table(metrics, "full", "group"),
    }


def _plots(content: ReportContent) -> list[Plot]:
    data, curve, item_map = content.dataset, content.learning_curve, content.item_map
    plots = (
        None if data is None else history_plot(data.history_lengths),
        None if curve is None else learning_plot(curve),
        None if item_map is None else item_map_plot(item_map),
        models_plot(content.intervals),
        releases_plot(content.releases),
        None if content.drift is None else drift_plot(content.drift),
        answers_plot(content.answers),
        concentration_plot(content.concentration),
    )
    return [plot for plot in plots if plot is not None]


def _colours(content: ReportContent) -> dict[str, int]:
    names = {name for cluster in content.clusters for name in cluster.domain_shares}
    if content.item_map is not None:
        names.update(content.item_map["domain"].drop_nulls())
    return domain_colours(names)


def _learning_rows(content: ReportContent) -> list[tuple[str, ...]]:
    if content.learning_curve is None:
        return []
    return [
        (
            f"{epoch:,}",
            format_score("loss", loss),
            format_score("NDCG", ndcg),
            format_score("HR", hit_ratio),
            format_duration(seconds),
        )
        for epoch, loss, ndcg, hit_ratio, seconds in content.learning_curve.sort("epoch")
        .select(LEARNING_COLUMNS)
        .iter_rows()
    ]


def _margin(content: ReportContent, found: tuple[Headline, ...]) -> str | None:
    if not found or not found[0].metric.startswith("HR"):
        return None
    if not _only_last_events(content):
        return None  # Events of one user are correlated; intervals over users are shown below.
    return f"±{hit_ratio_margin(found[0].ours, found[0].targets) * 100:.1f} percentage points"


def _only_last_events(content: ReportContent) -> bool:
    return content.held_out is None or content.held_out.is_last_events


@cache
def page_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda value: f"{value:,}",
        "percent": lambda value: NO_VALUE if value is None else f"{value:.1%}",
        "duration": format_duration,
        "short": _short,
        "number": _number,
        "interval": _interval,
        "percent_interval": lambda values: _interval(values, ".1%"),
        "signed_interval": lambda values: _minus(_interval(values, "+.3f")),
        "minus": _minus,
    }
    return environment


def _short(text: str, longest: int = LONGEST_TITLE) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _number(value: float | None) -> str:
    if value is None:
        return NO_VALUE
    return f"{value:,}" if float(value).is_integer() else f"{value:.4f}"


def _interval(values: tuple[float, float, float], form: str = ".3f") -> str:
    value, low, high = (format(each, form) for each in values)
    return f"{value} ({low} to {high})"


def _minus(text: str) -> str:
    """Returns a text whose negative numbers have a minus sign, at which no line breaks."""
    return _NEGATIVE.sub("\N{MINUS SIGN}", text)


def csp_hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
