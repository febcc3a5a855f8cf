"""Commands that operate everything on one machine: `llm4cdsr up`, `llm4cdsr down`."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.output import terminal

if TYPE_CHECKING:
    from flows.server.machine import Machine

UP_EXAMPLES = (
    "Examples:\n\nllm4cdsr up\n\nllm4cdsr up --port 4300 --dumps /data/dumps --store /data/store"
)
DOWN_EXAMPLE = "Example:\n\nllm4cdsr down"

StoreOption = Annotated[str | None, typer.Option(help="Artifact store: a folder or an fsspec URL.")]


def up(
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Of the Prefect server: as before, until `down`; 4200 at first."
        ),
    ] = None,
    dumps: Annotated[
        str | None,
        typer.Option(
            help="Folder (or fsspec URL) that is watched for dumps: as before, until `down`; "
            "LLM4CDSR_DUMPS at first."
        ),
    ] = None,
    store: StoreOption = None,
    look_every: Annotated[
        float, typer.Option(min=5, help="Seconds between two looks into the dumps folder.")
    ] = 60,
) -> None:
    """Start server, work pool, deployments and worker in the background; safe to repeat.

    From then on a dump dropped into the folder becomes recommendations by itself. Who answers,
    and with which key, is what the environment says now.
    """
    from artifacts.store import Store
    from flows.operating import OPERATING
    from flows.server.machine import DEFAULT_PORT, Machine
    from flows.settings import Settings

    opened = Store(store or Settings().store)
    before = Machine(opened).remembered()
    folder = dumps or (before and before.dumps) or OPERATING.dumps
    if "://" not in folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    machine = Machine(opened, port or (before and before.port) or DEFAULT_PORT)
    machine.start(folder, look_every)
    for line in (
        f"Prefect UI: {machine.ui_url}",
        f"Login: {_login(machine)}",
        f"Drop dumps into: {folder} (a folder each, with interactions.* and items.*)",
        f"Logs: {machine.folder}/server.log, {machine.folder}/worker.log",
        f"For the prefect command: export PREFECT_API_URL={machine.api_url} "
        f'PREFECT_API_AUTH_STRING="$(cat {quote(str(machine.login_file))})"',
        "Stop it all: llm4cdsr down",
    ):
        terminal.out.print(line, soft_wrap=True, highlight=False)


def _login(machine: "Machine") -> str:
    """The credential for a person at a terminal; its place for a log."""
    if terminal.out.is_terminal:
        return f"{machine.credential} (kept in {machine.login_file})"
    return f"the line in {machine.login_file}"


def down(store: StoreOption = None) -> None:
    """Stop worker and server; a run in progress ends, and the next one goes on from there."""
    from artifacts.store import Store
    from flows.server.machine import Machine
    from flows.settings import Settings

    ended = Machine(Store(store or Settings().store)).stop()
    terminal.out.print(f"Stopped: {' and '.join(ended)}." if ended else "Nothing was running.")
