"""Operation of flows on this machine: retries, time limit, alerts.

Read from ``LLM4CDSR_<FIELD>`` when a flow is defined. A worker passes them to its runs; they are
never parameters of a run.
"""

from datetime import timedelta
from typing import Annotated, Any, ParamSpec, TypeVar, cast

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from artifacts.remote.url_credentials import hide_credentials
from artifacts.store import Store
from artifacts.store_notes import store_id
from flows.unrecorded import note_end
from tasks.frame.shown_logs import hide_credentials_in_logs
from tasks.llm.client.stop import EndpointDownError
from tasks.llm.settings.budget import Budget, UnusableBudgetError
from tasks.llm.settings.engine import Engine, EngineSettings
from tasks.llm.shards.shard import SHARDS_IN_FLIGHT

RETRY_SECONDS = (60.0, 300.0, 900.0)
"""Delays in seconds before retries of a stage after an outage: a restart, a short and a long
maintenance window."""


SKIPPED = "Skipped"
"""Name of the final state of a run that was started by an event of another store."""

AnyTask = Task[..., Any]  # pyright: ignore[reportExplicitAny]
P = ParamSpec("P")
R = TypeVar("R")


class OperatingSettings(BaseSettings):
    """Settings of the machine, not of a run."""

    model_config = SettingsConfigDict(env_prefix="LLM4CDSR_", env_file=".env", extra="ignore")

    dumps: Annotated[str, AfterValidator(hide_credentials)] = Field(
        default="dumps", description="Watched folder, or fsspec URL, of dumps."
    )
    dump_wait_hours: float = Field(
        default=6.0,
        gt=0,
        description="Hours after which the dump scan alerts of a folder that is not a complete "
        "dump.",
    )
    stage_retries: int = Field(
        default=0,
        ge=0,
        le=len(RETRY_SECONDS),
        description="Retries of a stage whose endpoint is down.",
    )
    keep_releases: int | None = Field(
        default=None,
        ge=1,
        description="After each refresh and release, delete unneeded artifacts, keeping this "
        "number of previous releases; by default only `llm4cdsr store gc` deletes artifacts.",
    )
    keep_runs_days: int = Field(
        default=90, ge=1, description="Days to keep runs in the database of the server of `up`."
    )
    flow_timeout_hours: float | None = Field(
        default=None, gt=0, description="Time limit of a run in hours."
    )

    @property
    def flow_timeout_seconds(self) -> float | None:
        """Time limit in seconds, for `prefect.flow`."""
        if self.flow_timeout_hours is None:
            return None
        return timedelta(hours=self.flow_timeout_hours).total_seconds()


OPERATING = OperatingSettings()
hide_credentials_in_logs()


def shard_threads() -> TaskRunner[Any]:  # pyright: ignore[reportExplicitAny]
    """Returns the task runner of a flow that asks shards of prompts."""
    return ThreadPoolTaskRunner(max_workers=SHARDS_IN_FLIGHT)


def refuse_budget_elsewhere(settings: EngineSettings, budget: Budget) -> None:
    """Raises `UnusableBudgetError` if prompts are sent by other processes, because spending is
    counted in the run's process only."""
    if settings.engine is not Engine.THREADS and budget != Budget():
        raise UnusableBudgetError(
            "a budget cannot limit prompts that other processes send; set LLM4CDSR_ENGINE="
            f"threads (it is {settings.engine}), or estimate the cost by --dry-run and leave "
            "out the limits (--max-usd, --max-tokens, --max-requests)"
        )


def patient(stage: Task[P, R]) -> Task[P, R]:
    """Returns the stage with retries after an outage, as configured by the environment."""
    return stage.with_options(
        retries=OPERATING.stage_retries,
        retry_delay_seconds=list(RETRY_SECONDS[: OPERATING.stage_retries]) or 0,
        retry_condition_fn=is_outage,
    )


def is_outage(task: AnyTask, run: TaskRun, state: State) -> bool:
    """Retry condition: only an unreachable server may recover."""
    return isinstance(state.result(raise_on_failure=False), EndpointDownError)


def ended(value: R, message: str, name: str | None = None) -> R:
    """Returns a final state with a message or name, to be returned by a flow.

    Prefect uses a returned state as the run's and returns its data to the caller of the flow: hence
    the type.
    """
    note_end(value)
    return cast(R, Completed(data=value, message=message, name=name))


def is_for(store: Store, of_store: str | None) -> bool:
    """Returns whether the event that started a run, if any, belongs to this store."""
    return not of_store or of_store == store_id(store)


def skipped(store: Store) -> State:
    """Returns the final state `SKIPPED` of a run started by an event of another store than this."""
    message = (
        f"nothing to do: the event is of another store than {store.root}, in which this "
        "machine works"
    )
    return Completed(message=message, name=SKIPPED)
