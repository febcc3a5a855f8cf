"""``llm4cdsr status``: summarises the state of a store and of its machine."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import typer
from rich.table import Table
from rich.text import Text

from artifacts.bundles import REFRESHED, parts_of
from artifacts.integrity import ArtifactError
from artifacts.machines.store_in_use import interruption
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from flows.cli.commands.upkeep.release_command import figure_of
from flows.cli.diagnosis.store_checks import (
    FULL,
    RENEW,
    earlier_schemas,
    fault_of_release,
    free_bytes,
    write_fault,
)
from flows.cli.options.opened_store import opened_store
from flows.cli.options.shared_options import StoreRoot
from flows.cli.output import terminal
from tasks.alerts.outbox import waiting
from tasks.promoting.release_history import HistoryDamagedError, history, serving_release

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from flows.server.machine import Machine

EXAMPLES = "Example:\n\nllm4cdsr status --store artifacts/data"
SHOWN_RUNS = 3
NOTHING = "nothing yet; `llm4cdsr run` makes the first"


def status(store: StoreRoot = None) -> None:
    """Show the served release, the latest runs and the state of this machine.

    Exit status 1 if a service started by `up` is down, the served release is damaged, alerts were
    not delivered, or the store's disk is full or read-only.
    """
    from flows.server.machine import SERVICES, Machine

    opened = opened_store(store)
    table = Table(show_header=False, box=None, padding=(0, 2))
    machine = Machine(opened)
    before = machine.remembered()
    running = machine.running() if before else {}
    rows, is_sound = _of_store(opened)
    lines = {"store": opened.root, **rows}
    lines["disk"], is_usable = _disk(opened)
    lines["machine"] = (
        ", ".join(f"{name} {'up' if name in running else 'DOWN'}" for name in SERVICES)
        if before
        else "not started; `llm4cdsr up` starts it"
    )
    if before:
        lines["UI"] = f"http://127.0.0.1:{before.port}"
        lines["dumps"] = before.dumps or "unknown"
        if "server" in running:
            lines["runs"] = _runs(Machine(opened, before.port or machine.port))
    if alerts := _alerts(opened):
        lines["alerts"] = alerts
    for name, text in lines.items():
        table.add_row(Text(name, "bold"), Text(text))
    terminal.out.print(table)
    is_down = before and len(running) < len(SERVICES)
    if is_down or alerts or not (is_sound and is_usable):
        raise typer.Exit(1)


def _disk(store: Store) -> tuple[str, bool]:
    """Returns the state of the store's disk, and whether runs can write there."""
    fault, free = write_fault(store), free_bytes(store)
    if fault is not None:
        return f"CANNOT BE WRITTEN: {fault.strerror}", False
    if free < FULL:
        return f"FULL: {free / 1e6:,.1f} MB free; `llm4cdsr store gc` frees space", False
    return f"{free / 1e9:,.1f} GB free", True


def _of_store(store: Store) -> tuple[dict[str, str], bool]:
    """Returns rows about served release, decisions and refresh, and whether all are sound."""
    if (cut := interruption(store)) is not None:
        return {"served": f"UNKNOWN: {cut}; until then runs are refused"}, False
    try:
        serving, entries = serving_release(store), history(store)
    except HistoryDamagedError as damage:
        return {"served": f"UNKNOWN: {damage}"}, False
    lines, is_sound = {"served": NOTHING}, True
    if serving:
        lines["served"], is_sound = _release(store, serving)
    if entries:
        newest = entries[-1]
        when = f"{newest.at:%Y-%m-%d %H:%M} UTC, {_ago(newest.at)}"
        lines["last decision"] = f"{newest.decision} {newest.release.fingerprint} ({when})"
    try:
        if (refreshed := store.pointed(REFRESHED)) is not None:
            made = store.manifest(refreshed).created
            when = f"{made:%Y-%m-%d %H:%M} UTC, {_ago(made)}"
            lines["last refresh"] = f"{refreshed.fingerprint} ({when})"
    except ArtifactError as fault:
        lines["last refresh"], is_sound = f"DAMAGED: {fault.args[0]}", False
    return lines, is_sound


def _release(store: Store, release: ArtifactRef) -> tuple[str, bool]:
    """Returns a line with a release's age and quality, or its damage, and whether it is sound."""
    if fault := fault_of_release(store, release):
        remedy = "`llm4cdsr rollback` serves the previous release, or run `llm4cdsr retrain`"
        return f"{release.fingerprint}, DAMAGED: {fault}; {remedy}", False
    try:
        made = store.manifest(release).created
        figure = figure_of(store, parts_of(store, release))
        earlier = earlier_schemas(store, release)
    except ArtifactError as error:
        return f"{release.fingerprint}, DAMAGED: {error.args[0]}", False
    age = f"made {made:%Y-%m-%d %H:%M} UTC ({_ago(made)})"
    told = f"; {earlier}: {RENEW}" if earlier else ""
    return f"{release.fingerprint}, {age}, {figure}{told}", True


def _alerts(store: Store) -> str:
    """Returns the number of undelivered alerts, and the oldest of them."""
    found = waiting(store)
    if not found:
        return ""
    oldest = found[0]
    return (
        f"{len(found):,} NOT DELIVERED, the oldest from {oldest.at:%Y-%m-%d %H:%M} UTC: "
        f"{oldest.document['text']}; `llm4cdsr test-webhook` shows the cause"
    )


def _runs(machine: "Machine") -> str:
    """Returns the latest runs of the pipeline's flows on the server, a line each."""
    from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    flows = {"name": {"any_": ["pipeline", "refresh", "retrain"]}}
    started = {"start_time": {"is_null_": False}, "parent_task_run_id": {"is_null_": True}}
    try:
        with machine.client() as client:
            found = client.read_flow_runs(
                flow_filter=FlowFilter.model_validate(flows),
                flow_run_filter=FlowRunFilter.model_validate(started),
                sort=FlowRunSort.START_TIME_DESC,
                limit=SHOWN_RUNS,
            )
    except httpx.HTTPError as error:
        return f"the server does not answer ({type(error).__name__}); see {machine.folder}"
    return "\n".join(_run(run) for run in found) or "none yet"


def _run(run: "FlowRun") -> str:
    """Returns name, start, state and cause of a run."""
    from tasks.alerts.webhook import cause_of

    began = f" ({run.start_time:%Y-%m-%d %H:%M} UTC)" if run.start_time else ""
    cause = cause_of(run.state) if run.state else ""
    return f"{run.name}{began}: {run.state_name}{f', {cause}' if cause else ''}"


def _ago(moment: datetime) -> str:
    minutes = int((datetime.now(UTC) - moment).total_seconds() // 60)
    for size, unit in ((1440, "days"), (60, "hours")):
        if minutes >= 2 * size:
            return f"{minutes // size} {unit} ago"
    return "just now" if minutes < 2 else f"{minutes} minutes ago"
