"""No run of a machine stays unfinished in the database without a process that could end it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect import Flow, flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelling, Completed, Pending, Running, Scheduled

from flows.server.run_records import drop_missed_runs, mark_crashed, mark_lost_subflows

POOL = "a machine's"
CAUSE = "the run's process is gone"


@task
def stage() -> None:
    """The task run of a subflow."""


@flow(name="unfinished")
def unfinished() -> None:
    """A flow of a deployment."""


def state_of(client: SyncPrefectClient, run: FlowRun) -> State[Any]:  # pyright: ignore[reportExplicitAny]
    found = client.read_flow_run(run.id).state
    assert found is not None
    return found


@pytest.mark.usefixtures("prefect_server")
def test_runs_without_a_process_are_crashed_and_no_others() -> None:
    flow_of: Flow[..., None] = unfinished
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        made = client.create_deployment(client.create_flow(flow_of), "d", work_pool_name=POOL)
        dead = [
            client.create_flow_run_from_deployment(made, state=state())
            for state in (Pending, Running, Cancelling)
        ]
        kept = [
            client.create_flow_run_from_deployment(made, state=state())
            for state in (Scheduled, Completed, Running)
        ]
        elsewhere = client.create_flow_run(flow_of, state=Running())
        names = mark_crashed(client, POOL, {str(kept[-1].id)}, CAUSE)
        assert sorted(names) == sorted(run.name for run in dead)
        for run in dead:
            assert state_of(client, run).is_crashed()
            assert state_of(client, run).message == CAUSE
        for run in (*kept, elsewhere):
            assert state_of(client, run).name == run.state_name


@pytest.mark.usefixtures("prefect_server")
def test_subflows_end_with_their_parent() -> None:
    """The process that could have recorded their end is the parent's."""

    def subflow_of(client: SyncPrefectClient, parent: State[Any]) -> FlowRun:  # pyright: ignore[reportExplicitAny]
        run = client.create_flow_run(unfinished, state=parent)
        task = client.create_task_run(stage, run.id, dynamic_key="0", state=Running())
        return client.create_flow_run(unfinished, parent_task_run_id=task.id, state=Running())

    with get_client(sync_client=True) as client:
        lost, kept = (subflow_of(client, state) for state in (Completed(), Running()))
        assert mark_lost_subflows(client, CAUSE) == [lost.name]
        assert state_of(client, lost).is_crashed()
        assert state_of(client, kept).is_running()


def test_scans_that_were_missed_are_dropped_and_later_ones_stay(prefect_server: str) -> None:
    @flow(name="scan after a night")
    def scan() -> None:
        """A flow with a schedule."""

    now = datetime.now(UTC)
    times = [now - timedelta(hours=1), now - timedelta(minutes=1), now + timedelta(hours=1)]
    with get_client(sync_client=True) as client:
        ours, other = (client.create_deployment(client.create_flow(scan), name) for name in "ab")
        for at in times:
            client.create_flow_run_from_deployment(ours, state=Scheduled(scheduled_time=at))
            client.create_flow_run_from_deployment(other, state=Scheduled(scheduled_time=at))
        assert drop_missed_runs(client, ours) == 2
        left = client.read_flow_runs(flow_filter=FlowFilter(name={"any_": [scan.name]}))  # pyright: ignore
    kept = sorted(run.expected_start_time for run in left if run.deployment_id == ours)  # pyright: ignore
    assert kept == times[2:]
    assert len(left) == 4
