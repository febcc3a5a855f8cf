"""Command group that imports a command's module on call, not for listing.

Flows import Prefect and models PyTorch, which take seconds; ``--help`` and other commands do not
wait for them.
"""

import sys
from dataclasses import dataclass
from importlib import import_module

import typer
from typer.core import TyperGroup
from typer.main import get_command

from flows.cli.output import terminal

HELP_NAMES = {"help_option_names": ["-h", "--help"]}
_USAGE_ERROR = typer.BadParameter.__bases__[0]  # Typer does not export it.


@dataclass(frozen=True)
class Listed:
    """Help line and place of a command.

    ``place``: module below `flows.cli.commands`, and its function or group, as
    ``data.check_command:check``; ``help``: first line of its help; ``panel``: section of the list.
    """

    place: str
    help: str
    panel: str


class LazyGroup(TyperGroup):
    """Lists commands from the table passed to `lazy_group`."""

    listed: dict[str, Listed]

    # Untyped, because Typer's types are private.
    def resolve_command(self, ctx, args):  # noqa: ANN001, ANN201
        """Returns the name, the command, and its remaining arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        found = self.listed.get(name or "")
        return name, imported(found) if found else command, rest

    def main(self, *args, standalone_mode=True, **kwargs):  # noqa: ANN001, ANN201
        """Runs a command; a wrong option is one message that begins with the cause."""
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **kwargs)
        try:
            end = super().main(*args, standalone_mode=False, **kwargs)
        except _USAGE_ERROR as error:  # pyright: ignore[reportGeneralTypeIssues]
            if said := error.format_message():  # None where the help was shown instead.
                terminal.err.print("Not valid:", style="bold red", end=" ")
                terminal.err.print(said, highlight=False)
                if error.ctx is not None:
                    terminal.err.print(f"Help: {error.ctx.command_path} -h", highlight=False)
            sys.exit(error.exit_code)
        except typer.Abort:
            terminal.err.print("Aborted.")
            sys.exit(1)
        sys.exit(end if isinstance(end, int) else 0)


def lazy_group(name: str, help_text: str, commands: dict[str, Listed]) -> typer.Typer:
    """Returns a group of the commands, in the given order."""
    kind = type("ListedCommands", (LazyGroup,), {"listed": commands})
    app = typer.Typer(
        name=name,
        help=help_text,
        cls=kind,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings=HELP_NAMES,
    )
    for command, listed in commands.items():
        app.command(command, help=listed.help, rich_help_panel=listed.panel)(_stand_in)
    return app


def imported(listed: Listed):  # noqa: ANN201
    """Returns the command itself. Its examples are ``NAME_EXAMPLES`` of its module, by the name of
    the function, or ``EXAMPLES``."""
    place, _, name = listed.place.partition(":")
    module = import_module(f"flows.cli.commands.{place}")
    found = getattr(module, name)
    if isinstance(found, typer.Typer):
        return get_command(found)
    own = f"{name.removesuffix('_command').upper()}_EXAMPLES"
    alone = typer.Typer(add_completion=False, context_settings=HELP_NAMES)
    alone.command(epilog=getattr(module, own, getattr(module, "EXAMPLES", None)))(found)
    return get_command(alone)


def _stand_in() -> None:
    """Placeholder in the list, never called."""
