"""User ids of a command: arguments, and a file that keeps them out of the shell history."""

import sys
from pathlib import Path
from typing import Annotated

import typer

Users = Annotated[list[str] | None, typer.Argument(help="User ids, as in the input files.")]
IdsFile = Annotated[
    Path | None,
    typer.Option(
        help="File with one id per line, - for standard input; keeps ids out of the shell history."
    ),
]


def given_users(users: list[str] | None, ids: Path | None) -> list[str]:
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
