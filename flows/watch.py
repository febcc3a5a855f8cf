"""The watch flow: scans the dumps folder and emits an event for each new dump.

It runs every minute and imports no model; `prefect.yaml` defines the flow that the event triggers.
"""

import time
from pathlib import PurePath

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from prefect.states import Running

from artifacts.store import Store
from artifacts.strict import Strict
from flows.operating import OPERATING, ended
from flows.server.end_hooks import with_store
from flows.server.run_parameters import refuse_other_places
from flows.server.run_records import mark_lost_subflows
from flows.settings import Settings
from tasks.alerts.announcements import announce_dump
from tasks.alerts.gone_runs import GONE, SCAN, alert_gone_runs
from tasks.alerts.repeated_failures import alert_first_failure, alert_recovery
from tasks.alerts.stories import WATCH_STORY
from tasks.alerts.webhook import post_end, post_waiting
from tasks.dump.sources.dump_watch import (
    SETTLE_SECONDS,
    SUCCESS,
    Look,
    Wait,
    announced,
    look_into,
    overdue,
    read_memory,
    told,
    write_memory,
)
from tasks.frame.markdown_text import markdown_text

WAITING = "Waiting"
"""State in the alert of a folder that does not become a complete dump."""


class Watched(Strict):
    """Result of a scan: announced dumps, waiting folders with reasons."""

    announced: tuple[str, ...]
    waiting: dict[str, str]


def _run_name() -> str:
    return f"watch {flow_run.parameters.get('dumps') or OPERATING.dumps}"


@flow(
    name=SCAN,
    flow_run_name=_run_name,
    on_completion=[with_store(alert_recovery)],
    on_failure=[with_store(alert_first_failure)],
    on_crashed=[with_store(alert_first_failure)],
)
def watch(
    dumps: str | None = None, settle_seconds: float = SETTLE_SECONDS, store: str | None = None
) -> Watched:
    """Emits an event for every complete dump with new content.

    Also posts waiting alerts and alerts for runs whose machine died, marks the subflows of these
    runs as crashed, and alerts once about a folder that does not become a complete dump.

    Args:
        dumps: folder or fsspec URL; LLM4CDSR_DUMPS where None.
        settle_seconds: seconds without a change of its files after which a dump is complete. With
            a file ``_SUCCESS`` it is complete immediately.
        store: of the watch state; LLM4CDSR_STORE if None.
    """
    folder = dumps or OPERATING.dumps
    settings = Settings()
    refuse_other_places(settings, OPERATING.dumps, store, [dumps])
    opened = Store(store or settings.store)
    post_waiting(opened)
    alert_gone_runs(opened)
    with get_client(sync_client=True) as client:
        mark_lost_subflows(client, GONE)
    now = time.time()
    seen = look_into(folder, read_memory(opened, folder), now, settle_seconds)
    memory = seen.memory
    write_memory(opened, folder, memory)
    for dump in seen.landed:
        announce_dump(opened, dump)
        memory = announced(memory, dump)
        write_memory(opened, folder, memory)
    for path, wait in overdue(memory, now, OPERATING.dump_wait_hours * 3600).items():
        if _alert_overdue(opened, path, wait, now):
            memory = told(memory, path)
            write_memory(opened, folder, memory)
    if seen.landed or seen.waiting:
        create_markdown_artifact(key=WATCH_STORY, markdown=_story(folder, seen))
    found = Watched(announced=tuple(dump.name for dump in seen.landed), waiting=seen.waiting)
    return ended(found, _outcome(found))


def _alert_overdue(store: Store, path: str, wait: Wait, now: float) -> bool:
    """Alerts the operator of a folder that does not become a complete dump; returns False if that
    is to be repeated."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return True
    message = (
        f"{path} waits for {(now - wait.since) / 3600:,.1f} hours and is not read: {wait.reason}. "
        f"Complete the dump (a file {SUCCESS} beside its files says that it is), or delete it"
    )
    return post_end(store, SCAN, context.flow_run, Running(name=WAITING, message=message))


def _outcome(found: Watched) -> str:
    if found.announced:
        return f"new: {', '.join(found.announced)}"
    waiting = (f"{PurePath(path).name} ({reason})" for path, reason in found.waiting.items())
    return f"waiting: {'; '.join(waiting)}" if found.waiting else "nothing new"


def _story(folder: str, seen: Look) -> str:
    found = [f"{dump.name} is new and complete: announced" for dump in seen.landed]
    found += [f"{path} waits: {reason}" for path, reason in seen.waiting.items()]
    found += [f"{path} was announced before" for path in seen.known]
    lines = [f"# Dumps in {markdown_text(folder)}", "", *(f"- {markdown_text(s)}" for s in found)]
    return "\n".join(lines)
