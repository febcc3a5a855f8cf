"""Events name their store: what one store tells starts nothing in another."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.objects import State

from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from artifacts.store_notes import store_id
from flows.operating import SKIPPED
from flows.pipeline import pipeline
from flows.refresh import refresh
from flows.retrain import retrain
from flows.watch import watch
from tasks.alerts import announcements
from tasks.dump.sources.dump_watch import LandedDump

DEPLOYMENTS = Path(__file__).parents[2] / "prefect.yaml"
FLOWS = {"refresh": refresh, "retrain": retrain, "pipeline": pipeline, "watch": watch}
DUMP = LandedDump(folder="d", interactions="d/i.csv", items="d/items.csv", checksum="0" * 64)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    resources: list[dict[str, str]] = []
    monkeypatch.setattr(announcements, "_deliver", lambda event, about: resources.append(about))
    return resources


def test_a_store_has_one_name_from_every_path_and_no_other_store_has_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (tmp_path / "mounted").symlink_to(tmp_path / "store")
    assert store_id(store) == store_id(store) == store_id(Store(tmp_path / "mounted"))
    assert store_id(Store(tmp_path / "other")) != store_id(store)


def test_every_event_names_the_store_that_it_is_of(
    tmp_path: Path, told: list[dict[str, str]]
) -> None:
    store = Store(tmp_path / "store")
    announcements.announce_dump(store, DUMP)
    announcements.announce_refresh(store, ArtifactRef(kind=Kind.REFRESH, fingerprint="1"), "name")
    assert [about["store"] for about in told] == [store_id(store)] * 2


def test_every_deployment_that_an_event_starts_is_told_the_store_of_the_event() -> None:
    deployments: list[dict[str, Any]] = yaml.safe_load(DEPLOYMENTS.read_text("utf-8"))[
        "deployments"
    ]
    started = 0
    for deployment in deployments:
        for trigger in deployment.get("triggers", []):
            given = trigger["parameters"]
            assert given["of_store"] == "{{ event.resource.store }}"
            assert set(given) <= set(inspect.signature(FLOWS[deployment["name"]].fn).parameters)
            started += 1
    assert started == 2


@pytest.mark.parametrize("started", [retrain, pipeline])
def test_a_run_that_another_stores_event_started_ends_at_once_and_touches_nothing(
    tmp_path: Path, started: Any
) -> None:
    mine, other = Store(tmp_path / "mine"), Store(tmp_path / "other")
    store_id(mine)
    before = sorted(mine.local.rglob("*"))
    ended: State[Any] = started.fn(store=mine.root, of_store=store_id(other))
    assert (ended.is_completed(), ended.name) == (True, SKIPPED)
    assert mine.root in str(ended.message)
    assert sorted(mine.local.rglob("*")) == before


def test_the_stores_own_events_start_a_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for own in (store_id(store), None, ""):
        with pytest.raises(LookupError, match="has no refresh"):
            retrain.fn(store=store.root, of_store=own)
