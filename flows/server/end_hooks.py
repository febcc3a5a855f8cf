"""State hooks of flows, which alert the operator."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import FlowStateHook

from artifacts.store import Store
from flows.server.run_parameters import is_started_by_api
from flows.settings import Settings
from tasks.alerts.webhook import AnyFlow, post_end

AnyHook = FlowStateHook[..., Any]  # pyright: ignore[reportExplicitAny]


def with_store(hook: Callable[[Store, AnyFlow, FlowRun, State], None]) -> AnyHook:
    """Returns a state hook that calls a function with the store of the run."""

    def called(flow: AnyFlow, flow_run: FlowRun, state: State) -> None:
        hook(store_of(flow_run), flow, flow_run, state)

    update_wrapper(called, hook)  # Prefect logs the name.
    return called


@with_store
def alert_end(store: Store, flow: AnyFlow, flow_run: FlowRun, state: State) -> None:
    """Alerts the operator of the end of the run."""
    post_end(store, flow.name, flow_run, state)


def store_of(flow_run: FlowRun) -> Store:
    """Returns the store of a run, which holds its undelivered alerts.

    For a run started through the Prefect API it is the machine's store: its parameters could name
    any folder.
    """
    given = None if is_started_by_api() else flow_run.parameters.get("store")
    return Store(given or Settings().store)
