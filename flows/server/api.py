"""The Prefect API of a flow: the configured one, or a temporary server.

Prefect's own temporary server prints tracebacks after short runs. This server logs to a file, has a
UI, and ends with this process. Its credential is in the memory and environment of the processes
only, and is printed on a terminal, not in a log.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from artifacts.user_error import InvalidSettingError
from flows.server.closed_app import HOST, server_command, server_variables
from flows.server.credential import new_credential
from tasks.frame.plain_console import TERMINAL
from tasks.frame.prefect_link import DEADLINE_SECONDS, Link, watched
from tasks.llm.settings.urls import shown_url
from tasks.system.free_port import free_port
from tasks.system.guarded_process import GuardedProcess
from tasks.system.port_owner import is_foreign
from tasks.system.proxies import proxy_for

STARTUP_SECONDS = 90
TELL_SECONDS = 30
POLL_SECONDS = 0.2
SLOWEST_POLL_SECONDS = 3.0
STOP_GRACE_SECONDS = 3.0
HEARTBEAT_SECONDS = 30
"""Default heartbeat interval of runs on a permanent server. Prefect's default is longer than the
timeout of `flows/automations.yaml`."""

logger = logging.getLogger("llm4cdsr")


def api_url_of(configured: str) -> str:
    """Returns the URL of the API; ``/api`` is appended if the server responds only there.

    Raises:
        InvalidSettingError: not an http address.
        UnusableProxyError: a proxy variable applies to it and is unusable.
    """
    url = configured.strip().rstrip("/")
    if not _is_address(url):
        raise InvalidSettingError(
            f"PREFECT_API_URL={url.rpartition('@')[2]} is no address; write http://HOST:4200/api, "
            "or unset it: the run then starts a server"
        )
    proxy = proxy_for(url)  # Prefect's client would ignore an unusable proxy.
    if "api" in urlsplit(url).path.split("/") or not _is_healthy(f"{url}/api", proxy):
        return url
    shown = shown_url(url)
    logger.warning("PREFECT_API_URL=%s lacks /api at its end; using %s/api", shown, shown)
    return f"{url}/api"


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_healthy(url: str, proxy: str | None) -> bool:
    """Returns whether a Prefect API responds in JSON, unlike a page of the UI."""
    try:
        reply = httpx.get(f"{url}/health", timeout=5, proxy=proxy, trust_env=False)
        return reply.is_success and reply.json() is True
    except (httpx.TransportError, ValueError):
        return False


@contextmanager
def prefect_api(log: Path) -> Iterator[str]:
    """Yields the URL of the API that records runs; `tasks.frame.prefect_link` handles unreachable
    servers."""
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
    # Not Prefect's default 4200, which is for permanent servers: two concurrent runs could both
    # find it free and share a server.
    port, credential = free_port(), new_credential()
    server = GuardedProcess(
        server_command(port),
        {**os.environ, **server_variables(credential, port)},
        log,
        STOP_GRACE_SECONDS,
    )
    try:
        url = f"http://{HOST}:{port}/api"
        started = has_started(url, lambda: server.running, STARTUP_SECONDS)
        if started:
            # Logs may be readable by others, a terminal is private.
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
    """Sends queued events before the server stops."""
    if link.gone.is_set():
        return
    APILogWorker.drain_all(timeout=STOP_GRACE_SECONDS)
    EventsWorker.drain_all(timeout=STOP_GRACE_SECONDS)


def has_started(url: str, is_running: Callable[[], bool], patience: float) -> bool:
    """Returns whether the API of a server of this machine answers; waits while its process runs,
    for at most ``patience`` seconds. A process of another user on its port counts as no answer: it
    would receive the credential."""
    began = time.monotonic()
    told = DEADLINE_SECONDS
    while is_running() and (waited := time.monotonic() - began) < patience:
        with suppress(httpx.TransportError):
            answer = httpx.get(f"{url}/health", timeout=2, trust_env=False)
            if answer.is_success and not is_foreign(answer.url.port or 0):
                return True
        time.sleep(min(POLL_SECONDS + waited / 30, SLOWEST_POLL_SECONDS))  # A poll costs CPU too.
        if waited > told:
            told = waited + TELL_SECONDS
            logger.info(
                "waiting for the Prefect server to start (%.0f s so far)",
                waited,
            )
    return False
