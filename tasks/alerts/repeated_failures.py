"""Alerts of a flow that runs every minute: one at its first failure, one when it works again."""

from itertools import takewhile

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import FlowRunSort

from artifacts.store import Store
from tasks.alerts.gone_runs import ended_with_the_machine
from tasks.alerts.webhook import AnyFlow, cause_of, post_end, webhook_url

ENDED = ("COMPLETED", "FAILED", "CRASHED")
WORKS_AGAIN = "works again"
HISTORY = 30
"""Number of latest runs within which the same failure is not posted again."""


def alert_first_failure(store: Store, flow: AnyFlow, flow_run: FlowRun, state: State) -> None:
    """Posts a failure, unless an error of the same kind was posted since the latest
    success, or the run ended with its machine."""
    if webhook_url() is None or ended_with_the_machine(state):
        return
    if _kind_of(state) not in map(_kind_of, _failures_before(flow_run)):
        post_end(store, flow.name, flow_run, state)


def alert_recovery(store: Store, flow: AnyFlow, flow_run: FlowRun, state: State) -> None:
    """Posts a success after a failure."""
    if webhook_url() is None:
        return
    if failures := _failures_before(flow_run):
        message = f"{WORKS_AGAIN}, after: {cause_of(failures[0])}"
        post_end(
            store,
            flow.name,
            flow_run,
            # Prefect's `State.model_copy` drops a timestamp that is not given.
            state.model_copy(update={"message": message, "timestamp": state.timestamp}),
        )


def _failures_before(flow_run: FlowRun) -> list[State]:
    """Returns the failures of the flow with the same parameters since the latest success before
    this run, latest first."""
    wanted = {
        "id": {"not_any_": [flow_run.id]},
        "state": {"type": {"any_": ENDED}},
        **({"start_time": {"before_": flow_run.start_time}} if flow_run.start_time else {}),
    }
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_filter=FlowFilter.model_validate({"id": {"any_": [flow_run.flow_id]}}),
            flow_run_filter=FlowRunFilter.model_validate(wanted),
            sort=FlowRunSort.START_TIME_DESC,
            limit=HISTORY,
        )
    states = [run.state for run in found if run.state and run.parameters == flow_run.parameters]
    told = [state for state in states if not ended_with_the_machine(state)]
    return list(takewhile(lambda state: state.is_failed() or state.is_crashed(), told))


def _kind_of(state: State) -> str:
    """Returns the name of the error, without values that differ from run to run."""
    return cause_of(state).partition(":")[0]
