"""``llm4cdsr datasets``: lists the built-in data sets and the sources of their raw files."""

from typing import Annotated

import typer
from rich.table import Table

from flows.cli.output import terminal
from tasks.dump.public_datasets import (
    ExpectedCounts,
    PublicDataset,
    dataset_names,
    dataset_text,
    load_public_dataset,
)
from tasks.frame.stage import StageResult

EXAMPLES = (
    "Examples:\n\nllm4cdsr datasets\n\n"
    "llm4cdsr datasets --show cloth-sport > my-pair.toml\n\n"
    "llm4cdsr run --dataset cloth-sport --raw downloads\n\n"
    "llm4cdsr run --dataset my-pair.toml --raw downloads --max-users 3000"
)
UNKNOWN = "unknown"


def datasets(
    show: Annotated[
        str | None, typer.Option(help="Print this data set's TOML file, as a template.")
    ] = None,
) -> None:
    """List the built-in data sets: raw files, sources, periods and cores."""
    if show is not None:
        typer.echo(dataset_text(show), nl=False)
        return
    for name in dataset_names():
        dataset = load_public_dataset(name)
        terminal.out.print(name, style="bold", end=": ")
        terminal.out.print(dataset.about)
        terminal.out.print(_facts(dataset))
    terminal.out.print("Run one: llm4cdsr run --dataset NAME --raw FOLDER-WITH-THE-FILES")


def expectation_table(expected: ExpectedCounts, ingested: StageResult) -> Table:
    """Returns a table of the counts of ingest beside published ones of the same settings."""
    table = terminal.table("Found and expected", "count", "found", "expected")
    for name, count in expected.model_dump().items():
        table.add_row(
            name, f"{ingested.counts[name]:,}", UNKNOWN if count is None else f"{count:,}"
        )
    return table


def _facts(dataset: PublicDataset) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2))
    window = f"{dataset.since or 'the first'} to {dataset.until or 'the last'} day"
    expected = [
        f"{name} {UNKNOWN if count is None else f'{count:,}'}"
        for name, count in dataset.expected.model_dump().items()
    ]
    rows = {
        "files": "\n".join(dataset.raw_files()),
        "from": dataset.source,
        "events": f"{window}; {dataset.user_core}+ of a user, {dataset.item_core}+ of an item",
        "prompts": dataset.language,
        "training": f"{dataset.training.preset} {dataset.training.overrides or ''}".strip(),
        "expected": ", ".join(expected),
    }
    for label, text in rows.items():
        table.add_row(label, text)
    return table
