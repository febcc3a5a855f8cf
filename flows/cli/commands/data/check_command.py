"""``llm4cdsr check``: validates input files without a Prefect server or an LLM."""

import shlex
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from flows.cli.options.option_classes import DumpOptions, Only, with_fields

EXAMPLES = (
    "Examples:\n\nllm4cdsr check events.csv items.csv\n\n"
    "llm4cdsr check 'events/*.parquet' items.parquet --column customer=user_id"
)


@with_fields
def check(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders or patterns, in any order; recognised by their headers."
        ),
    ],
    read: Annotated[DumpOptions, Only("column", "domain", "where", "user_core", "item_core")],
) -> None:
    """Validate input files: rows, domains, users, period, sufficiency for a model.

    Exit status 2 if the files do not suffice; the first line then states the cause.
    """
    from artifacts.kinds.dataset import read_dataset
    from artifacts.store import Store
    from flows.cli.options import configurations as made
    from flows.cli.output import terminal
    from flows.cli.output.dump_facts import domain_table, file_table
    from tasks.dump.naming.sorted_files import sorted_files
    from tasks.dump.trainable import require_trainable
    from tasks.ingest import ingested
    from tasks.promoting.baseline_lead import FEWEST

    interactions, items = sorted_files(files, made.renaming(read.column))
    dump = made.dump_config(replace(read, interactions=list(interactions), items=list(items)))
    made.require_headers(dump)
    with TemporaryDirectory(prefix="llm4cdsr-check-") as folder:
        store = Store(folder)
        result = ingested(dump, store)
        data = read_dataset(store, result.ref)
        terminal.out.print(file_table(store, result.ref))
        terminal.out.print(domain_table(data))
        for note in sorted(result.notes):
            terminal.out.print(f"Note: {note}")
        require_trainable(data)
        if (measured := int(result.counts["test_events"])) < FEWEST:
            terminal.out.print(
                f"Note: {measured:,} held-out events are too few to compare the model with "
                f"baselines: {FEWEST} are needed",
            )
    named = [("--interactions", path) for path in interactions]
    named += [("--items", path) for path in items]
    for name in ("column", "domain", "where"):
        named += [(f"--{name}", value) for value in getattr(read, name) or ()]
    command = shlex.join(["llm4cdsr", "run", *(part for pair in named for part in pair)])
    terminal.say(f"The data suffice for a model: {command}")
