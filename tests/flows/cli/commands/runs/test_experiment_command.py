"""`llm4cdsr experiment`: real processes, killed and repeated, and what they leave to be read."""

import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from benchmarks.preloaded_cli import PreloadedCli
from tasks.demo.demo_dump import write_demo_dump
from tasks.experiments import rank_tables
from tests.flows.server.command_variables import own_variables

GRID = """
title = "two shops"
seeds = [0]
presets = ["paper"]
baselines = ["popularity"]
ablate = ["paper"]
compare = "paper"
candidates = [20]

[[datasets]]
name = "shops"
interactions = "interactions.parquet"
items = "items.parquet"
profile_users = 10
note = "Two made-up shops."

[settings]
train = { max_epochs = 6 }
model = { blocks = 1 }

[ablations."profiles from raw titles"]
profiles = "titles"
"""


@dataclass(frozen=True)
class Experiment:
    """A grid beside its dump, and a store of its own."""

    folder: Path
    commands: PreloadedCli
    database: Path

    def arguments(self, *arguments: str) -> list[str]:
        shared = ("--provider", "dummy", "--store", "store")
        return ["experiment", "grid.toml", *shared, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return {**own_variables(self.folder, self.database), "COLUMNS": "160"}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.commands.run(self.arguments(*arguments), self.folder, self.environment)

    def kept_cells(self) -> dict[str, Path]:
        """The table of each kept cell, by the cell's fingerprint."""
        tables = list(self.folder.glob("kept/ranks-*.parquet"))
        return {key: table for table in tables for key in rank_tables.cells_of(table)}

    def forget(self, *, baseline: bool) -> str:
        """Takes a cell out of what is kept: of a baseline, or of a trained model."""
        for fingerprint, table in self.kept_cells().items():
            cells = rank_tables.cells_of(table)
            if ("baseline" in cells[fingerprint].parameters) is baseline:
                content = pq.read_table(table)
                left = [name for name in content.column_names if fingerprint not in name]
                del cells[fingerprint]
                table.write_bytes(rank_tables.encoded(content.select(left), cells))
                return fingerprint
        raise AssertionError("no such cell is kept")

    def kill_in_training(self) -> None:
        """Starts it and kills it, no signal handler run, once a cell's first epoch is on disk."""
        log = self.folder / "killed.log"
        child = self.commands.start(self.arguments(), self.folder, self.environment, log)
        deadline = time.monotonic() + 400
        while not list(self.folder.glob("store/work/cell-*/training.safetensors")):
            assert child.poll() is None, f"ended with {child.returncode} before it was killed"
            assert time.monotonic() < deadline, "no epoch within the time"
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()


@pytest.fixture
def experiment(tmp_path: Path, commands: PreloadedCli, prefect_database: Path) -> Experiment:
    write_demo_dump(tmp_path, seed=3, users=60, items=80)
    (tmp_path / "grid.toml").write_text(GRID, "utf-8")
    return Experiment(tmp_path, commands, prefect_database)


def test_a_killed_experiment_goes_on_and_a_finished_one_does_nothing(
    experiment: Experiment,
) -> None:
    before = experiment.run("--dry-run")
    assert before.returncode == 0, before.stderr
    assert "two shops: 0 of 4 cells are done" in before.stdout
    assert "missing shops / paper / seed 0" in before.stdout

    experiment.kill_in_training()
    whole = experiment.run("--markdown", "results.md", "--output", "out")
    assert whole.returncode == 0, whole.stderr
    told = (experiment.folder / "results.md").read_text("utf-8")
    assert "**4 of 4 cells are done.**" in told
    assert "\nTwo made-up shops.\n" in told
    assert "Every preset has train.max_epochs = 6; model.blocks = 1 here." in told
    assert "| paper: profiles from raw titles | 1 |" in told
    results = pl.read_parquet(experiment.folder / "out" / "results.parquet")
    assert results["ranking"].unique().sort().to_list() == ["20", "full"]
    assert results.select("model", "ablation", "saw").unique().height == 4
    assert "<html" in (experiment.folder / "out" / "report.html").read_text("utf-8")

    again = experiment.run("--markdown", "again.md", "--output", "out")
    assert "Prefect UI" not in again.stderr
    assert "cell 1" not in again.stderr
    assert (experiment.folder / "again.md").read_text("utf-8") == told
    assert "4 of 4 cells are done" in experiment.run("--dry-run").stdout


def test_a_dump_that_is_not_there_is_told_with_where_it_is_named(experiment: Experiment) -> None:
    (experiment.folder / "items.parquet").unlink()
    failed = experiment.run("--dry-run")
    assert failed.returncode == 2
    assert "no such file. The grid names it for shops" in " ".join(failed.stderr.split())


def test_kept_cells_are_shown_and_completed_on_another_store(experiment: Experiment) -> None:
    whole = experiment.run("--keep", "kept", "--markdown", "results.md")
    assert whole.returncode == 0, whole.stderr
    told = (experiment.folder / "results.md").read_text("utf-8")

    elsewhere = ("--store", "other", "--keep", "kept")
    shown = experiment.run(*elsewhere, "--markdown", "again.md")
    assert shown.returncode == 0, shown.stderr
    assert "Prefect UI" not in shown.stderr, "nothing was to be asked or trained"
    assert (experiment.folder / "again.md").read_text("utf-8") == told

    one = experiment.forget(baseline=False)
    shutil.rmtree(experiment.folder / "other")
    assert "3 of 4 cells are done" in experiment.run(*elsewhere, "--dry-run").stdout
    completed = experiment.run(*elsewhere)
    assert completed.returncode == 0, completed.stderr
    assert "cell 1 of 1" in completed.stderr
    assert one in experiment.kept_cells(), "made anew, it is kept under the same name"

    baseline = experiment.forget(baseline=True)
    shutil.rmtree(experiment.folder / "other")
    counted = experiment.run(*elsewhere)
    assert counted.returncode == 0, counted.stderr
    assert "cell 1 of 1" in counted.stderr
    assert "Prefect UI" not in counted.stderr, "a baseline asks no model"
    assert baseline in experiment.kept_cells()


def test_a_grid_that_cannot_run_ends_with_one_message(experiment: Experiment) -> None:
    text = GRID.replace('presets = ["paper"]', 'presets = ["papre"]')
    (experiment.folder / "grid.toml").write_text(text, "utf-8")
    refused = experiment.run("--dry-run")
    assert refused.returncode == 2
    assert "no preset 'papre'; there are best" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_only_must_be_a_regular_expression(experiment: Experiment) -> None:
    refused = experiment.run("--only", "(", "--dry-run")
    assert refused.returncode == 2
    assert "is no regular expression" in refused.stderr
