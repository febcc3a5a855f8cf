"""A flow that fails every minute is told of once, and once more when it works again."""

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.states import Completed, Crashed, Failed, Pending, Running

from artifacts.store import Store
from tasks.alerts.gone_runs import ABORTED, STOPPED
from tasks.alerts.gone_runs import GONE as GONE_RUN
from tasks.alerts.repeated_failures import WORKS_AGAIN, alert_first_failure, alert_recovery
from tests.tasks.alerts.inbox import Inbox

PREFIX = "Flow run encountered an exception: "
GONE = Failed(message=f"{PREFIX}NoDumpFolderError: dumps is not a folder")


def minutes(store: Store, scan: Flow[..., None], *states: State, **parameters: str) -> None:
    """Each state ends a run of the flow; the hooks run as Prefect runs them, before the next."""
    for state in states:
        with get_client(sync_client=True) as client:
            run: FlowRun = client.create_flow_run(scan, parameters=parameters, state=Pending())
            client.set_flow_run_state(run.id, Running(), force=True)
            client.set_flow_run_state(run.id, state, force=True)
            run = client.read_flow_run(run.id)
        hook = alert_recovery if state.is_completed() else alert_first_failure
        hook(store, scan, run, state)


@pytest.mark.usefixtures("prefect_server")
def test_a_failure_that_repeats_is_one_message_and_its_end_another(
    store: Store, inbox: Inbox
) -> None:
    @flow(name="scan of a folder that is lost")
    def scan() -> None:
        """A flow whose end is posted."""

    minutes(store, scan, Completed(), GONE, GONE, GONE, Completed(), Completed(), GONE)
    told = [(each["state"], each["message"]) for each in inbox.received]
    cause = "NoDumpFolderError: dumps is not a folder"
    assert told == [
        ("Failed", cause),
        ("Completed", f"{WORKS_AGAIN}, after: {cause}"),
        ("Failed", cause),
    ]


@pytest.mark.usefixtures("prefect_server")
def test_another_cause_is_told_and_other_figures_are_not(store: Store, inbox: Inbox) -> None:
    @flow(name="scan with causes")
    def scan() -> None:
        """A flow whose end is posted."""

    def failed(cause: str) -> State:
        return Failed(message=f"{PREFIX}{cause}")

    minutes(
        store,
        scan,
        failed("OSError: [Errno 28] No space left on device: /a"),
        failed("OSError: [Errno 28] No space left on device: /b"),
        failed("WatchMemoryError: the state cannot be read"),
        Crashed(message="the process ended with status -9"),
        Crashed(message="the process ended with status -9"),
    )
    assert [each["message"].partition(":")[0] for each in inbox.received] == [
        "the disk is full",
        "WatchMemoryError",
        "the process ended with status -9",
    ]


@pytest.mark.usefixtures("prefect_server")
def test_a_scan_that_ended_with_its_machine_is_no_failure(store: Store, inbox: Inbox) -> None:
    @flow(name="scan of a machine that is stopped")
    def scan() -> None:
        """A flow whose end is posted."""

    ended = [Crashed(message=f"{cause}; more") for cause in (GONE_RUN, STOPPED, ABORTED)]
    minutes(store, scan, *ended, Completed(), GONE, *ended, GONE, Completed())
    assert [each["state"] for each in inbox.received] == ["Failed", "Completed"]


@pytest.mark.usefixtures("prefect_server")
def test_the_runs_of_another_flow_say_nothing_of_this_one(store: Store, inbox: Inbox) -> None:
    @flow(name="scan that fails")
    def failing() -> None:
        """A flow whose end is posted."""

    @flow(name="scan that works")
    def working() -> None:
        """Another."""

    minutes(store, failing, GONE)
    minutes(store, working, Completed())
    minutes(store, failing, GONE)
    assert len(inbox.received) == 1


@pytest.mark.usefixtures("prefect_server")
def test_failures_that_alternate_are_told_once_each(store: Store, inbox: Inbox) -> None:
    @flow(name="scan with two causes")
    def scan() -> None:
        """A flow whose end is posted."""

    minutes(store, scan, *[GONE, Crashed(message="the process ended with status -9")] * 3)
    assert len(inbox.received) == 2


@pytest.mark.usefixtures("prefect_server")
def test_the_scans_of_two_folders_are_told_apart(store: Store, inbox: Inbox) -> None:
    @flow(name="scan of two folders")
    def scan(dumps: str) -> None:
        """A flow whose end is posted."""

    for _ in range(3):
        minutes(store, scan, GONE, dumps="lost")
        minutes(store, scan, Completed(), dumps="there")
    assert len(inbox.received) == 1


def test_without_a_webhook_no_server_is_asked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.alerts.repeated_failures.webhook_url", lambda: None)
    monkeypatch.setattr("tasks.alerts.repeated_failures.get_client", None)

    @flow
    def scan() -> None:
        """A flow."""

    run = FlowRun(flow_id="00000000-0000-0000-0000-000000000000")  # pyright: ignore
    alert_first_failure(store, scan, run, GONE)
    alert_recovery(store, scan, run, Completed())
