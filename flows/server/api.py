"""Gives a flow a Prefect API: the configured one, or a server of our own for the run's time.

Prefect's temporary server ends with alarming traces when a run is short. A server of our own
keeps its log in a file, has a UI to watch the run in, and ends with us. Its credential lives in
the memory and environment of the processes alone, and is shown on a terminal, not in a log.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.server.closed_app import HOST, server_command, server_variables
from flows.server.credential import new_credential
from tasks.frame.stderr_console import TERMINAL
from tasks.system.free_port import free_port
from tasks.system.guarded_process import GuardedProcess

STARTUP_SECONDS = 90
POLL_SECONDS = 0.2
STOP_GRACE_SECONDS = 3.0

logger = logging.getLogger("llm4cdsr")


class PrefectServerFailed(RuntimeError):
    """Our own Prefect server did not come up."""


@contextmanager
def prefect_api(log: Path) -> Iterator[str]:
    """Gives the URL of the API that runs are recorded with.

    Raises:
        PrefectServerFailed: no API is configured and a server of our own did not start.
    """
    configured = PREFECT_API_URL.value()
    if configured:
        yield configured
        return
    # Not Prefect's usual 4200, which is for servers that stay: two runs that start at once would
    # both find it free, and one would record with the other's server.
    port, credential = free_port(), new_credential()
    server = GuardedProcess(
        server_command(port),
        {**os.environ, **server_variables(credential, port)},
        log,
        STOP_GRACE_SECONDS,
    )
    try:
        url = f"http://{HOST}:{port}/api"
        _wait_for(url, server, log)
        # A log may be read by others; a terminal is its user's.
        login = f", login {credential}" if TERMINAL.is_terminal else ""
        logger.info("Prefect UI while this runs: http://%s:%d%s", HOST, port, login)
        with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: credential}):
            yield url
    finally:
        # What is still queued would otherwise meet a server that is gone.
        APILogWorker.drain_all(timeout=STOP_GRACE_SECONDS)
        EventsWorker.drain_all(timeout=STOP_GRACE_SECONDS)
        server.stop()


def _wait_for(url: str, server: GuardedProcess, log: Path) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline and server.running:
        try:
            if httpx.get(f"{url}/health", timeout=2).is_success:
                return
        except httpx.TransportError:
            time.sleep(POLL_SECONDS)
    raise PrefectServerFailed(
        f"the Prefect server did not start; its log is {log}. Set PREFECT_API_URL to use a "
        "server that runs elsewhere"
    )
