"""Alerts wait in the store of their run, and of an ordered run in the machine's."""

import uuid
from pathlib import Path

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.server.end_hooks import store_of
from flows.server.run_parameters import FLOW_RUN_VARIABLE


def test_no_parameter_of_an_ordered_run_names_the_place_of_its_alerts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, other = str(tmp_path / "machine"), str(tmp_path / "other")
    monkeypatch.setenv("LLM4CDSR_STORE", machine)
    run = FlowRun(flow_id=uuid.uuid4(), parameters={"store": other})
    assert store_of(run).root == other
    assert store_of(FlowRun(flow_id=uuid.uuid4())).root == machine
    monkeypatch.setenv(FLOW_RUN_VARIABLE, str(run.id))
    assert store_of(run).root == machine
