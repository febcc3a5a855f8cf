"""The webhook is told how a run ended, of top-level runs only, and can do no harm."""

import errno
import logging
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings
from prefect.states import Completed, Failed
from pydantic import SecretStr

from artifacts.shown_users import SHOWN_VARIABLE, ShownAs
from artifacts.store import Store
from tasks.alerts import outbox, webhook
from tasks.alerts.outbox import Alert, Reception, put, waiting
from tasks.alerts.webhook import (
    WEBHOOK_VARIABLE,
    document_of,
    post_end,
    post_test,
    post_waiting,
    ui_url,
)
from tasks.dump.dump_config import DumpConfig
from tasks.dump.events.event_reader import read_events
from tasks.dump.rows import Quarantine
from tasks.dump.sources.files import UnreadableDumpError
from tests.tasks.alerts.inbox import Inbox


def a_run(parent: uuid.UUID | None = None, name: str = "refresh monday") -> FlowRun:
    return FlowRun(flow_id=uuid.uuid4(), name=name, parent_task_run_id=parent)


def test_a_failure_is_told_with_its_reason_and_a_link(store: Store, inbox: Inbox) -> None:
    run = a_run()
    message = "Flow run encountered an exception: items.csv cannot be read\nand a long trace"
    with temporary_settings({PREFECT_API_URL: "http://night:4200/api", PREFECT_UI_URL: None}):
        ended = Failed(message=message)
        post_end(store, "night", run, ended)
    assert inbox.received == [
        {
            "text": "refresh monday: Failed. items.csv cannot be read "
            f"http://night:4200/runs/flow-run/{run.id}",
            "flow": "night",
            "run": "refresh monday",
            "run_id": str(run.id),
            "state": "Failed",
            "state_type": "FAILED",
            "message": "items.csv cannot be read",
            "link": f"http://night:4200/runs/flow-run/{run.id}",
            "at": f"{ended.timestamp:%Y-%m-%dT%H:%M:%S}+00:00",
        }
    ]


def test_a_held_model_is_told_by_the_name_of_its_state() -> None:
    held: State = Completed(name="Held", message="worse")
    assert document_of("retrain", a_run(), held)["state"] == "Held"


def test_a_run_inside_another_is_not_told_of(store: Store, inbox: Inbox) -> None:
    post_end(store, "night", a_run(parent=uuid.uuid4()), Completed())
    assert inbox.received == []


