"""How flows run on this machine: task runner, retries, time limit, who is told of the end.

Read from ``LLM4CDSR_<FIELD>`` once, when a flow is defined: a worker gives them to the runs that
it starts, and a run's parameters never hold them.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ParamSpec, TypeVar, cast

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from artifacts.remote.url_credentials import put_aside
from artifacts.store import Store
from artifacts.store_notes import store_id
from artifacts.user_error import UserError
from flows.unrecorded import note_end
from tasks.frame.shown_logs import hide_credentials_in_logs
from tasks.llm.client.stop import EndpointDownError
from tasks.llm.settings.budget import Budget, BudgetNeedsThreadsError
from tasks.llm.shards.shard import SHARDS_IN_FLIGHT

RETRY_SECONDS = (60.0, 300.0, 900.0)
"""From an outage to the next try of a stage: a restart, a maintenance window, a long one."""


SKIPPED = "Skipped"
"""The name of the state in which a run ends that an event of another store has started."""

AnyTask = Task[..., Any]  # pyright: ignore[reportExplicitAny]
P = ParamSpec("P")
R = TypeVar("R")


class TaskRunnerName(StrEnum):
    """Where shards run: threads of the run's process, or processes of a Dask or Ray cluster."""

    THREADS = "threads"
    DASK = "dask"
    RAY = "ray"


class MissingTaskRunnerError(UserError, RuntimeError):
    """The configured task runner is not installed."""


class OperatingSettings(BaseSettings):
    """What a machine decides, not a run."""

    model_config = SettingsConfigDict(env_prefix="LLM4CDSR_", env_file=".env", extra="ignore")

    dumps: Annotated[str, AfterValidator(put_aside)] = Field(
        default="dumps", description="Folder, or fsspec URL, that dumps land in."
    )
    task_runner: TaskRunnerName = TaskRunnerName.THREADS
    task_runner_address: str | None = Field(
        default=None, description="Of a Dask scheduler or Ray head; without it a local cluster."
    )
    task_runner_processes: int = Field(
        default=SHARDS_IN_FLIGHT, ge=1, description="Of a local Dask or Ray cluster."
    )
    stage_retries: int = Field(
        default=0, ge=0, le=len(RETRY_SECONDS), description="Of a stage whose endpoint is down."
    )
    keep_releases: int | None = Field(
        default=None,
        ge=1,
        description="Clean the store after each refresh and release, but for so many releases; "
        "unset, only `llm4cdsr store gc` deletes anything.",
    )
    keep_runs_days: int = Field(
        default=90, ge=1, description="Of `up`: older runs leave its server's database."
    )
    flow_timeout_hours: float | None = Field(
        default=None, gt=0, description="A run that takes longer is ended and fails."
    )

    @property
    def flow_timeout_seconds(self) -> float | None:
        """What `prefect.flow` takes."""
        if self.flow_timeout_hours is None:
            return None
        return timedelta(hours=self.flow_timeout_hours).total_seconds()


OPERATING = OperatingSettings()
hide_credentials_in_logs()


def task_runner(settings: OperatingSettings) -> TaskRunner[Any]:  # pyright: ignore[reportExplicitAny]
    """Returns the task runner that the environment chose.

    Raises:
        MissingTaskRunnerError: its package is not installed.
    """
    name = settings.task_runner
    try:
        match name:
            case TaskRunnerName.THREADS:
                return ThreadPoolTaskRunner(max_workers=SHARDS_IN_FLIGHT)
            case TaskRunnerName.DASK:
                return _dask(settings)
            case TaskRunnerName.RAY:
                return _ray(settings)
    except ImportError as error:
        raise MissingTaskRunnerError(
            f"LLM4CDSR_TASK_RUNNER={name}, and prefect-{name} is not installed: "
            f".venv/bin/pip install 'llm4cdsr[{name}]', or set it to threads"
        ) from error


def refuse_budget_elsewhere(settings: OperatingSettings, budget: Budget) -> None:
    """Raises `BudgetNeedsThreadsError`: what is spent is counted in the run's process only."""
    if settings.task_runner is not TaskRunnerName.THREADS and budget != Budget():
        raise BudgetNeedsThreadsError(
            f"a budget cannot hold back shards in other processes; set LLM4CDSR_TASK_RUNNER="
            f"threads (it is {settings.task_runner}), or look at the cost with --dry-run and leave "
            "out the limits (--max-usd, --max-tokens, --max-requests)"
        )


def patient(stage: Task[P, R]) -> Task[P, R]:
    """Returns a stage that is tried again, as often as the environment says, after an outage."""
    return stage.with_options(
        retries=OPERATING.stage_retries,
        retry_delay_seconds=list(RETRY_SECONDS[: OPERATING.stage_retries]) or 0,
        retry_condition_fn=is_outage,
    )


def is_outage(task: AnyTask, run: TaskRun, state: State) -> bool:
    """A retry condition: only a server that went away may be back later."""
    return isinstance(state.result(raise_on_failure=False), EndpointDownError)


def ended(value: R, message: str, name: str | None = None) -> R:
    """Returns what a flow returns to end in a state with a message, or a name, of its own.

    Prefect takes a returned state as the run's, and gives whoever called the flow its data: hence
    the type.
    """
    note_end(value)
    return cast(R, Completed(data=value, message=message, name=name))


def is_for(store: Store, of_store: str | None) -> bool:
    """Returns whether the event that started a run, if one did, tells of this store."""
    return not of_store or of_store == store_id(store)


def skipped(result: type[R], store: Store) -> R:
    """Returns what a flow returns to end as `SKIPPED`: an event of another store started it.

    A run that no event started gives a ``result``: hence the type.
    """
    message = (
        f"nothing to do: the event is of another store than {store.root}, in which this "
        "machine works"
    )
    return cast(R, Completed(message=message, name=SKIPPED))


def _dask(settings: OperatingSettings) -> TaskRunner[Any]:  # pyright: ignore[reportExplicitAny]
    from prefect_dask.task_runners import DaskTaskRunner  # pyright: ignore[reportMissingImports]

    if settings.task_runner_address:
        return DaskTaskRunner(address=settings.task_runner_address)
    local = {
        "n_workers": settings.task_runner_processes,
        "threads_per_worker": 1,
        "dashboard_address": None,
    }
    return DaskTaskRunner(cluster_kwargs=local)


def _ray(settings: OperatingSettings) -> TaskRunner[Any]:  # pyright: ignore[reportExplicitAny]
    from prefect_ray.task_runners import RayTaskRunner  # pyright: ignore[reportMissingImports]

    if settings.task_runner_address:
        return RayTaskRunner(address=settings.task_runner_address)
    local = {"num_cpus": settings.task_runner_processes, "include_dashboard": False}
    return RayTaskRunner(init_kwargs=local)
