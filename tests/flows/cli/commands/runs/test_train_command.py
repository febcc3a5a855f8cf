"""`llm4cdsr train`, alone and by two real processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from artifacts.manifest import Kind
from artifacts.store import Store
from flows.cli.command_table import app
from model.config import load_preset
from tasks.train import TrainingConfig
from tests.tasks.shops.prepared_training import PreparedTraining

QUICK = ("--preset", "paper", "--epochs", "2", "--device", "cpu")


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedTraining:
    made = PreparedTraining(Store(tmp_path / "store"), hidden=load_preset("paper").model.hidden)
    made.point_refresh()
    return made


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A command in this process takes over the signals, which are the test run's."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_two_processes_leave_the_model_that_a_retrain_then_finds(
    prepared: PreparedTraining, tmp_path: Path
) -> None:
    rendezvous = ("--nnodes=1", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0")
    torchrun = (sys.executable, "-m", "torch.distributed.run", *rendezvous)
    command = (*torchrun, "--local-addr=127.0.0.1", "--nproc-per-node=2", "-m", "flows.cli.entry")
    done = subprocess.run(
        [*command, "train", *QUICK, "--store", prepared.store.root],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[5]),
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            "COLUMNS": "160",
        },
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes, each on cpu" in done.stderr
    assert done.stdout.count("Model: ") == 1
    (model,) = prepared.store.artifacts(Kind.MODEL)
    assert model.counts["epochs"] == 2
    same = TrainingConfig(preset="paper", overrides={"train": {"max_epochs": 2}})
    found = prepared.trained(same)
    assert found.reused
    assert found.ref.fingerprint == model.fingerprint
    assert not list((prepared.store.local / "work").glob("train-*"))


def test_one_process_trains_too_and_says_what_the_tables_take(prepared: PreparedTraining) -> None:
    done = CliRunner().invoke(app, ["train", *QUICK, "--store", prepared.store.root])
    assert done.exit_code == 0, done.output
    assert len(prepared.store.artifacts(Kind.MODEL)) == 1


def test_a_store_without_a_refresh_is_told_to_run_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["train", *QUICK, "--store", str(tmp_path / "empty")])
    assert done.exit_code != 0
    assert "llm4cdsr refresh" in str(done.exception)


def test_torchrun_of_a_whole_flow_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    done = CliRunner().invoke(app, ["retrain", "--store", str(tmp_path)], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "flows.cli.entry train" in done.output
