"""Alerts on disk: damaged files, webhooks that fail in odd ways, several processes at once."""

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from artifacts.files.ownership import locked
from artifacts.store import Store
from tasks.alerts import outbox, webhook
from tasks.alerts.outbox import FOLDER, Alert, Reception, deliver, put, waiting
from tasks.alerts.webhook import WEBHOOK_VARIABLE, post_alert, post_test, post_waiting, webhook_url
from tests.tasks.alerts.inbox import Inbox

FORK = get_context("fork")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "PAUSES", (0.0, 0.0))


def an_alert(text: str = "monday", at: datetime | None = None) -> Alert:
    return Alert(at=at or datetime.now(UTC), document={"text": text})


def texts(store: Store) -> list[str]:
    return [alert.document["text"] for alert in waiting(store)]


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[bytes]]]:
    """Yields the URL of a server that answers each request by ``answer``, and the requests."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:  # Closed.
                    return
                with connection:
                    received.append(connection.recv(1 << 16))
                    if not received[-1]:
                        return
                    try:
                        answer(connection)
                    except OSError:  # The client has hung up.
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/a-secret", received
        finally:
            socket.create_connection(server.getsockname()).close()
            thread.join()
            received.pop()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("00000001.json", b'{"at":"2026-11-30T11:00:00","document":{"text":"no zone"}}'),
        ("00000001.json", b'{"at":"2026-11-30T11:00:00Z","document":{}}'),
        ("00000001.json", b"\0" * 64),
        ("00000001 (copy).json", b"{}"),
        ("00000001.json", None),
        ("123456789.json", b"{"),
    ],
    ids=["no zone", "no text", "zeros", "a copy", "a folder", "a long number"],
)
def test_a_damaged_file_holds_no_alert_back(
    store: Store, inbox: Inbox, name: str, content: bytes | None
) -> None:
    path = store.workspace(FOLDER.name) / name
    path.mkdir() if content is None else path.write_bytes(content)
    assert waiting(store) == []
    post_waiting(store)
    assert post_alert(store, an_alert())
    assert [each["text"] for each in inbox.received] == ["monday"]
    assert waiting(store) == []


@pytest.mark.parametrize("status", [301, 401, 404, 408, 429, 500])
def test_what_is_wrong_with_the_webhook_keeps_the_order_of_alerts(
    store: Store, inbox: Inbox, status: int
) -> None:
    for day in ("monday", "tuesday"):
        inbox.statuses = [status] * 3
        assert post_alert(store, an_alert(day))
    assert {each["text"] for each in inbox.received} == {"monday"}
    inbox.received.clear()
    post_waiting(store)
    assert [each["text"] for each in inbox.received] == ["monday", "tuesday"]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_an_alert_that_is_refused_is_tried_once_and_the_next_at_once(
    store: Store, inbox: Inbox, status: int
) -> None:
    put(store, an_alert("monday"))
    inbox.statuses = [status]
    assert post_alert(store, an_alert("tuesday"))
    assert [each["text"] for each in inbox.received] == ["monday", "tuesday"]
    assert texts(store) == ["monday"]


def test_a_webhook_that_refuses_everything_is_not_sent_everything(
    store: Store, inbox: Inbox
) -> None:
    for number in range(outbox.REFUSALS + 2):
        put(store, an_alert(str(number)))
    inbox.statuses = [400] * (outbox.REFUSALS + 2)
    post_waiting(store)
    assert len(inbox.received) == outbox.REFUSALS
    assert len(waiting(store)) == outbox.REFUSALS + 2


@pytest.mark.parametrize(("seconds", "posts"), [(3, 2), (3600, 1)])
def test_a_rate_limit_is_waited_for_if_it_is_short(
    store: Store, monkeypatch: pytest.MonkeyPatch, seconds: int, posts: int
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    answers = iter([f"429 X\r\nRetry-After: {seconds}", "200 OK"])
    with answering(
        lambda to: to.sendall(f"HTTP/1.1 {next(answers)}\r\nContent-Length: 0\r\n\r\n".encode())
    ) as (url, received):
        monkeypatch.setenv(WEBHOOK_VARIABLE, url)
        assert post_alert(store, an_alert())
    assert len(received) == posts
    assert slept == [3.0][: posts - 1]
    assert len(waiting(store)) == 2 - posts


def test_an_accepted_alert_whose_answer_hangs_is_posted_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def headers_only(to: socket.socket) -> None:
        to.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        to.recv(1)  # Until the client hangs up.

    with answering(headers_only) as (url, received):
        monkeypatch.setenv(WEBHOOK_VARIABLE, url)
        assert post_alert(store, an_alert())
    assert len(received) == 1
    assert waiting(store) == []


def test_an_answer_that_comes_byte_by_byte_is_given_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(webhook, "PAUSES", ())
    sent = bytearray()

    def slowly(to: socket.socket) -> None:
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 30:
            to.sendall(bytes([byte]))
            sent.append(byte)
            time.sleep(0.05)

    with answering(slowly) as (url, _):
        monkeypatch.setenv(WEBHOOK_VARIABLE, url)
        assert post_alert(store, an_alert())
    assert len(sent) < 190, "hung up before the end"
    assert len(waiting(store)) == 1


@pytest.mark.parametrize("proxy", ["socks5://user:a-secret@127.0.0.1:9", "odd://a-secret@h:1"])
def test_a_proxy_that_cannot_be_used_keeps_the_alert(
    store: Store,
    inbox: Inbox,
    proxy: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with caplog.at_level(logging.WARNING, logger="llm4cdsr"):
        assert post_alert(store, an_alert())
        post_waiting(store)
        fault = post_test(webhook_url() or pytest.fail("no URL"))
    assert texts(store) == ["monday"]
    assert inbox.received == []
    assert fault is not None
    assert "a-secret" not in caplog.text + fault


def test_a_name_that_is_no_unicode_is_told(store: Store, inbox: Inbox) -> None:
    assert post_alert(store, an_alert(os.fsdecode(b"dumps/m\xfcller")))
    assert [each["text"] for each in inbox.received] == ["dumps/m\\udcfcller"]


def test_white_space_around_the_address_is_no_part_of_it(
    store: Store, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, f" {inbox.url}\n")
    assert post_alert(store, an_alert())
    assert len(inbox.received) == 1


def test_an_address_on_a_prefect_server_that_is_gone_keeps_the_alert(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise httpx.ConnectError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(webhook, "webhook_url", gone)
        assert post_alert(store, an_alert())
    assert texts(store) == ["monday"]


def test_the_address_on_a_server_that_is_gone_is_no_missing_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(WEBHOOK_VARIABLE, raising=False)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(httpx.HTTPError),
    ):
        webhook_url()


def test_an_alert_of_a_clock_that_jumped_is_posted_once_more_before_it_is_dropped(
    store: Store, inbox: Inbox
) -> None:
    now = datetime.now(UTC)
    for text, at in (("old", now - 2 * outbox.KEPT_FOR), ("early", now + timedelta(days=400))):
        put(store, an_alert(text, at))
    post_waiting(store)
    assert [each["text"].split(" ")[0] for each in inbox.received] == ["old", "early"]
    put(store, an_alert("old", now - 2 * outbox.KEPT_FOR))
    inbox.statuses = [503]
    post_waiting(store)
    assert waiting(store) == []


def test_a_holder_that_is_stopped_holds_nobody_up(store: Store, inbox: Inbox) -> None:
    put(store, an_alert())
    with locked(store.local / FOLDER / "delivery.lock"):
        post_waiting(store)
    assert inbox.received == []
    assert texts(store) == ["monday"]


def test_a_slow_webhook_does_not_take_all_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in ("monday", "tuesday", "wednesday"):
        put(store, an_alert(day))
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def slow(_: Alert) -> Reception:
        clock[0] += outbox.DELIVERY_SECONDS * 0.6
        return Reception.ACCEPTED

    assert not deliver(store, slow, patience=0)
    assert texts(store) == ["wednesday"]


def test_processes_that_tell_at_once_post_each_alert_once(store: Store, inbox: Inbox) -> None:
    def several(process: int) -> None:
        for number in range(5):
            post_alert(store, an_alert(f"{process}-{number}"))

    processes = [FORK.Process(target=several, args=(process,)) for process in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    told = [each["text"] for each in inbox.received]
    assert sorted(told) == sorted(
        f"{process}-{number}" for process in range(4) for number in range(5)
    )
    for process in range(4):
        own = [text for text in told if text.startswith(f"{process}-")]
        assert own == sorted(own)


def test_a_process_that_is_killed_between_post_and_deletion_posts_one_twice(
    store: Store, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in ("monday", "tuesday"):
        put(store, an_alert(day))

    def killed() -> None:
        monkeypatch.setattr(Path, "unlink", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        post_waiting(store)

    process = FORK.Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    post_waiting(store)
    assert [each["text"] for each in inbox.received] == ["monday", "monday", "tuesday"]


def test_a_loop_that_runs_does_not_hinder_a_post(store: Store, inbox: Inbox) -> None:
    async def hook() -> None:
        post_alert(store, an_alert())

    asyncio.run(hook())
    assert len(inbox.received) == 1
