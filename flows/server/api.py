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
from urllib.parse import urlsplit

import httpx
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from artifacts.user_error import UserError
from flows.server.closed_app import HOST, server_command, server_variables
from flows.server.credential import new_credential
from tasks.frame.prefect_link import DEADLINE_SECONDS, Link, watched
from tasks.frame.stderr_console import TERMINAL
from tasks.llm.settings.urls import shown_url
from tasks.system.free_port import free_port
from tasks.system.guarded_process import GuardedProcess
from tasks.system.proxies import proxy_for

STARTUP_SECONDS = 90
POLL_SECONDS = 0.2
STOP_GRACE_SECONDS = 3.0
HEARTBEAT_SECONDS = 30
"""How often a run tells a server that stays that it lives, where nothing else is set. Prefect's
default is longer than the silence after which `flows/automations.yaml` has it marked Crashed."""

logger = logging.getLogger("llm4cdsr")


class UnusablePrefectUrlError(UserError):
    """PREFECT_API_URL is no address of an API."""


def api_url_of(configured: str) -> str:
    """Returns the URL of the API; ``/api`` is added where the server answers only there.

    Raises:
        UnusablePrefectUrlError: it is no http address.
        UnusableProxyError: a proxy variable applies to it and cannot be used.
    """
    url = configured.strip().rstrip("/")
    if not _is_address(url):
        raise UnusablePrefectUrlError(
            f"PREFECT_API_URL={url.rpartition('@')[2]} is no address; write http://HOST:4200/api, "
            "or unset it to have a server brought for the run"
        )
    proxy = proxy_for(url)  # Prefect's own client would go around one that cannot be used.
    if "api" in urlsplit(url).path.split("/") or not _is_healthy(f"{url}/api", proxy):
        return url
    shown = shown_url(url)
    logger.warning("PREFECT_API_URL=%s lacks /api at its end; going on with %s/api", shown, shown)
    return f"{url}/api"


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_healthy(url: str, proxy: str | None) -> bool:
    """Whether a Prefect API is there; a page of its UI says nothing in JSON."""
    try:
        reply = httpx.get(f"{url}/health", timeout=5, proxy=proxy, trust_env=False)
        return reply.is_success and reply.json() is True
    except (httpx.TransportError, ValueError):
        return False


@contextmanager
def prefect_api(log: Path) -> Iterator[str]:
    """Gives the URL of the API that runs are recorded with, or would be: see `tasks.prefect_link`
    for a server that does not answer."""
    configured = PREFECT_API_URL.value()
    if configured:
        url = api_url_of(configured)
        with (
            temporary_settings(
                {PREFECT_API_URL: url},
                set_defaults={"flows.heartbeat_frequency": HEARTBEAT_SECONDS},
            ),
            watched(url, waits=False),
        ):
            yield url
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
        started = _wait_for(url, server)
        if started:
            # A log may be read by others; a terminal is its user's.
            login = f", login {credential}" if TERMINAL.is_terminal else ""
            logger.info("Prefect UI while this runs: http://%s:%d%s", HOST, port, login)
        else:
            logger.warning("the Prefect server did not start; its log is %s", log)
        with (
            temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: credential}),
            watched(url, lambda: server.running, waits=False, gone=not started) as link,
        ):
            try:
                yield url
            finally:
                _deliver(link)
    finally:
        server.stop()


def _deliver(link: Link) -> None:
    """Sends what is still queued, which would otherwise meet a server that is gone."""
    if link.gone.is_set():
        return
    APILogWorker.drain_all(timeout=STOP_GRACE_SECONDS)
    EventsWorker.drain_all(timeout=STOP_GRACE_SECONDS)


def _wait_for(url: str, server: GuardedProcess) -> bool:
    """Returns whether the server came up."""
    began = time.monotonic()
    told = False
    while server.running and (waited := time.monotonic() - began) < STARTUP_SECONDS:
        try:
            if httpx.get(f"{url}/health", timeout=2).is_success:
                return True
        except httpx.TransportError:
            time.sleep(POLL_SECONDS)
        if waited > DEADLINE_SECONDS and not told:
            told = True
            logger.info("the Prefect server takes its time to start; waiting for it")
    return False
