"""Runs in the database of the machine's server whose state no process will change any more."""

from collections.abc import Collection
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter, WorkPoolFilter
from prefect.client.schemas.objects import FlowRun
from prefect.states import Crashed

UNFINISHED = {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}


def drop_missed_runs(client: SyncPrefectClient, deployment: UUID) -> int:
    """Deletes the scheduled runs of a deployment whose time has passed, up to 200; returns their
    number. After a night without a machine the worker would otherwise start a process for each
    missed dump scan concurrently."""
    missed = {
        "state": {"type": {"any_": ["SCHEDULED"]}},
        "expected_start_time": {"before_": datetime.now(UTC)},
    }
    found = client.read_flow_runs(
        deployment_filter=DeploymentFilter.model_validate({"id": {"any_": [deployment]}}),
        flow_run_filter=FlowRunFilter.model_validate(missed),
    )
    for run in found:
        client.delete_flow_run(run.id)
    return len(found)


def mark_crashed(
    client: SyncPrefectClient, pool: str, living: Collection[str], message: str
) -> list[str]:
    """Marks the unfinished runs of a work pool that no process has, with their subflows; returns
    their names. A run that stayed `Pending` or `Running` would keep its place in the limit of
    concurrent runs.

    Args:
        client: of the server.
        pool: name of the work pool, whose only worker does not run.
        living: ids of the runs that a process has.
        message: the cause, of the state.
    """
    runs = client.read_flow_runs(
        work_pool_filter=WorkPoolFilter.model_validate({"name": {"any_": [pool]}}),
        flow_run_filter=FlowRunFilter.model_validate({"state": UNFINISHED}),
    )
    dead = [run for run in runs if str(run.id) not in living]
    for run in dead:
        client.set_flow_run_state(run.id, Crashed(message=message), force=True)
    return [*(run.name for run in dead), *mark_lost_subflows(client, message)]


def mark_lost_subflows(client: SyncPrefectClient, message: str) -> list[str]:
    """Marks the unfinished subflows whose parent run has ended, and returns their names: they ended
    with the parent's process, which could not record it."""
    wanted = {"parent_task_run_id": {"is_null_": False}, "state": UNFINISHED}
    found = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted))
    lost = [run for run in found if _has_ended_parent(client, run)]
    for run in lost:
        client.set_flow_run_state(run.id, Crashed(message=message), force=True)
    return [run.name for run in lost]


def _has_ended_parent(client: SyncPrefectClient, subflow: FlowRun) -> bool:
    assert subflow.parent_task_run_id is not None
    parent = client.read_task_run(subflow.parent_task_run_id).flow_run_id
    state = client.read_flow_run(parent).state if parent else None
    return state is not None and state.is_final()
