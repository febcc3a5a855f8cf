"""Commands of local LLM servers: ``llm4cdsr serve`` and ``setup-local``."""

import signal
import socket
import threading
from typing import Annotated

import typer

from flows.cli.output import terminal

SERVE_EXAMPLES = "Examples:\n\nllm4cdsr serve\n\nllm4cdsr serve --dummy --port 8300"
SETTING_PREFIX = {"chat": "LLM4CDSR_CHAT", "embedding": "LLM4CDSR_EMBED"}


def serve(
    dummy: Annotated[
        bool, typer.Option("--dummy", help="Run the dummy: no model, no installation.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the dummy.")] = 8300,
) -> None:
    """Run the local vLLM servers (or the dummy) until Ctrl-C; prints their URLs."""
    from artifacts.ledger.answers import Role
    from artifacts.store import Store
    from flows.settings import Settings
    from tasks.llm.providers import dummy_endpoint, dummy_models
    from tasks.llm.providers.endpoints import local_pair

    terminal.show_logs(verbose=False)
    if dummy:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise typer.BadParameter(f"port {port} is taken; choose another with --port")
        url = f"http://127.0.0.1:{port}/v1"
        _print_url("chat", url, dummy_models.CHAT_MODEL)
        _print_url("embedding", url, dummy_models.EMBEDDING_MODEL)
        dummy_endpoint.serve("127.0.0.1", port)
        return
    settings = Settings()
    logs = Store(settings.store).workspace("logs")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with local_pair(settings.local_vllm, logs, settings.local_vllm_gpu_python) as pair:
        pair.start()
        for role in Role:
            _print_url(role, pair.base_url(role), pair.model_name(role))
        stop.wait()


def setup_local() -> None:
    """Install the local vLLM servers and their models (4 GB)."""
    from flows.settings import Settings
    from tasks.frame.stage import logger
    from tasks.llm.providers.local_setup import ensure_local_environment

    terminal.show_logs(verbose=False)
    environment = ensure_local_environment(Settings().local_vllm, report=logger.info)
    terminal.out.print(f"ready: {environment.directory}")


def _print_url(role: str, url: str, model: str) -> None:
    variable = SETTING_PREFIX[role]
    line = f"{variable}_BASE_URL={url} {variable}_MODEL={model}"
    terminal.say(line)
