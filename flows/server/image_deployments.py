"""Deployments for images, on a Prefect server: ``python -m flows.server.image_deployments``.

Creates or updates the work pool ``llm4cdsr`` with the queues ``cpu`` and ``gpu``, the deployments
of ``deploy/prefect.yaml``, the automations of ``flows/automations.yaml`` (idempotent).
``PREFECT_API_URL`` and ``PREFECT_API_AUTH_STRING`` name the server; RETRAIN_QUEUE (``cpu``, its
default, or ``gpu``) is the queue of training.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import fsspec
import typer
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound

from flows.server.machine_worker import POOL_TEMPLATE, REPOSITORY, MachineWorker
from flows.settings import Settings

POOL = "llm4cdsr"
QUEUES = ("cpu", "gpu")
RETRAIN_QUEUE = "RETRAIN_QUEUE"
DEPLOYMENTS = REPOSITORY / "deploy" / "prefect.yaml"
AUTOMATIONS = REPOSITORY / "flows" / "automations.yaml"


def main(
    pool_type: Annotated[
        str, typer.Option(help="Type of the work pool; kubernetes also needs a template.")
    ] = MachineWorker.type,
    pool_template: Annotated[
        Path | None, typer.Option(help="Base job template, as deploy/kubernetes-pool.json.")
    ] = None,
    bucket: Annotated[
        bool, typer.Option("--bucket", help="Make the bucket of LLM4CDSR_STORE if it is missing.")
    ] = False,
) -> None:
    """Create or update pool, queues, deployments and automations."""
    queue = os.environ.setdefault(RETRAIN_QUEUE, QUEUES[0])
    if queue not in QUEUES:
        raise SystemExit(f"{RETRAIN_QUEUE}={queue!r} is none of {', '.join(QUEUES)}")
    if bucket:
        make_bucket(Settings().store)
    template = POOL_TEMPLATE if pool_template is None else json.loads(pool_template.read_text())
    with get_client(sync_client=True) as client:
        make_pool(client, pool_type, template)
    _prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS))
    with get_client(sync_client=True) as client:
        missing = missing_automations(client)
    if missing:
        _prefect("automation", "create", "--from-file", str(AUTOMATIONS))


def make_bucket(store: str) -> None:
    """Creates the bucket of a store's URL, if missing."""
    files, place = fsspec.core.url_to_fs(store)
    files.makedirs(place.split("/")[0], exist_ok=True)


def make_pool(client: SyncPrefectClient, pool_type: str, template: dict[str, Any]) -> None:
    """Creates the work pool and its queues; replaces the template of an existing pool."""
    try:
        client.read_work_pool(POOL)
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))
    except ObjectNotFound:
        made = WorkPoolCreate(name=POOL, type=pool_type, base_job_template=template)
        client.create_work_pool(made)
    there = {queue.name for queue in client.read_work_queues(work_pool_name=POOL)}
    for name in QUEUES:
        if name not in there:
            client.create_work_queue(name=name, work_pool_name=POOL)


def missing_automations(client: SyncPrefectClient) -> list[str]:
    """Returns the automations that the server lacks."""
    wanted = yaml.safe_load(AUTOMATIONS.read_text(encoding="utf-8"))["automations"]
    names = [automation["name"] for automation in wanted]
    return [name for name in names if not client.read_automations_by_name(name)]


def _prefect(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "prefect", *arguments], cwd=REPOSITORY, check=True)


if __name__ == "__main__":
    typer.run(main)
