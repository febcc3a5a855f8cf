"""Changes that a person made to deployments in the Prefect UI, which outlive `up`.

`up` deploys `prefect.yaml` again, which resets parameters, schedules, pauses and triggers. What
differs from the last deployment was changed by a person, and is set again afterwards.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import WorkPoolFilter
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from pydantic import Field, JsonValue

from artifacts.files.durable import write_atomically
from artifacts.strict import Strict

FIELDS = ("parameters", "schedules", "paused")


class Changeable(Strict):
    """Fields of a deployment that a person may change; None: as deployed."""

    parameters: dict[str, JsonValue] | None = None
    schedules: list[dict[str, JsonValue]] | None = None
    paused: bool | None = None

    def without(self, other: "Changeable") -> "Changeable":
        """Returns the fields that differ from ``other``."""
        changed = {name for name in FIELDS if getattr(self, name) != getattr(other, name)}
        return Changeable.model_validate(self.model_dump(include=changed))


class Edits(Strict):
    """Deployments by name as last deployed, their edits, and names of disabled triggers. ``edits``
    is empty once they are set again; a killed `up` leaves them to the next."""

    deployed: dict[str, Changeable] = Field(default_factory=dict)
    edits: dict[str, Changeable] = Field(default_factory=dict)
    disabled: list[str] = Field(default_factory=list)


@contextmanager
def edits_kept(
    client: SyncPrefectClient, pool: str, path: Path, reset: frozenset[str] = frozenset()
) -> Iterator[list[str]]:
    """Sets the edits of a pool's deployments again after a block that deploys them; yields a list
    to which it adds a sentence for each.

    Args:
        client: of the server.
        pool: name of the work pool.
        path: file of the state, made if need be.
        reset: names of deployments whose edits are dropped.
    """
    told: list[str] = []
    last = Edits.model_validate_json(path.read_bytes()) if path.exists() else Edits()
    edits = dict(last.edits)
    for name, each in _deployments(client, pool).items():
        edit = changeable(each).without(last.deployed.get(name, Changeable()))
        if edit != Changeable():
            edits[name] = edit
    disabled = {each.name for each in client.read_automations() if not each.enabled}
    disabled.update(last.disabled)
    pending = Edits(deployed=last.deployed, edits=edits, disabled=sorted(disabled))
    write_atomically(path, pending.model_dump_json().encode())
    yield told
    deployments = _deployments(client, pool)
    fresh = {name: changeable(each) for name, each in deployments.items()}
    for name, each in deployments.items():
        if name not in reset and name in edits:
            told += [f"{name}: {field}" for field in _set(client, each, edits[name])]
    for each in client.read_automations():
        if each.enabled and each.name in disabled:
            client.pause_automation(each.id)
            told.append(f"{each.name}: disabled")
    write_atomically(path, Edits(deployed=fresh).model_dump_json().encode())


def changeable(deployment: DeploymentResponse) -> Changeable:
    """Returns the fields of a deployment that a person may change."""
    return Changeable(
        parameters=deployment.parameters,
        schedules=[
            {
                "schedule": each.schedule.model_dump(mode="json", exclude={"anchor_date"}),
                "active": each.active,
            }
            for each in deployment.schedules
        ],
        paused=deployment.paused,
    )


def _set(
    client: SyncPrefectClient, deployment: DeploymentResponse, edit: Changeable
) -> Iterator[str]:
    """Sets the fields that an edit changes; yields their names."""
    wanted = edit.without(changeable(deployment))
    if wanted.parameters is not None:
        update = DeploymentUpdate(parameters=wanted.parameters)
        client.update_deployment(deployment.id, update)
        yield "parameters"
    if wanted.schedules is not None:
        for each in deployment.schedules:
            client.delete_deployment_schedule(deployment.id, each.id)
        given = [DeploymentSchedule.model_validate(each) for each in wanted.schedules]
        client.create_deployment_schedules(
            deployment.id, [(each.schedule, each.active) for each in given]
        )
        yield "schedules"
    if wanted.paused is not None:
        client.update_deployment(deployment.id, DeploymentUpdate(paused=wanted.paused))
        yield "paused" if wanted.paused else "not paused"


def _deployments(client: SyncPrefectClient, pool: str) -> dict[str, DeploymentResponse]:
    wanted = WorkPoolFilter.model_validate({"name": {"any_": [pool]}})
    return {each.name: each for each in client.read_deployments(work_pool_filter=wanted)}
