"""What a person changed in the Prefect UI is still there after the next `up`."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import DoNothing
from prefect.events.schemas.automations import AutomationCore, EventTrigger

from flows.server.deployment_edits import edits_kept

POOL = "a-pool"
TRIGGER = "starts something"
INTERRUPTED = "interrupted"


@flow(name="deployed")
def body() -> None:
    """A flow."""


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as opened:
        opened.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        yield opened
        opened.delete_work_pool(POOL)


def deploy(client: SyncPrefectClient, cron: str) -> None:
    """As `prefect deploy` does it."""
    made = client.create_deployment(
        client.create_flow(body), name="nightly", work_pool_name=POOL, parameters={}, paused=False
    )
    for each in client.read_deployment(made).schedules:
        client.delete_deployment_schedule(made, each.id)
    client.create_deployment_schedules(made, [(CronSchedule(cron=cron), True)])
    client.update_deployment(made, DeploymentUpdate(parameters={}, paused=False))
    for each in client.read_automations_by_name(TRIGGER):
        client.delete_automation(each.id)
    trigger = EventTrigger(expect={"x"}, posture="Reactive", threshold=1)  # pyright: ignore
    client.create_automation(AutomationCore(name=TRIGGER, trigger=trigger, actions=[DoNothing()]))


def state(client: SyncPrefectClient) -> tuple[object, ...]:
    found = client.read_deployment_by_name("deployed/nightly")
    (schedule,) = found.schedules
    assert isinstance(schedule.schedule, CronSchedule)
    (trigger,) = client.read_automations_by_name(TRIGGER)
    cron = (schedule.schedule.cron, schedule.active)
    return found.parameters, cron, found.paused, trigger.enabled


def edit(client: SyncPrefectClient) -> tuple[object, ...]:
    """As a person does it in the UI; returns the edited state."""
    found = client.read_deployment_by_name("deployed/nightly")
    (schedule,) = found.schedules
    client.update_deployment_schedule(
        found.id, schedule.id, active=False, schedule=CronSchedule(cron="0 5 * * *")
    )
    client.update_deployment(found.id, DeploymentUpdate(parameters={"folder": "x"}, paused=True))
    (trigger,) = client.read_automations_by_name(TRIGGER)
    client.pause_automation(trigger.id)
    return {"folder": "x"}, ("0 5 * * *", False), True, False


@pytest.fixture
def up(client: SyncPrefectClient, tmp_path: Path) -> Callable[..., list[str]]:
    def deployed(cron: str = "0 3 * * *", reset: frozenset[str] = frozenset()) -> list[str]:
        with edits_kept(client, POOL, tmp_path / "deployed.json", reset) as kept:
            deploy(client, "0 3 * * *" if cron == INTERRUPTED else cron)
            if cron == INTERRUPTED:
                raise KeyboardInterrupt
        return kept

    return deployed


def test_edits_outlive_every_up_until_they_are_taken_back(
    client: SyncPrefectClient, up: Callable[..., list[str]], tmp_path: Path
) -> None:
    assert up() == []
    assert state(client) == ({}, ("0 3 * * *", True), False, True)
    assert up("0 4 * * *") == [], "what nobody changed follows prefect.yaml"
    assert state(client) == ({}, ("0 4 * * *", True), False, True)

    edited = edit(client)
    for _ in range(2):
        assert up("0 2 * * *") == [
            "nightly: parameters",
            "nightly: schedules",
            "nightly: paused",
            f"{TRIGGER}: disabled",
        ]
        assert state(client) == edited
    (tmp_path / "deployed.json").unlink()  # As of a version that did not write it.
    assert len(up()) == 4
    assert state(client) == edited

    with pytest.raises(KeyboardInterrupt):
        up(INTERRUPTED)
    assert state(client) != edited
    assert len(up()) == 4, "a killed `up` loses no edit"
    assert state(client) == edited

    assert up(reset=frozenset({"nightly"})) == [f"{TRIGGER}: disabled"]
    assert state(client) == ({}, ("0 3 * * *", True), False, False)
    assert json.loads((tmp_path / "deployed.json").read_text())["edits"] == {}
