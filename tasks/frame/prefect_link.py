"""Common deadline of all requests of a run to its Prefect server.

Prefect's client retries each request separately for a minute or more, so a dead server would block
a run for many minutes and finally fail it. Here a server without a response for `DEADLINE_SECONDS`
is considered lost: requests fail immediately, UI updates are skipped, and the run continues
(`flows.unrecorded`).
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial, wraps
from types import CoroutineType
from typing import Any

import httpx
from httpx import Request, Response
from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient
from prefect.events.clients import NullEventsClient
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import set_api_log_sink

from tasks.system.machine_errors import is_lack

DEADLINE_SECONDS = 10.0
PATIENCE_SECONDS = 3600.0
"""Maximum wait of a request for a lost server. Then its run ends, which would otherwise hold
memory, GPUs and artifacts until the server is started."""
POLL_SECONDS = 1.0
LOOK_SECONDS = 2.0
LOOKS = 3
"""Longer gaps mean that the process was suspended."""

LOGS = "/logs/"

SyncSend = Callable[..., Response]
AsyncSend = Callable[..., "CoroutineType[Any, Any, Response]"]

logger = logging.getLogger("llm4cdsr")


class PrefectGoneError(httpx.ConnectError):
    """The Prefect server did not respond within the deadline."""


class Link:
    """Connection state of one Prefect server; ``gone`` is set while it is unreachable.

    ``waits``: recording requests wait for the server's return, for `PATIENCE_SECONDS`.
    """

    def __init__(self, api_url: str, *, waits: bool) -> None:
        self.api_url = api_url
        self.waits = waits
        self.gone = threading.Event()

    @property
    def given_up(self) -> bool:
        """Whether the server is lost and not awaited."""
        return self.gone.is_set() and not self.waits

    def give_up(self) -> None:
        """Records and logs the loss of the server."""
        self.gone.set()
        if self.waits:
            so = "the run waits for it at the end of the stage"
        else:
            so = "the run continues without it, and its end is not recorded"
            send_nothing_more()
        logger.warning("the Prefect server at %s does not answer; %s", self.api_url, so)

    def refuse_if_gone(self, began: float) -> None:
        """Raises `PrefectGoneError` if the server is lost and not awaited; a request that began
        (monotonic) before `PATIENCE_SECONDS` is the last to wait."""
        if not self.gone.is_set():
            return
        if time.monotonic() - began >= PATIENCE_SECONDS:
            self.waits = False
        if not self.waits or _is_shown_only.get():
            raise PrefectGoneError(f"the Prefect server at {self.api_url} does not answer")


_links: list[Link] = []
_nothing_more = threading.Event()
_is_shown_only: ContextVar[bool] = ContextVar("is_shown_only", default=False)


def link() -> Link | None:
    """Returns the connection state of the current server."""
    return _links[-1] if _links else None


def _link_to(request: Request) -> Link | None:
    """Returns the connection state for a request, None for other servers."""
    return next((to for to in reversed(_links) if str(request.url).startswith(to.api_url)), None)


def has_given_up() -> bool:
    """Returns whether this process has lost a server, or never had one."""
    return _nothing_more.is_set()


@contextmanager
def shown_only() -> Iterator[None]:
    """Context for UI updates: if the server is lost, the block is left silently.

    Other errors are raised.
    """
    token = _is_shown_only.set(True)
    try:
        yield
    except (httpx.TransportError, RuntimeError) as error:
        if not (_links and _links[-1].gone.is_set()):
            raise
        logger.debug("not shown in the Prefect UI: %s", error)
    finally:
        _is_shown_only.reset(token)


@contextmanager
def watched(
    api_url: str,
    alive: Callable[[], bool] = lambda: True,
    *,
    waits: bool,
    gone: bool = False,
) -> Iterator[Link]:
    """Monitors the server during the block; its clients in this process use the deadline.

    Args:
        api_url: of the server.
        alive: whether the server's process runs, where it is ours: without it no deadline is waited
            for.
        waits: requests that record how a run goes wait for a server that comes back, for
            `PATIENCE_SECONDS`. Without it the server is abandoned for the rest of the block.
        gone: unreachable from the beginning.
    """
    made, over = Link(api_url, waits=waits), threading.Event()
    watch = threading.Thread(
        target=_watch, args=(made, alive, over), name="prefect-watch", daemon=True
    )
    if gone:
        made.give_up()
    _obey_the_deadline()
    _links.append(made)
    watch.start()
    try:
        yield made
    finally:
        over.set()
        watch.join()
        _links.remove(made)


def _watch(to: Link, alive: Callable[[], bool], over: threading.Event) -> None:
    heard, failed = time.monotonic(), 0
    patience = DEADLINE_SECONDS - POLL_SECONDS - LOOK_SECONDS  # The final check may take longer.
    with httpx.Client(timeout=LOOK_SECONDS) as client:
        while not to.given_up and not over.wait(POLL_SECONDS):
            if _answers(client, to.api_url):
                heard, failed = time.monotonic(), 0
                if to.waits and to.gone.is_set():
                    to.gone.clear()
                    logger.warning("the Prefect server at %s answers again", to.api_url)
                continue
            failed += 1
            late = time.monotonic() - heard >= patience and failed >= LOOKS
            if not to.gone.is_set() and (late or not alive()):
                to.give_up()


def _answers(client: httpx.Client, api_url: str) -> bool:
    try:
        client.get(f"{api_url}/health")
    except (httpx.TransportError, OSError):  # OSError: of this process's lack of files.
        return False
    return True


def send_nothing_more() -> None:
    """Makes this process work without a server: tasks start no task runs, and queued events are
    dropped, which would be retried with a log line each until the process's end."""
    _nothing_more.set()
    set_api_log_sink(lambda log: None)
    EventsWorker.set_client_override(NullEventsClient)
    logging.getLogger("prefect._internal").setLevel(logging.CRITICAL + 1)


