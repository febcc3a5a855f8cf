"""Commands about what is served: `llm4cdsr releases`, `rollback`, `promote`."""

from typing import Annotated

import typer
from rich.table import Table

from artifacts.store import Store
from flows.cli import terminal
from flows.settings import Settings
from tasks.promoting.decisions import history, serving_release
from tasks.promoting.releases import promote as serve_release
from tasks.promoting.releases import release_named, roll_back

RELEASES_EXAMPLE = "Example:\n\nllm4cdsr releases"
ROLLBACK_EXAMPLE = "Example:\n\nllm4cdsr rollback --reason 'too many socks'"
PROMOTE_EXAMPLE = "Example:\n\nllm4cdsr promote 3f2a"

StoreOption = Annotated[str | None, typer.Option(help="Artifact store: a folder or an fsspec URL.")]


def releases(store: StoreOption = None) -> None:
    """List what was promoted, held and rolled back, newest first."""
    terminal.out.print(history_table(_open(store)))


def rollback(
    store: StoreOption = None,
    reason: Annotated[str, typer.Option(help="Kept in the history.")] = "by hand",
) -> None:
    """Serve the release before the one in use; takes effect at once."""
    previous = roll_back(_open(store), reason)
    terminal.out.print(f"Served from now on: {previous.fingerprint} (see `llm4cdsr show`)")


def promote(
    release: Annotated[str, typer.Argument(help="Its fingerprint, or how that begins.")],
    store: StoreOption = None,
    reason: Annotated[str, typer.Option(help="Kept in the history.")] = "by hand",
) -> None:
    """Serve a release, also one that was held; takes effect at once."""
    opened = _open(store)
    chosen = release_named(opened, release)
    serve_release(opened, chosen, reason)
    terminal.out.print(f"Served from now on: {chosen.fingerprint} (see `llm4cdsr show`)")


def history_table(store: Store, newest: int | None = None) -> Table:
    """Returns the decisions about releases, newest first; the one in use is marked."""
    serving = serving_release(store)
    table = Table(title="Releases (UTC, newest first)", title_justify="left")
    for name in ("when", "release", "decision", "why"):
        table.add_column(name, no_wrap=name != "why")
    for entry in list(reversed(history(store)))[:newest]:
        mark = " (in use)" if entry.release == serving else ""
        when = f"{entry.at:%Y-%m-%d %H:%M}"
        table.add_row(when, f"{entry.release.fingerprint}{mark}", entry.decision, entry.reason)
    return table


def _open(store: str | None) -> Store:
    return Store(store or Settings().store)
