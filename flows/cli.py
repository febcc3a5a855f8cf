"""The command line: ``llm4cdsr --help``."""

import signal
import socket
import threading
from pathlib import Path
from typing import Annotated

import typer

from artifacts.results import REPORT
from artifacts.store import Store
from flows import (
    console,
    export_commands,
    machine_command,
    release_command,
    run_commands,
    train_command,
)
from flows.datasets_command import EXAMPLES as DATASETS_EXAMPLES
from flows.datasets_command import datasets
from flows.exits import one_message
from flows.experiment_command import EXAMPLES as EXPERIMENT_EXAMPLES
from flows.experiment_command import experiment
from flows.ledger_command import ledger_app
from flows.options import StoreRoot
from flows.serve_recs_command import EXAMPLES as SERVE_RECS_EXAMPLES
from flows.serve_recs_command import serve_recs
from flows.settings import Settings
from tasks import dummy_endpoint
from tasks.bundle import SERVING, parts_of
from tasks.demo_dump import write_demo_dump
from tasks.endpoints import local_pair
from tasks.local_setup import ensure_local_environment
from tasks.local_vllm import ROLES
from tasks.stage import logger

SETTING_PREFIX = {"chat": "LLM4CDSR_CHAT", "embedding": "LLM4CDSR_EMBED"}

app = typer.Typer(
    name="llm4cdsr",
    help="Next-item recommendations across domains, with items and users understood by an LLM.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=run_commands.RUN_EXAMPLES)(run_commands.run)
app.command("refresh", epilog=run_commands.REFRESH_EXAMPLES)(run_commands.refresh_command)
app.command("retrain", epilog=run_commands.RETRAIN_EXAMPLES)(run_commands.retrain_command)
app.command(epilog=DATASETS_EXAMPLES)(datasets)
app.command(epilog=train_command.EXAMPLES)(train_command.train)
app.command(epilog=EXPERIMENT_EXAMPLES)(experiment)
app.command("serve-recs", epilog=SERVE_RECS_EXAMPLES)(serve_recs)
app.add_typer(ledger_app, name="ledger")
release_command.register(app)
machine_command.register(app)

app.command("export-recs", epilog=export_commands.RECS_EXAMPLES)(export_commands.export_recs)
app.command("export-model", epilog=export_commands.MODEL_EXAMPLES)(
    export_commands.export_model_command
)


@app.command(epilog="Example:\n\nllm4cdsr demo-dump demo --seed 8")
def demo_dump(
    directory: Annotated[Path, typer.Argument(help="Where the two files are written.")],
    seed: Annotated[int, typer.Option(min=0, help="A new seed gives new users and items.")] = 7,
    users: Annotated[int, typer.Option(min=10, help="Users.")] = 400,
    items: Annotated[int, typer.Option(min=48, help="Items of both shops.")] = 600,
) -> None:
    """Write the dump of two made-up shops, as a shop would export it."""
    written = write_demo_dump(directory, seed=seed, users=users, items=items)
    console.out.print(
        f"{written.event_count:,} events of {written.user_count:,} users on "
        f"{written.item_count:,} items:\n  {written.interactions}\n  {written.items}"
    )


@app.command(
    epilog="Examples:\n\nllm4cdsr serve\n\nllm4cdsr serve --dummy --port 8300",
)
def serve(
    dummy: Annotated[
        bool, typer.Option("--dummy", help="The dummy endpoint: no model, no install.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the dummy endpoint.")] = 8300,
) -> None:
    """Start the local vLLM pair (or the dummy endpoint) and print the URLs, until Ctrl-C."""
    console.show_logs(verbose=False)
    if dummy:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise typer.BadParameter(f"port {port} is taken; choose another with --port")
        url = f"http://127.0.0.1:{port}/v1"
        _print_url("chat", url, dummy_endpoint.CHAT_MODEL)
        _print_url("embedding", url, dummy_endpoint.EMBEDDING_MODEL)
        dummy_endpoint.serve("127.0.0.1", port)
        return
    settings = Settings()
    logs = Store(settings.store).workspace("logs")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with local_pair(settings.local_vllm, logs) as pair:
        pair.start()
        for role in ROLES:
            _print_url(role, pair.base_url(role), pair.model_name(role))
        stop.wait()


@app.command()
def setup_local() -> None:
    """Install the local vLLM pair and its models now, not on the first run (3.4 GB)."""
    console.show_logs(verbose=False)
    environment = ensure_local_environment(Settings().local_vllm, report=logger.info)
    console.out.print(f"ready: {environment.directory}")


@app.command()
def show(
    store: StoreRoot = None,
) -> None:
    """Show what is served now: quality, artifacts, where the report lies."""
    opened = Store(store or Settings().store)
    release = opened.pointed(SERVING)
    if release is None:
        raise typer.BadParameter(f"{opened.root} serves nothing yet; run `llm4cdsr run` first")
    parts = parts_of(opened, release)
    console.out.print(console.metric_table(opened, parts["metrics"]))
    for note in opened.manifest(release).notes:
        console.out.print(f"[bold yellow]Note:[/] {note}.")
    for role, ref in parts.items():
        place = opened.path(ref) / REPORT if role == "report" else opened.path(ref)
        console.out.print(f"{role:16} {place}", soft_wrap=True, highlight=False)
    console.out.print(release_command.history_table(opened, newest=5))


def run_app() -> None:
    """Runs the app; see `flows.exits` for how it ends."""
    with one_message():
        app()


def _print_url(role: str, url: str, model: str) -> None:
    variable = SETTING_PREFIX[role]
    line = f"{variable}_BASE_URL={url} {variable}_MODEL={model}"
    console.out.print(line, soft_wrap=True, highlight=False)
