"""Commands of releases: `llm4cdsr releases`, `show`, `rollback`, `promote`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import polars as pl
import typer
from rich.table import Table

from artifacts import columns as col
from artifacts.bundles import parts_of
from artifacts.integrity import ArtifactError
from artifacts.kinds.dataset import EVENTS
from artifacts.kinds.results import REPORT, overall_ndcg
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from flows.cli.options.opened_store import opened_store
from flows.cli.options.shared_options import StoreRoot
from flows.cli.output import terminal
from flows.settings import Settings
from tasks.promoting.promotion import promote as serve_release
from tasks.promoting.promotion import release_named, roll_back
from tasks.promoting.release_history import history, serving_release
from tasks.tracking.mlflow_releases import follow_serving

RELEASES_EXAMPLES = "Example:\n\nllm4cdsr releases"
ROLLBACK_EXAMPLES = "Example:\n\nllm4cdsr rollback --reason 'too many socks'"
PROMOTE_EXAMPLES = "Example:\n\nllm4cdsr promote 3f2a"


def releases(store: StoreRoot = None) -> None:
    """List promoted, held and rolled-back releases, newest first."""
    terminal.out.print(history_table(opened_store(store)))


def show(store: StoreRoot = None) -> None:
    """Show the served release: quality, artifacts, path of the report."""
    from flows.cli.output import console  # Imports the facts of a report.

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


def rollback(
    store: StoreRoot = None,
    reason: Annotated[str, typer.Option(help="Reason, recorded in the history.")] = "by hand",
) -> None:
    """Serve the previously served release; takes effect immediately."""
    previous = roll_back(opened_store(store), reason)
    follow_serving(previous, Settings().mlflow_uri)
    terminal.out.print(f"Served from now on: {previous.fingerprint} (see `llm4cdsr show`)")


def promote(
    release: Annotated[
        str,
        typer.Argument(
            help="Fingerprint of the release, or a prefix of it.",
            autocompletion=lambda incomplete: completed_release(incomplete),
        ),
    ],
    store: StoreRoot = None,
    reason: Annotated[str, typer.Option(help="Reason, recorded in the history.")] = "by hand",
) -> None:
    """Serve a release, including a held one; takes effect immediately."""
    opened = opened_store(store)
    chosen = release_named(opened, release)
    serve_release(opened, chosen, reason)
    follow_serving(chosen, Settings().mlflow_uri)
    terminal.out.print(f"Served from now on: {chosen.fingerprint} (see `llm4cdsr show`)")


def history_table(store: Store, newest: int | None = None) -> Table:
    """Returns a table of the promotion decisions, newest first; the served release is marked."""
    serving = serving_release(store)
    columns = ("decided", "release", "made", "data until", "quality", "decision", "why")
    table = terminal.table("Releases (UTC, newest first)", *columns)
    table.columns[1].no_wrap = True
    for entry in list(reversed(history(store)))[:newest]:
        mark = " (in use)" if entry.release == serving else ""
        when = f"{entry.at:%Y-%m-%d %H:%M}"
        release = f"{entry.release.fingerprint}{mark}"
        table.add_row(when, release, *_made_of(store, entry.release), entry.decision, entry.reason)
    return table


def figure_of(store: Store, parts: Mapping[str, ArtifactRef]) -> str:
    """Returns the NDCG@10 of a release on its held-out events as text."""
    value = overall_ndcg(store, parts["metrics"]) if "metrics" in parts else None
    return "not measured" if value is None else f"NDCG@10 {value:.4f}"


def completed_release(incomplete: str) -> list[str]:
    """Returns the fingerprints of releases for shell completion."""
    decided = history(opened_store(None))
    known = dict.fromkeys(entry.release.fingerprint for entry in reversed(decided))
    return [name for name in known if name.startswith(incomplete)]


def _made_of(store: Store, release: ArtifactRef) -> tuple[str, str, str]:
    """Returns creation time, day of the latest event and quality of a release; "gone" if its
    artifacts were deleted."""
    try:
        made = store.manifest(release).created
        parts = parts_of(store, release)
        until = _latest_day(store, parts["dataset"]) if "dataset" in parts else ""
        return f"{made:%Y-%m-%d %H:%M}", until, figure_of(store, parts)
    except ArtifactError:
        return "gone", "", ""


def _latest_day(store: Store, dataset: ArtifactRef) -> str:
    events = pl.scan_ipc(store.path(dataset) / EVENTS)
    latest = events.select(pl.col(col.TIMESTAMP).max()).collect().item()
    return "" if latest is None else f"{datetime.fromtimestamp(latest, UTC):%Y-%m-%d}"
