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
from typing import Annotated

import fsspec
import typer
from prefect.client.orchestration import get_client

from flows.server.machine_worker import POOL_TEMPLATE, REPOSITORY, MachineWorker
from flows.server.work_pool import AUTOMATIONS, make_pool, missing_automations
from flows.settings import Settings

QUEUES = ("cpu", "gpu")
RETRAIN_QUEUE = "RETRAIN_QUEUE"
DEPLOYMENTS = REPOSITORY / "deploy" / "prefect.yaml"


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
        make_pool(client, pool_type, template, QUEUES)
    _prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS))
    with get_client(sync_client=True) as client:
        missing = missing_automations(client)
    if missing:
        _prefect("automation", "create", "--from-file", str(AUTOMATIONS))


def make_bucket(store: str) -> None:
    """Creates the bucket of a store's URL, if missing."""
    files, place = fsspec.core.url_to_fs(store)
    files.makedirs(place.split("/")[0], exist_ok=True)


def _prefect(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "prefect", *arguments], cwd=REPOSITORY, check=True)


if __name__ == "__main__":
    typer.run(main)