@pytest.mark.parametrize("inbox", [[503, 500]], indirect=True)
def test_a_webhook_that_stumbles_is_told_again(
    store: Store, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "PAUSES", (0.0, 0.0))
    post_end(store, "night", a_run(), Completed())
    assert len(inbox.received) == 3


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a-secret", "no url at all: a-secret"])
def test_a_webhook_that_is_gone_is_a_log_line_without_its_url(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webhook, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv(WEBHOOK_VARIABLE, url)
    with caplog.at_level(logging.WARNING, logger="llm4cdsr"):
        post_end(store, "night", a_run(), Completed())
    assert "the webhook did not accept an alert" in caplog.text
    assert "a-secret" not in caplog.text + (waiting(store)[0].model_dump_json())


def test_the_ui_is_where_it_is_said_to_be() -> None:
    with temporary_settings({PREFECT_API_URL: "http://a/api", PREFECT_UI_URL: "https://ui"}):
        assert ui_url() == "https://ui"


def test_a_test_message_arrives_and_a_refusal_is_told_without_the_url(inbox: Inbox) -> None:
    inbox.statuses = [200, 403]
    url = SecretStr(inbox.url)
    assert post_test(url) is None
    assert inbox.received[0]["run"] == "a test of the webhook"
    refused = post_test(url)
    assert refused is not None
    assert "403" in refused
    unreachable = post_test(SecretStr("http://127.0.0.1:9/a-secret"))
    assert unreachable is not None
    assert "secret" not in refused + unreachable


@pytest.mark.parametrize(
    "name",
    ["<!channel>", "<!here|you>", "<@U123>", "<#C1>", "<https://evil.example|the report>"],
)
def test_a_name_calls_nobody_and_links_nowhere(name: str) -> None:
    text = document_of("retrain", a_run(name=f"refresh {name}"), Completed())["text"]
    assert "<" not in text


@pytest.mark.parametrize("name", ["@channel", "@here", "@everyone", "@all"])
def test_a_name_mentions_no_group(name: str) -> None:
    text = document_of("retrain", a_run(name=f"refresh {name}"), Completed())["text"]
    assert name not in text
    assert name.removeprefix("@") in text


def test_texts_that_order_nothing_stay_as_they_are() -> None:
    text = document_of("retrain", a_run(name="a < b, mail@shop.example"), Completed())["text"]
    assert "a < b, mail@shop.example" in text


@pytest.mark.parametrize("shown", ShownAs)
def test_a_damaged_row_is_quoted_only_where_ids_are_shown(
    store: Store, shown: ShownAs, inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHOWN_VARIABLE, shown)
    file = tmp_path / "events.json"
    file.write_text('[{"user_id": "ada-lovelace", "item_id": }]')
    with pytest.raises(UnreadableDumpError) as caught:
        read_events(DumpConfig(interactions=str(file)), Quarantine())
    post_end(store, "night", a_run(), Failed(message=f"UnreadableDumpError: {caught.value}"))
    (told,) = inbox.received
    assert ("ada-lovelace" in str(told)) is (shown is ShownAs.PLAIN)
    assert "events.json" in told["text"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "PAUSES", (0.0, 0.0))


@pytest.mark.usefixtures("impatient")
def test_what_a_webhook_that_is_down_does_not_accept_is_told_later_in_order(
    store: Store, inbox: Inbox
) -> None:
    early = datetime.now(UTC) - timedelta(hours=1)
    inbox.statuses = [503] * 6
    for day in ("monday", "tuesday"):
        failed = Failed(message="cause").model_copy(update={"timestamp": early})
        assert post_end(store, "night", a_run(name=day), failed)
    assert [alert.document["run"] for alert in waiting(store)] == ["monday", "tuesday"]
    inbox.received.clear()
    inbox.statuses = [503]
    post_waiting(store)
    assert len(inbox.received) == 1, "a scan tries once"
    inbox.received.clear()
    post_end(store, "night", a_run(name="wednesday"), Completed())
    assert [each["run"] for each in inbox.received] == ["monday", "tuesday", "wednesday"]
    assert f"(late: of {early:%Y-%m-%d %H:%M} UTC)" in inbox.received[0]["text"]
    assert "late" not in inbox.received[2]["text"]
    assert waiting(store) == []


def test_alerts_that_wait_are_bounded_in_number_and_age(
    store: Store, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "KEPT", 3)
    now = datetime.now(UTC)
    for day in range(5):
        put(store, Alert(at=now, document={"text": f"{day}"}))
    assert [alert.document["text"] for alert in waiting(store)] == ["2", "3", "4"]
    put(store, Alert(at=now - outbox.KEPT_FOR - timedelta(days=1), document={"text": "old"}))
    assert len(waiting(store)) == 3
    inbox.statuses = [200, 200, 503]
    post_waiting(store)
    assert [each["text"].split(" ")[0] for each in inbox.received] == ["3", "4", "old"]
    assert list((store.local / outbox.FOLDER).glob("*.json")) == []


@pytest.mark.usefixtures("impatient")
def test_an_alert_that_is_put_while_others_are_read_is_not_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (Alert(at=datetime.now(UTC), document={"text": each}) for each in "ab")
    put(store, first)
    read = outbox._read

    def and_put(files: dict[int, Path]) -> dict[Path, Alert | None]:
        found = read(files)
        put(store, second)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "_read", and_put)
        assert outbox.deliver(store, lambda _: Reception.ACCEPTED, patience=0)
    assert [alert.document["text"] for alert in waiting(store)] == ["b"]


def test_an_alert_that_cannot_be_kept_is_posted_at_once(
    store: Store, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(outbox, "create_exclusively", full)
    assert post_end(store, "night", a_run(), Completed())
    assert len(inbox.received) == 1
    inbox.statuses = [503] * 3
    assert not post_end(store, "night", a_run(), Completed())


def test_without_a_webhook_no_alert_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "webhook_url", lambda: None)
    assert post_end(store, "night", a_run(), Completed())
    assert waiting(store) == []
