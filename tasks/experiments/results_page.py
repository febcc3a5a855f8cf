"""Results of an experiment as Markdown and as one self-contained HTML file."""

from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from tasks.experiments.numbers import ResultTable
from tasks.experiments.results_tables import DatasetSection
from tasks.reporting.page import TEMPLATES, page_environment
from tasks.reporting.plots import Plot


@dataclass(frozen=True)
class ExperimentContent:
    """Content of page and Markdown; all texts are untrusted and escaped."""

    title: str
    command: str
    created: datetime
    done: int
    cells: int
    notes: tuple[str, ...]
    sections: tuple[tuple[DatasetSection, tuple[Plot, ...]], ...]
    settings: tuple[tuple[str, str], ...]


def render_markdown(content: ExperimentContent) -> str:
    """Returns the tables as GitHub's Markdown."""
    lines = [f"# {_plain(content.title)}", ""]
    lines += [f"Made by `{content.command}`; manual changes are overwritten.", ""]
    lines += [f"**{content.done:,} of {content.cells:,} cells are done.**", ""]
    lines += [line for note in content.notes for line in (f"- {_plain(note)}",)] + [""]
    for section, _ in content.sections:
        lines += [f"## {_plain(section.dataset)}", ""]
        lines += [line for fact in section.facts for line in (_plain(fact), "")]
        for table in section.tables:
            lines += _markdown_table(table)
    if content.settings:
        lines += ["## Settings", ""]
        lines += [f"- {_plain(name)}: `{value}`" for name, value in content.settings]
    return "\n".join(lines).rstrip() + "\n"


def render_page(content: ExperimentContent) -> str:
    """Returns the page, which has no script."""
    style = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))
    template = page_environment().get_template("experiment.html.j2")
    return template.render(content=content, style=style)


def _markdown_table(table: ResultTable) -> list[str]:
    rule = ["---", *["---:"] * (len(table.columns) - 1)]
    rows = [table.columns, rule, *table.rows]
    body = [f"| {' | '.join(map(_plain, row))} |" for row in rows]
    return [f"### {_plain(table.caption)}", "", _plain(table.note), "", *body, ""]


def _plain(text: str) -> str:
    """Returns a name without characters that break tables or start markup."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
