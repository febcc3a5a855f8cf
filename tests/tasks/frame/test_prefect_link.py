"""A Prefect server that is gone holds nothing up; one that is away for a while loses nothing."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient

from tasks.frame import prefect_link
from tasks.frame.prefect_link import PrefectGoneError, link, shown_only, watched
from tasks.system.free_port import free_port

LONG = 60.0
"""Far longer than any deadline here, and as long as a test that fails may take."""


class Api(ThreadingHTTPServer):
    """Answers, or holds every request until `held` is set."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.answering = threading.Event()
        self.asked: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Who asked has given up."""


class _Handler(BaseHTTPRequestHandler):
    server: Api  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.answering.wait(LONG)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def serving(port: int) -> Iterator[Api]:
    with Api(port) as api:
        thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield api
        finally:
            api.answering.set()
            api.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(prefect_link, "DEADLINE_SECONDS", 0.5)
    monkeypatch.setattr(prefect_link, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(prefect_link, "LOOK_SECONDS", LONG)
    monkeypatch.setattr(prefect_link, "send_nothing_more", lambda: None)
    before = link()
    yield
    assert link() is before


@pytest.fixture
def port() -> int:
    return free_port()


def ask(port: int) -> httpx.Response:
    with PrefectHttpxSyncClient(base_url=f"http://127.0.0.1:{port}/api", timeout=LONG) as client:
        return client.get("/flows/1")


async def ask_async(port: int) -> httpx.Response:
    base = f"http://127.0.0.1:{port}/api"
    async with PrefectHttpxAsyncClient(base_url=base, timeout=LONG) as client:
        return await client.get("/flows/1")


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/api"


def test_a_server_that_answers_is_asked_as_always(port: int) -> None:
    with serving(port) as api, watched(url(port), waits=False) as to:
        api.answering.set()
        assert ask(port).status_code == 200
        assert not to.gone.is_set()


def test_a_server_that_answers_is_asked_as_always_by_async_code(port: int) -> None:
    with serving(port) as api, watched(url(port), waits=False):
        api.answering.set()
        assert asyncio.run(ask_async(port)).status_code == 200


def test_a_server_that_is_not_there_is_given_up(port: int) -> None:
    with watched(url(port), waits=False) as to:
        with pytest.raises(PrefectGoneError):
            ask(port)
        assert to.gone.is_set()
        with pytest.raises(PrefectGoneError):
            ask(port)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """For servers that hold every request: no look of the watch is ever answered."""
    monkeypatch.setattr(prefect_link, "LOOK_SECONDS", 0.1)


@pytest.mark.usefixtures("hasty")
def test_a_request_that_hangs_is_given_up(port: int) -> None:
    with serving(port) as api, watched(url(port), waits=False):
        with pytest.raises(PrefectGoneError):
            ask(port)
        assert "/api/flows/1" in api.asked


@pytest.mark.usefixtures("hasty")
def test_a_request_of_async_code_that_hangs_is_given_up(port: int) -> None:
    with serving(port), watched(url(port), waits=False), pytest.raises(PrefectGoneError):
        asyncio.run(ask_async(port))


def test_a_slow_request_is_waited_for_while_the_server_gives_signs_of_life(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy database may take longer than the deadline, and is not gone."""
    monkeypatch.setattr(prefect_link, "DEADLINE_SECONDS", 0.0)
    with serving(port) as api:
        looks: list[str] = []

        def sign_of_life(client: httpx.Client, api_url: str) -> bool:
            looks.append(api_url)
            if len(looks) > 2 * prefect_link.LOOKS:
                api.answering.set()
            return True

        monkeypatch.setattr(prefect_link, "_answers", sign_of_life)
        with watched(url(port), waits=False) as to:
            assert ask(port).status_code == 200
            assert not to.gone.is_set()


def test_a_server_process_that_ended_is_given_up_at_once(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_link, "DEADLINE_SECONDS", LONG * 10)
    with watched(url(port), lambda: False, waits=False), pytest.raises(PrefectGoneError):
        ask(port)


def test_what_records_a_run_waits_for_a_server_that_comes_back(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with watched(url(port), waits=True) as to:
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(ask(port)))
        asking.start()
        assert to.gone.wait(LONG)
        with shown_only():
            ask(port)
            raise AssertionError("what is only shown does not wait")
        assert answers == []
        with serving(port) as api:
            api.answering.set()
            asking.join(LONG)
            assert [answer.status_code for answer in answers] == [200]


def test_a_server_that_never_comes_back_is_given_up_in_the_end(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the process of a run would wait for ever, with its memory and its artifacts."""
    with watched(url(port), waits=True) as to:
        assert to.gone.wait(LONG)
        monkeypatch.setattr(prefect_link, "PATIENCE_SECONDS", 0.5)
        with pytest.raises(PrefectGoneError):
            ask(port)
        monkeypatch.setattr(prefect_link, "PATIENCE_SECONDS", LONG * 10)
        with pytest.raises(PrefectGoneError):
            asyncio.run(ask_async(port))
        assert to.given_up


def test_what_is_only_shown_fails_as_always_while_the_server_is_there(port: int) -> None:
    with serving(port) as api, watched(url(port), waits=False):
        api.answering.set()
        with pytest.raises(RuntimeError, match="of the block"), shown_only():
            raise RuntimeError("of the block")


def test_a_client_outside_a_watch_has_no_deadline_of_ours(port: int) -> None:
    with watched(url(port), waits=False):
        """Puts the deadline into the clients."""
    with pytest.raises(httpx.ConnectError) as raised:
        ask(port)
    assert type(raised.value) is not PrefectGoneError


def test_a_watch_leaves_no_thread(port: int) -> None:
    before = set(threading.enumerate())
    with watched(url(port), waits=False):
        (watch,) = set(threading.enumerate()) - before
        assert watch.name == "prefect-watch"
    assert not watch.is_alive()
