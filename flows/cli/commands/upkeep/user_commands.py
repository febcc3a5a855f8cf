"""Commands about users by their ids: ``llm4cdsr forget`` and ``shown-users``.

Ids are arguments, or in a file that keeps them out of the shell history.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options.opened_store import existing_store
from flows.cli.options.shared_options import StoreRoot
from flows.cli.output import terminal

FORGET_EXAMPLES = (
    "Examples:\n\n"
    "llm4cdsr forget u1742 u1743\n\n"
    "llm4cdsr forget --ids leavers.txt\n\n"
    "cat leavers.txt | llm4cdsr forget --ids -"
)
SHOWN_USERS_EXAMPLES = (
    "Examples:\n\nllm4cdsr shown-users u1742\n\nllm4cdsr shown-users --ids - < ids.txt"
)

Users = Annotated[list[str] | None, typer.Argument(help="User ids, as in the input files.")]
IdsFile = Annotated[
    Path | None,
    typer.Option(
        help="File with one id per line, - for standard input; keeps ids out of the shell history."
    ),
]


def forget_command(users: Users = None, ids: IdsFile = None, store: StoreRoot = None) -> None:
    """Remove users from data sets, profiles, lists, reports, the ledger and dump copies.

    Keyed hashes of their ids are kept, so that later dumps do not add them again. Without ids, an
    interrupted removal is completed.
    """
    from artifacts.forgotten import is_interrupted
    from tasks.forgetting.forget import NOT_REMOVED, IncompleteRemovalError, forget

    terminal.show_logs(verbose=False)
    opened = existing_store(store)
    is_late = not users and ids is None and is_interrupted(opened)
    wanted = [] if is_late else _given_users(users, ids)
    try:
        removed = forget(opened, wanted)
    except IncompleteRemovalError as error:
        removed = error.removed
        terminal.say(f"Not complete: {error}")
    if is_late and not removed.left:
        terminal.out.print("The interrupted removal is complete.")
        return
    table = terminal.table("Removed", "what", ">count")
    for what, count in removed.counts.items():
        table.add_row(what.replace("_", " "), f"{count:,}")
    if removed.counts:
        terminal.out.print(table)
    found = len(removed.users & set(wanted))
    terminal.out.print(
        f"{found:,} of {len(set(wanted)):,} were in a dataset of this store. Their ids are kept "
        "as keyed hashes: ingest drops them from later dumps, counted as 'forgotten user'."
    )
    terminal.out.print("Not removed:")
    for place, reason in removed.left.items():
        terminal.say(f"- {place}: {reason}")
    for each in NOT_REMOVED:
        terminal.say(f"- {each}")
    if removed.left:
        raise typer.Exit(1)


def shown_users_command(users: Users = None, ids: IdsFile = None, store: StoreRoot = None) -> None:
    """Print the hashed names of users (LLM4CDSR_SHOWN_USERS=hashed), one per line.

    A store uses one name per user in reports, logs, terminal output and the page.
    """
    from artifacts.shown_users import hashed_users

    wanted = _given_users(users, ids)
    hashed = hashed_users(existing_store(store))
    for user in wanted:
        terminal.out.print(hashed.name(user), highlight=False)


def _given_users(users: list[str] | None, ids: Path | None) -> list[str]:
    """Returns the ids of both; raises BadParameter without any."""
    given = [*(users or ()), *_listed(ids)]
    if not given:
        raise typer.BadParameter("name at least one user, or a file by --ids")
    return given


def _listed(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read ({error.strerror})") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
