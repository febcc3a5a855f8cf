"""Commands that start and stop the services of one machine: `llm4cdsr up`, `llm4cdsr down`."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options.opened_store import opened_store
from flows.cli.options.shared_options import StoreRoot
from flows.cli.output import terminal

if TYPE_CHECKING:
    from flows.server.machine import Machine

UP_EXAMPLES = (
    "Examples:\n\nllm4cdsr up\n\nllm4cdsr up --port 4300 --dumps /data/dumps --store /data/store"
)
DOWN_EXAMPLES = "Example:\n\nllm4cdsr down"


def up(
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Port of the Prefect server; by default that of the last `up`, initially 4200.",
        ),
    ] = None,
    dumps: Annotated[
        str | None,
        typer.Option(
            help="Watched folder (or fsspec URL) of dumps; by default LLM4CDSR_DUMPS, else that of "
            "the last `up`, initially `dumps`."
        ),
    ] = None,
    store: StoreRoot = None,
    look_every: Annotated[
        float | None,
        typer.Option(
            min=5,
            help="Seconds between scans of the dumps folder; by default as of the last `up`, "
            "initially 60.",
        ),
    ] = None,
) -> None:
    """Start server, work pool, deployments and worker in the background; idempotent.

    Each dump that arrives in the folder is then processed automatically. The worker uses the LLM
    provider and keys of the current environment.
    """
    from flows.operating import OPERATING
    from flows.server.machine import DEFAULT_LOOK_SECONDS, DEFAULT_PORT, Machine

    terminal.show_logs(verbose=False)
    opened = opened_store(store)
    before, last = Machine(opened).remembered(), Machine(opened).chosen()
    named = OPERATING.dumps if "dumps" in OPERATING.model_fields_set else None
    folder = dumps or (before and before.dumps) or named or (last and last.dumps) or OPERATING.dumps
    if "://" not in folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    kept_port = (before and before.port) or (last and last.port)
    machine = Machine(opened, port or kept_port or DEFAULT_PORT)
    every = look_every or (last and last.look_every) or DEFAULT_LOOK_SECONDS
    kept = machine.start(folder, every)
    for line in (
        f"Prefect UI: {machine.ui_url}",
        f"Login: {_login(machine)}",
        f"Drop dumps into: {folder} (a folder each, with interactions.* and items.*)",
        f"Logs: {machine.folder}/server.log, {machine.folder}/worker.log",
        f"For the prefect command: export PREFECT_API_URL={machine.api_url} "
        f'PREFECT_API_AUTH_STRING="$(cat {quote(str(machine.login_file))})"',
        "Stop: llm4cdsr down",
    ):
        terminal.say(line)
    if kept:
        terminal.say(
            f"Kept as changed in the Prefect UI: {'; '.join(kept)}. Delete a deployment there and "
            "repeat `llm4cdsr up` to have it as in prefect.yaml"
        )


def _login(machine: "Machine") -> str:
    """Returns the credential on a terminal, else the path of its file."""
    if terminal.out.is_terminal:
        return f"{machine.credential} (kept in {machine.login_file})"
    return f"the line in {machine.login_file}"


def down(store: StoreRoot = None) -> None:
    """Stop worker and server; a run in progress ends, and the next run resumes it."""
    from flows.server.machine import Machine

    ended = Machine(opened_store(store)).stop()
    terminal.out.print(f"Stopped: {' and '.join(ended)}." if ended else "Nothing was running.")