def _obey_the_deadline() -> None:
    """Patches both clients of Prefect with the deadline; requests outside of monitoring are
    unchanged."""
    if hasattr(PrefectHttpxSyncClient.send, "__wrapped__"):
        return
    PrefectHttpxSyncClient.send = _sync_send(PrefectHttpxSyncClient.send)
    PrefectHttpxAsyncClient.send = _async_send(PrefectHttpxAsyncClient.send)


def _sync_send(send: SyncSend) -> SyncSend:
    @wraps(send)
    def within_deadline(client: PrefectHttpxSyncClient, request: Request, **given: Any) -> Response:
        began = time.monotonic()
        while to := _link_to(request):
            to.refuse_if_gone(began)
            answer = _in_a_thread(partial(send, client, request, **given))
            while not answer.done():
                # A hanging request is abandoned and ends with the process.
                to.refuse_if_gone(began)
                wait([answer], POLL_SECONDS / 10)
            if not _is_passing(answer.exception()):
                return answer.result()
            time.sleep(POLL_SECONDS / 10)
        return send(client, request, **given)

    return within_deadline


def _is_passing(error: BaseException | None) -> bool:
    """Returns whether a request is to be repeated: not where this process lacks a file or memory to
    connect, for which no server is to blame."""
    return isinstance(error, httpx.TransportError) and not is_lack(error)


def _in_a_thread(ask: Callable[[], Response]) -> Future[Response]:
    """Sends in a daemon thread; a pool's threads would delay the process's end."""
    answer: Future[Response] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 (it rises where the answer is read)
            answer.set_exception(error)

    threading.Thread(
        target=copy_context().run, args=(work,), name="prefect request", daemon=True
    ).start()
    return answer


def _async_send(send: AsyncSend) -> AsyncSend:
    @wraps(send)
    async def within_deadline(
        client: PrefectHttpxAsyncClient, request: Request, **given: Any
    ) -> Response:
        began = time.monotonic()
        while to := _link_to(request):
            if to.given_up and request.url.path.endswith(LOGS):
                return Response(201, request=request)  # The lines are in the terminal.
            to.refuse_if_gone(began)
            answer = asyncio.ensure_future(send(client, request, **given))
            try:
                while not answer.done() and not to.given_up:
                    to.refuse_if_gone(began)
                    await asyncio.wait([answer], timeout=POLL_SECONDS / 10)
            finally:
                answer.cancel()
            if not answer.done():
                continue
            if not _is_passing(answer.exception()):
                return answer.result()
            await asyncio.sleep(POLL_SECONDS / 10)
        return await send(client, request, **given)

    return within_deadline
