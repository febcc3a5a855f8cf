"""``llm4cdsr show``: shows the served release."""

import typer

from artifacts.bundles import parts_of
from artifacts.kinds.results import REPORT
from flows.cli.commands.upkeep.release_command import history_table
from flows.cli.options.opened_store import opened_store
from flows.cli.options.shared_options import StoreRoot
from flows.cli.output import console, terminal
from tasks.promoting.decisions import serving_release


def show(store: StoreRoot = None) -> None:
    """Show the served release: quality, artifacts, path of the report."""
    opened = opened_store(store)
    release = serving_release(opened)
    if release is None:
        raise typer.BadParameter(f"{opened.root} serves nothing yet; run `llm4cdsr run` first")
    parts = parts_of(opened, release)
    terminal.out.print(*console.metric_tables(opened, parts["metrics"]), sep="\n")
    for note in opened.manifest(release).notes:
        terminal.out.print(console.note_line(note))
    for role, ref in parts.items():
        place = opened.path(ref) / REPORT if role == "report" else opened.path(ref)
        terminal.say(f"{role:16} {place}")
    terminal.out.print(history_table(opened, newest=5))
