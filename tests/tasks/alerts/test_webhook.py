"""The webhook is told how a run ended, of top-level runs only, and can do no harm."""

import logging
import uuid
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings
from prefect.states import Completed, Failed
from pydantic import SecretStr

from artifacts.shown_users import SHOWN_VARIABLE, ShownAs
from tasks.alerts import webhook
from tasks.alerts.webhook import WEBHOOK_VARIABLE, document_of, post_test, tell_webhook, ui_url
from tasks.dump.dump_config import DumpConfig
from tasks.dump.events.event_reader import read_events
from tasks.dump.rows import Quarantine
from tasks.dump.sources.files import UnreadableDumpError
from tests.tasks.alerts.inbox import Inbox


@flow(name="night")
def night() -> None:
    """A flow to tell of."""


def a_run(parent: uuid.UUID | None = None, name: str = "refresh monday") -> FlowRun:
    return FlowRun(flow_id=uuid.uuid4(), name=name, parent_task_run_id=parent)


def test_a_failure_is_told_with_its_reason_and_a_link(inbox: Inbox) -> None:
    run = a_run()
    message = "Flow run encountered an exception: items.csv cannot be read\nand a long trace"
    with temporary_settings({PREFECT_API_URL: "http://night:4200/api", PREFECT_UI_URL: None}):
        tell_webhook(night, run, Failed(message=message))
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
        }
    ]


def test_a_held_model_is_told_by_the_name_of_its_state() -> None:
    held: State = Completed(name="Held", message="worse")
    assert document_of("retrain", a_run(), held)["state"] == "Held"


def test_a_run_inside_another_is_not_told_of(inbox: Inbox) -> None:
    tell_webhook(night, a_run(parent=uuid.uuid4()), Completed())
    assert inbox.received == []


@pytest.mark.parametrize("inbox", [[503, 500]], indirect=True)
def test_a_webhook_that_stumbles_is_told_again(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "wait_exponential", lambda **_: lambda _: 0)
    tell_webhook(night, a_run(), Completed())
    assert len(inbox.received) == 3


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a-secret", "no url at all: a-secret"])
def test_a_webhook_that_is_gone_is_a_log_line_without_its_url(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webhook, "wait_exponential", lambda **_: lambda _: 0)
    monkeypatch.setenv(WEBHOOK_VARIABLE, url)
    with caplog.at_level(logging.WARNING, logger="llm4cdsr"):
        tell_webhook(night, a_run(), Completed())
    assert "the webhook could not be told" in caplog.text
    assert "a-secret" not in caplog.text


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
    shown: ShownAs, inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHOWN_VARIABLE, shown)
    file = tmp_path / "events.json"
    file.write_text('[{"user_id": "ada-lovelace", "item_id": }]')
    with pytest.raises(UnreadableDumpError) as caught:
        read_events(DumpConfig(interactions=str(file)), Quarantine())
    tell_webhook(night, a_run(), Failed(message=f"UnreadableDumpError: {caught.value}"))
    (told,) = inbox.received
    assert ("ada-lovelace" in str(told)) is (shown is ShownAs.PLAIN)
    assert "events.json" in told["text"]
