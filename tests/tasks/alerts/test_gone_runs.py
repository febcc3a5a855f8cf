"""A run whose machine died is told of by whoever looks next, once."""

from pathlib import Path

import pytest
import yaml
from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.states import Crashed, Running

from artifacts.store import Store
from tasks.alerts import webhook
from tasks.alerts.gone_runs import GONE, SCAN, alert_gone_runs
from tasks.alerts.webhook import post_waiting
from tests.tasks.alerts.inbox import Inbox

AUTOMATIONS = Path(__file__).parents[3] / "flows" / "automations.yaml"


@flow(name="night")
def night() -> None:
    """A flow whose end is posted."""


@flow(name=SCAN)
def scan() -> None:
    """A dump scan."""


def run_that_crashed(name: str, message: str, of: Flow[..., None] = night) -> None:
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(of, name=name, state=Running())
        client.set_flow_run_state(run.id, Crashed(message=message), force=True)


@pytest.mark.usefixtures("prefect_server")
def test_a_gone_run_is_told_of_once(store: Store, inbox: Inbox) -> None:
    alert_gone_runs(store)  # Of what other tests left.
    before = len(inbox.received)
    run_that_crashed("refresh monday", f"{GONE}; answers are kept")
    run_that_crashed("refresh tuesday", "Flow run process exited with status code 1")
    assert alert_gone_runs(store) == ["refresh monday"]
    (told,) = inbox.received[before:]
    assert (told["flow"], told["run"], told["state"]) == ("night", "refresh monday", "Crashed")
    run_that_crashed("refresh wednesday", GONE)
    assert alert_gone_runs(store) == ["refresh wednesday"]
    assert alert_gone_runs(store) == []
    assert len(inbox.received) == before + 2


@pytest.mark.usefixtures("prefect_server")
def test_a_gone_run_that_the_webhook_did_not_take_is_told_of_again(
    store: Store,
    inbox: Inbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhook, "PAUSES", (0.0, 0.0))
    alert_gone_runs(store)  # Of what other tests left.
    inbox.statuses = [503] * 3
    run_that_crashed("refresh friday", GONE)
    assert "refresh friday" in alert_gone_runs(store)
    assert alert_gone_runs(store) == []
    inbox.received.clear()
    post_waiting(store)
    assert [told["run"] for told in inbox.received] == ["refresh friday"]


@pytest.mark.usefixtures("prefect_server")
def test_a_scan_that_is_gone_is_not_told(store: Store, inbox: Inbox) -> None:
    alert_gone_runs(store)  # Of what other tests left.
    before = len(inbox.received)
    run_that_crashed("a scan", GONE, scan)
    assert alert_gone_runs(store) == []
    assert len(inbox.received) == before


def test_without_a_webhook_nobody_is_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.alerts.gone_runs.webhook_url", lambda: None)
    monkeypatch.setattr("tasks.alerts.gone_runs.get_client", None)
    assert alert_gone_runs(store) == []


def test_the_automation_marks_runs_with_the_words_that_are_looked_for() -> None:
    (automation,) = yaml.safe_load(AUTOMATIONS.read_text("utf-8"))["automations"]
    (action,) = automation["actions"]
    assert action["message"].startswith(GONE)
