"""Webhook messages for runs whose machine died.

State hooks run in the process of the run, which is dead. The automation of `flows/automations.yaml`
marks such runs; the next dump scan sends the message.
"""

from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State

from artifacts.store import Store
from artifacts.store_notes import read_note, write_note
from artifacts.strict import Strict
from tasks.alerts.webhook import post_end, webhook_url

GONE = "the run's process is gone"
"""Prefix of the message of the automation and of `up`. Other crashes are reported by the worker."""

STOPPED = "ended by `llm4cdsr down`"
ABORTED = "Execution was aborted by a termination signal"
"""Prefect's message of a run that ended by SIGTERM, from `down` or a shutdown of the system."""

SCAN = "watch"
"""Flow of the dump scans. A dead scan is not reported, because the next one replaces it."""

NOTE = "gone-runs.json"
REMEMBERED = timedelta(days=1)


class ReportedRuns(Strict):
    """Reported runs of the last day."""

    ids: frozenset[str] = frozenset()


def ended_with_the_machine(state: State) -> bool:
    """Returns whether a run ended because its process died or was terminated by a signal."""
    return state.is_crashed() and (state.message or "").startswith((GONE, STOPPED, ABORTED))


def alert_gone_runs(store: Store) -> list[str]:
    """Reports each dead run once to the webhook, if configured; returns their names.

    Messages that could neither be sent nor kept are sent again by the next scan.
    """
    if webhook_url() is None:
        return []
    note = read_note(store, NOTE)
    told = ReportedRuns() if note is None else ReportedRuns.model_validate_json(note)
    with get_client(sync_client=True) as client:
        gone = _gone_runs(client, datetime.now(UTC) - REMEMBERED)
        old = [run for run in gone if str(run.id) in told.ids]
        new = [
            run
            for run in gone
            if run not in old
            and run.state is not None
            and (name := client.read_flow(run.flow_id).name) != SCAN
            and post_end(store, name, run, run.state)
        ]
    if new:
        ids = frozenset(str(run.id) for run in (*old, *new))
        write_note(store, NOTE, ReportedRuns(ids=ids).model_dump_json().encode())
    return [run.name for run in new]


def _gone_runs(client: SyncPrefectClient, since: datetime) -> list[FlowRun]:
    wanted = {"state": {"type": {"any_": ["CRASHED"]}}, "end_time": {"after_": since}}
    found = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted))
    return [run for run in found if run.state and (run.state.message or "").startswith(GONE)]
