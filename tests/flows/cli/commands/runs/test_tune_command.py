"""`llm4cdsr tune` by real processes: killed, continued, and its file trained on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from artifacts.store import Store
from flows.cli.options.training_options import FitOptions, training_config
from tests.tasks.shops.prepared_training import PreparedTraining

SMALL = [f"--set={field}" for field in ("model.hidden=8", "model.heads=2", "model.blocks=1")]
ROOT = Path(__file__).parents[5]
needs_optuna = pytest.mark.skipif(find_spec("optuna") is None, reason="the extra 'tune' is missing")


def command(store: Store, output: Path, trials: int) -> list[str]:
    begin = [sys.executable, "-m", "llm4cdsr", "tune", "--preset", "single", "--device", "cpu"]
    quick = ["--set", "train.max_epochs=3", "--time-budget", "10m", "--workers", "2"]
    where = ["--store", store.root, "--output", str(output), "--trials", str(trials)]
    return [*begin, *SMALL, *quick, *where]


def environment(*folders: Path) -> dict[str, str]:
    path = os.pathsep.join(map(str, (*folders, ROOT)))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def workers_of(store: Store) -> list[int]:
    """Ids of the running workers of a store's search."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):  # It ended meanwhile.
            continue
        if "tasks.tuning.trial_worker" in words and any(store.root in word for word in words):
            found.append(int(place.name))
    return found


def until(holds: Callable[[], bool], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


@needs_optuna
def test_a_killed_search_leaves_no_worker_and_continues_without_repeating_a_trial(
    store: Store, tmp_path: Path
) -> None:
    PreparedTraining(store).point_refresh()
    output, work = tmp_path / "tuned.toml", store.local / "work"
    first = subprocess.Popen(
        command(store, output, 1_000),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: len(list(work.glob("tune-*/gains-*"))) >= 3 or first.poll() is not None)
        assert first.poll() is None
        first.send_signal(signal.SIGKILL)
        first.wait()
        until(lambda: not workers_of(store))
    finally:
        first.kill()
    (folder,) = work.glob("tune-*")
    measured = {path.name: path.stat().st_mtime_ns for path in folder.glob("gains-*")}
    assert not output.exists()

    wanted = len(measured) + 3
    again = subprocess.run(
        command(store, output, wanted),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stdout + again.stderr
    (folder,) = work.glob("tune-*")
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("gains-*")}
    assert {name: after[name] for name in measured} == measured
    assert "gains-0.f8" in measured, "the base is measured first"
    assert "Next: llm4cdsr retrain --preset" in again.stdout
    assert "validation users" in again.stdout
    assert not workers_of(store)
    assert not list(folder.glob("trial-*/*")) or len(after) < wanted
    # Four users decide nothing: the file holds the base.
    made = training_config(FitOptions(preset=str(output), device="cpu")).resolved()
    base = training_config(
        FitOptions(
            preset="single",
            replaced=["model.hidden=8", "model.heads=2", "model.blocks=1", "train.max_epochs=3"],
            device="cpu",
        )
    ).resolved()
    assert made == base


def test_without_optuna_a_message_says_how_to_install_it(store: Store, tmp_path: Path) -> None:
    PreparedTraining(store).point_refresh()
    (tmp_path / "optuna.py").write_text("raise ImportError('not installed')", "utf-8")
    done = subprocess.run(
        command(store, tmp_path / "tuned.toml", 2),
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "pip install 'llm4cdsr[tune]'" in " ".join((done.stdout + done.stderr).split())


@needs_optuna
@pytest.mark.parametrize("output", ["tuned.json", "no/such/folder/tuned.toml"])
def test_an_output_that_cannot_be_a_preset_is_refused_first(
    store: Store, tmp_path: Path, output: str
) -> None:
    done = subprocess.run(
        command(store, tmp_path / output, 2),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "--output" in done.stdout + done.stderr
