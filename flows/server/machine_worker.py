"""The worker of one machine: it runs the flows of this package only, and ignores execution settings
of the Prefect API.

Prefect's own process worker takes command, environment, working directory and entry point from job
variables, work pool and deployment, and runs a deployment's pull steps, for hooks also in its own
process. Write access to the API would therefore allow command execution as the operator.

Started as ``python -P -m flows.server.machine_worker POOL NAME [QUEUE …]``.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import anyio
import anyio.abc
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import Flow as FlowRecord
from prefect.client.schemas.objects import FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.runner._flow_run_executor import FlowRunExecutorContext
from prefect.runner._process_manager import ProcessHandle
from prefect.runner._starter_engine import EngineCommandStarter
from prefect.utilities.processutils import command_to_string
from prefect.workers.base import BaseWorker
from prefect.workers.process import (
    ProcessJobConfiguration,
    ProcessVariables,
    ProcessWorkerResult,
)

REPOSITORY = Path(__file__).parents[2]
FLOWS = {
    name: f"{REPOSITORY}/flows/{name}.py:{name}"
    for name in ("refresh", "retrain", "pipeline", "watch")
}
"""Allowed flows by name of the deployment."""

ENTRYPOINT = "PREFECT__FLOW_ENTRYPOINT"
DEFAULTS = {
    # Idle OpenMP threads must not spin, because this starves other processes.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "1000",
    # Stages with an endpoint that is down are retried after 1, 5 and 15 minutes.
    "LLM4CDSR_STAGE_RETRIES": "3",
    "LLM4CDSR_FLOW_TIMEOUT_HOURS": "24",
    # Runs send heartbeats; runs without are marked Crashed (automations.yaml).
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "llm4cdsr",
}
"""Default environment of a run; the worker's takes precedence."""

# Runs log to the server, because writing to the pipe of a killed worker would end a run.
FIXED = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
COMMAND = [sys.executable, "-P", "-m", "flows.server.flow_run_process"]
POOL_TEMPLATE = {
    "job_configuration": {"stream_output": True},  # Required, but not used.
    "variables": {"type": "object", "properties": {}, "additionalProperties": False},
}
"""Job template without variables: the API refuses runs or deployments that set one."""


class NotOurFlowError(ValueError):
    """The run's deployment is unknown on this machine."""


class MachineJob(ProcessJobConfiguration):
    """Start of a run as defined here, independent of job variables and work pool."""

    @classmethod
    async def from_template_and_values(
        cls,
        base_job_template: dict[str, Any],
        values: dict[str, Any],
        client: PrefectClient | None = None,
    ) -> Self:
        """Returns the fixed job, ignoring template and values."""
        return cls(env=run_environment(os.environ), working_dir=REPOSITORY)

    def prepare_for_flow_run(
        self,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None = None,
        flow: FlowRecord | None = None,
        work_pool: WorkPool | None = None,
        worker_name: str | None = None,
        worker_id: UUID | None = None,
    ) -> None:
        """Selects the flow; raises `NotOurFlowError`."""
        super().prepare_for_flow_run(flow_run, deployment, flow, work_pool, worker_name, worker_id)
        name = deployment.name if deployment else None
        if name not in FLOWS:
            raise NotOurFlowError(
                f"this machine runs {', '.join(FLOWS)}, and not the deployment {name!r}; start a "
                "worker of your own for it, on another work pool"
            )
        self.env[ENTRYPOINT] = FLOWS[name]


class MachineWorker(BaseWorker[MachineJob, ProcessVariables, ProcessWorkerResult]):
    """Runs the flows of this package, each in its own process."""

    type = "llm4cdsr"
    job_configuration = MachineJob
    job_configuration_variables = ProcessVariables
    _display_name = "LLM4CDSR"
    _description = "Runs the flows of LLM4CDSR on this machine; its jobs have no variables."

    async def run(
        self,
        flow_run: FlowRun,
        configuration: MachineJob,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Executes a flow run; hooks of crashed or cancelled runs are executed here."""
        entrypoint = configuration.env[ENTRYPOINT]
        assert entrypoint is not None

        async def our_flow(_: FlowRun) -> Flow[..., Any]:  # pyright: ignore[reportExplicitAny]
            return load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)

        async with FlowRunExecutorContext() as context:
            starter = EngineCommandStarter(
                command=command_to_string(COMMAND),
                cwd=REPOSITORY,
                env=configuration.env,
                control_channel=context.control_channel,
                env_overrides_settings=True,
            )
            executor = context.create_executor(
                flow_run, starter, resolve_flow=our_flow, propose_submitting=False
            )
            result = await executor.submit(task_status=_ProcessId(task_status))
        if result is None or result.status_code is None:
            raise RuntimeError("the process of the run did not start")
        return ProcessWorkerResult(
            status_code=result.status_code, identifier=str(result.handle.pid)
        )


class _ProcessId(anyio.abc.TaskStatus[ProcessHandle]):
    """Reports the process id of a handle to the worker."""

    def __init__(self, worker: anyio.abc.TaskStatus[int] | None) -> None:
        self._worker = worker

    def started(self, value: ProcessHandle | None = None) -> None:
        if self._worker is not None and value is not None and value.pid is not None:
            self._worker.started(value.pid)


def run_environment(worker: Mapping[str, str]) -> dict[str, str | None]:
    """Returns the environment of a run, given the worker's."""
    return {**DEFAULTS, **worker, **FIXED}


def worker_command(pool: str, name: str) -> list[str]:
    """Returns the command that starts the worker."""
    return [sys.executable, "-P", "-m", __name__, pool, name]


if __name__ == "__main__":
    asyncio.run(
        MachineWorker(
            work_pool_name=sys.argv[1],
            name=sys.argv[2],
            work_queues=sys.argv[3:] or None,
            create_pool_if_not_found=False,
        ).start()
    )
