"""``llm4cdsr forget``: removes users from a store."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows.cli.options.shared_options import StoreRoot
from flows.cli.output import terminal

EXAMPLES = (
    "Examples:\n\n"
    "llm4cdsr forget u1742 u1743\n\n"
    "llm4cdsr forget --ids leavers.txt\n\n"
    "cat leavers.txt | llm4cdsr forget --ids -"
)


def forget_command(
    users: Annotated[
        list[str] | None, typer.Argument(help="User ids, as in the input files.")
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(
            help="File with one id per line, - for standard input; keeps ids out of the shell "
            "history."
        ),
    ] = None,
    store: StoreRoot = None,
) -> None:
    """Remove users from data sets, profiles, lists, reports, the ledger and dump copies.

    Keyed hashes of their ids are kept, so that later dumps do not add them again.
    """
    from artifacts.store import Store
    from flows.settings import Settings
    from tasks.forgetting.forget import NOT_REMOVED, forget

    terminal.show_logs(verbose=False)
    wanted = [*(users or ()), *_listed(ids)]
    if not wanted:
        raise typer.BadParameter("name at least one user, or a file by --ids")
    root = store or Settings().store
    if "://" not in root and not Path(root).is_dir():
        raise typer.BadParameter(f"there is no store at {root}; name one by --store")
    removed = forget(Store(root), wanted)
    table = Table(title="Removed", title_justify="left")
    table.add_column("what")
    table.add_column("count", justify="right")
    for what, count in removed.counts.items():
        table.add_row(what.replace("_", " "), f"{count:,}")
    if removed.counts:
        terminal.out.print(table)
    found = len(removed.users & set(wanted))
    terminal.out.print(
        f"{found:,} of {len(set(wanted)):,} were in a dataset of this store. All are remembered as "
        "keyed hashes: ingest drops them from every later dump, counted as 'forgotten user'."
    )
    terminal.out.print("Not removed:")
    for each in NOT_REMOVED:
        terminal.out.print(f"- {each}", soft_wrap=True)


def _listed(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read ({error.strerror})") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
