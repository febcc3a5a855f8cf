"""The work pool and the automations of a Prefect server."""

from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound

from flows.server.machine_worker import REPOSITORY

POOL = "llm4cdsr"
AUTOMATIONS = REPOSITORY / "flows" / "automations.yaml"


def make_pool(
    client: SyncPrefectClient,
    pool_type: str,
    template: dict[str, Any],
    queues: tuple[str, ...] = (),
) -> None:
    """Creates the work pool and its queues; replaces the template of an existing pool, whose type
    cannot be changed."""
    try:
        client.read_work_pool(POOL)
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))
    except ObjectNotFound:
        made = WorkPoolCreate(name=POOL, type=pool_type, base_job_template=template)
        client.create_work_pool(made)
    there = {queue.name for queue in client.read_work_queues(work_pool_name=POOL)}
    for name in queues:
        if name not in there:
            client.create_work_queue(name=name, work_pool_name=POOL)


def missing_automations(client: SyncPrefectClient) -> list[str]:
    """Returns the automations that the server lacks."""
    wanted = yaml.safe_load(AUTOMATIONS.read_text(encoding="utf-8"))["automations"]
    names = [automation["name"] for automation in wanted]
    return [name for name in names if not client.read_automations_by_name(name)]
