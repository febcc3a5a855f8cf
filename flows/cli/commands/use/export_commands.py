"""``llm4cdsr export-recs`` and ``export-model``: recommendations and model as files."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from flows.cli.options.opened_store import opened_store
from flows.cli.options.shared_options import LlmProvider, StoreRoot
from flows.cli.output import terminal
from tasks.serving.export.file_formats import ModelFormat, TableFormat

if TYPE_CHECKING:
    from tasks.serving.export.export_recs import Exported

EXPORT_RECS_EXAMPLES = (
    "Examples:\n\n"
    "llm4cdsr export-recs out --k 50\n\n"
    "llm4cdsr export-recs out --format csv --domains food --since 2026-11-22\n\n"
    "llm4cdsr export-recs out --new-items arrivals.parquet --include-seen"
)
EXPORT_MODEL_EXAMPLES = (
    "Examples:\n\nllm4cdsr export-model out\n\nllm4cdsr export-model out --format onnx"
)

Release = Annotated[str, typer.Option(help="latest, or a release's fingerprint.")]


def export_recs(
    folder: Annotated[
        Path, typer.Argument(help="Output folder; an older export is replaced.", file_okay=False)
    ],
    k: Annotated[int, typer.Option("--k", min=1, help="Items per user and domain.")] = 20,
    exclude_seen: Annotated[
        bool,
        typer.Option("--exclude-seen/--include-seen", help="Exclude items of the user's history."),
    ] = True,
    domains: Annotated[
        list[str] | None, typer.Option(help="Export only this domain; may be repeated.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(help="Export only users with an event at or after this time (UTC)."),
    ] = None,
    new_items: Annotated[
        Path | None,
        typer.Option(help="File of items newer than the model.", exists=True, dir_okay=False),
    ] = None,
    form: Annotated[TableFormat, typer.Option("--format", help="Format of the files.")] = (
        TableFormat.PARQUET
    ),
    provider: LlmProvider = None,
    store: StoreRoot = None,
    release: Release = "latest",
) -> None:
    """Write the top items of every user: one file per domain, export.json with counts.

    Columns: user_id, domain, rank, item_id, title, score. Every item is scored; in domains of over
        200,000 items, candidates from an index are scored exactly.
    """
    from flows.cli.options.new_items_options import new_items_adder
    from tasks.serving.export.export_recs import ExportConfig, export_recommendations
    from tasks.serving.recommender import Recommender

    terminal.show_logs(verbose=False)
    opened = opened_store(store)
    recommender = Recommender.load(opened, release)
    new_items_adder(opened, new_items, provider)(recommender)
    config = ExportConfig(
        k=k,
        exclude_seen=exclude_seen,
        domains=tuple(domains) if domains else None,
        since=since,
        form=form,
    )
    with Progress(console=terminal.err, transient=True) as bars:
        wanted = len(recommender.user_ids) * len(domains or recommender.catalogue.domains)
        bar = bars.add_task("users", total=wanted)
        made = export_recommendations(
            recommender, folder, config, lambda users: bars.advance(bar, users)
        )
    terminal.out.print(_export_table(made))
    if made.users_left_out:
        terminal.out.print(f"{made.users_left_out:,} users without events in that time left out.")
    terminal.say(f"Written: {folder.resolve()}")


def export_model_command(
    folder: Annotated[
        Path, typer.Argument(help="Output folder; files are replaced.", file_okay=False)
    ],
    form: Annotated[
        ModelFormat, typer.Option("--format", help="Graph format; onnx requires the extra 'onnx'.")
    ] = ModelFormat.TORCH,
    store: StoreRoot = None,
    release: Release = "latest",
) -> None:
    """Export the model as a graph from histories of item indices to item scores.

    The graph is kept only if its scores match the model's; items.parquet maps indices to items.
    """
    from tasks.serving.export.export_model import export_model

    made = export_model(opened_store(store), folder, form, release)
    terminal.say(
        f"{made.file}: {', '.join(made.outputs)} from {made.input}; differs from the model by at "
        f"most {made.largest_difference:.1e} over {made.histories} histories.\n"
        f"Written: {folder.resolve()}"
    )


def _export_table(made: "Exported") -> Table:
    columns = ("domain", ">rows", ">items", ">coverage", ">short lists")
    table = terminal.table(f"Release {made.release}, {made.users:,} users", *columns)
    for name, part in made.domains.items():
        table.add_row(
            name,
            f"{part.rows:,}",
            f"{part.items:,}",
            f"{part.coverage:.1%}",
            f"{part.short_lists:,}",
        )
    return table
