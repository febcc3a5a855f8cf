"""A group of commands that imports a command's module when it is called, not to list it.

A flow imports Prefect, a model PyTorch: seconds that ``--help`` and the other commands need not
wait for.
"""

from dataclasses import dataclass
from importlib import import_module

import typer
from typer.core import TyperGroup
from typer.main import get_command

HELP_NAMES = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True)
class Listed:
    """A command as its group's help shows it, and where it is.

    ``name`` is of a function, or of a group, in ``module``; ``examples`` of the text below its
    help; ``help`` the first line of its own; ``panel`` the group of commands it is listed in.
    """

    module: str
    name: str
    examples: str | None
    help: str
    panel: str


class LazyGroup(TyperGroup):
    """Lists commands by what `lazy_group` was told of them."""

    listed: dict[str, Listed]

    # Without types: those of Typer's are private.
    def resolve_command(self, ctx, args):  # noqa: ANN001, ANN201
        """Returns the name, the command itself, and the arguments that are left for it."""
        name, command, rest = super().resolve_command(ctx, args)
        found = self.listed.get(name or "")
        return name, imported(found) if found else command, rest


def lazy_group(name: str, help_text: str, commands: dict[str, Listed]) -> typer.Typer:
    """Returns a group of these commands, in this order."""
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
    """Returns the command itself."""
    module = import_module(listed.module)
    found = getattr(module, listed.name)
    if isinstance(found, typer.Typer):
        return get_command(found)
    alone = typer.Typer(add_completion=False, context_settings=HELP_NAMES)
    epilog = getattr(module, listed.examples) if listed.examples else None
    alone.command(epilog=epilog)(found)
    return get_command(alone)


def _stand_in() -> None:
    """Is listed, and never called."""
