"""Alerts of a flow that runs every minute: one at its first failure, one when it works again."""

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import FlowRunSort

from tasks.alerts.webhook import AnyFlow, cause_of, tell, webhook_url

ENDED = ("COMPLETED", "FAILED", "CRASHED")
WORKS_AGAIN = "works again"


def tell_first_failure(flow: AnyFlow, flow_run: FlowRun, state: State) -> None:
    """State hook: posts a failure, unless the run before it failed by an error of the same kind."""
    if webhook_url() is None:
        return
    before = _state_before(flow_run)
    if before is None or not _has_failed(before) or _kind_of(before) != _kind_of(state):
        tell(flow.name, flow_run, state)


def tell_recovery(flow: AnyFlow, flow_run: FlowRun, state: State) -> None:
    """State hook: posts a success after a failure."""
    if webhook_url() is None:
        return
    before = _state_before(flow_run)
    if before is not None and _has_failed(before):
        message = f"{WORKS_AGAIN}, after: {cause_of(before)}"
        tell(flow.name, flow_run, state.model_copy(update={"message": message}))


def _state_before(flow_run: FlowRun) -> State | None:
    """Returns the last final state of the flow before this run, None without an earlier run."""
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
            limit=1,
        )
    return found[0].state if found else None


def _has_failed(state: State) -> bool:
    return state.is_failed() or state.is_crashed()


def _kind_of(state: State) -> str:
    """Returns the name of the error, without values that differ from run to run."""
    return cause_of(state).partition(":")[0]
