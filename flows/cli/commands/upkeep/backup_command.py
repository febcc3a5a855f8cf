"""``llm4cdsr backup`` and ``llm4cdsr restore``: a store and its Prefect database in one file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options.opened_store import existing_store, opened_store
from flows.cli.options.shared_options import StoreRoot
from flows.cli.output import terminal

if TYPE_CHECKING:
    from artifacts.store import Store

BACKUP_EXAMPLES = (
    "Examples:\n\n"
    "llm4cdsr backup /backups             # a new file, named by the time\n\n"
    "llm4cdsr backup /backups/last.tar    # replaces the file when complete\n\n"
    "Exit status 1: a damaged artifact is not in the backup; the next run makes it again."
)
RESTORE_EXAMPLES = (
    "Examples:\n\n"
    "llm4cdsr restore /backups/last.tar --check\n\n"
    "llm4cdsr restore /backups/last.tar --store /data/store\n\n"
    "llm4cdsr down; llm4cdsr restore /backups/last.tar --replace; llm4cdsr up"
)
DAMAGED = 1


def backup(
    file: Annotated[
        Path,
        typer.Argument(help="File of the backup, or an existing folder for a file named by time."),
    ],
    store: StoreRoot = None,
) -> None:
    """Write a store and the Prefect database of `up` to one file; safe beside runs.

    The file contains personal data, the key of hashed user ids, and the Secret blocks of the
    Prefect server; its mode is 0600. For a remote store, it contains the Prefect database only.
    """
    from tasks.upkeep.backup import back_up, size_of
    from tasks.upkeep.backup_file import about_of

    terminal.show_logs(verbose=False)
    opened = existing_store(store)
    if file.is_dir():
        file /= f"llm4cdsr-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar"
    elif file.exists():
        if not file.is_file():
            raise typer.BadParameter(f"{file} is neither a file nor a folder")
        about_of(file)  # Another file is not replaced.
    if not file.parent.is_dir():
        raise typer.BadParameter(f"{file.parent} is no folder")
    with _bar("backup", size_of(opened)) as on_bytes:
        made = back_up(opened, file, on_bytes)
    prefect = "the Prefect database" if made.has_prefect else "no Prefect database (`up` made none)"
    terminal.say(
        f"{file}: {made.artifacts:,} artifacts and {prefect}; {made.files:,} files, "
        f"{made.bytes / 1e6:,.1f} MB"
    )
    if opened.remote is not None:
        terminal.say(
            f"Artifacts, ledger and decisions are in {opened.root} only: back it up separately."
        )
    for fault in made.damaged:
        terminal.say(fault, "Not in the backup:")
    if made.damaged:
        raise typer.Exit(DAMAGED)


def restore(
    file: Annotated[Path, typer.Argument(help="File of `llm4cdsr backup`.", dir_okay=False)],
    store: StoreRoot = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Replace the store's content, kept in set-aside/ for a week."
        ),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check every file of the backup; restore nothing.")
    ] = False,
) -> None:
    """Restore a backup into a new store, or into one whose content is set aside.

    Users that the store has forgotten since the backup are removed again. An unchanged run on the
    restored store sends no prompt.
    """
    from tasks.upkeep.backup_file import about_of
    from tasks.upkeep.restore import check_backup
    from tasks.upkeep.restore import restore as restored

    terminal.show_logs(verbose=False)
    if not file.is_file():
        raise typer.BadParameter(f"there is no file {file}")
    about = about_of(file)
    of = f"{about.store} of {about.made:%Y-%m-%d %H:%M} UTC"
    with _bar("restore", file.stat().st_size) as on_bytes:
        if check:
            count = check_backup(file, on_bytes)
            terminal.say(f"{file} is complete: {count:,} files of {of}")
            return
        opened = opened_store(store)
        _refuse_running(opened)
        done = restored(opened, file, replace=replace, on_bytes=on_bytes)
    terminal.say(f"{opened.root} is restored: {done.files:,} files of {of}")
    if done.is_due:
        from tasks.forgetting.forget import forget

        people = len(forget(opened, []).users)
        terminal.say(f"Users who were forgotten after the backup are removed from it: {people:,}")
    if done.aside is not None and done.aside.exists():  # A removal deletes it.
        terminal.say(
            f"Former content: {done.aside}, until `store gc` in a week or the next `forget`"
        )
    if opened.remote is None:
        terminal.say(
            f"Repeat `llm4cdsr forget` for every user that was forgotten after "
            f"{about.made:%Y-%m-%d %H:%M} UTC in a store that is lost: the backup has their data."
        )
    terminal.say(
        "Next: `llm4cdsr show` for the served release, `llm4cdsr up` for server and worker"
    )


def _refuse_running(store: "Store") -> None:
    """Raises `StoreInUseError` if services of `up` run on the store."""
    from artifacts.remote.remote_runs import StoreInUseError
    from flows.server.machine import Machine

    if running := Machine(store).running():
        raise StoreInUseError(
            f"the {' and '.join(running)} of `llm4cdsr up` use {store.root}; run `llm4cdsr down`, "
            "then restore"
        )


@contextmanager
def _bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar on a terminal; yields the function that advances it by bytes."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=terminal.err,
        transient=True,
        disable=not terminal.err.is_terminal,
    ) as shown:
        task = shown.add_task(label, total=total)
        yield lambda count: shown.advance(task, count)
