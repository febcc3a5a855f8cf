"""The wheel is whole: built, installed beside nothing of the checkout, and used from any folder."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prefect.client.schemas.actions import DeploymentUpdate

from artifacts.store import Store
from flows.server.machine import Machine
from tasks.promoting.release_history import serving_release
from tasks.system.free_port import free_port
from tests.flows.server.command_variables import with_database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[1]
PARTS = ("flows", "tasks", "model", "prompts", "artifacts")
FILES = ("pyproject.toml", "README.md", "prefect.yaml", "llm4cdsr.py")
SECONDS = 900
"""For a machine with much else to do; the clock is never what is tested."""

TINY = {
    "training": {"preset": "single", "overrides": {"train": {"max_epochs": 1, "refit": False}}},
    "ablation": {"users": 0},
}
SHADOWED = "from llm4cdsr import Recommender\n"


@dataclass
class Installed:
    """A virtual environment with the wheel in it, and an empty folder to work in."""

    wheel: Path
    python: Path
    folder: Path

    def environment(self, **more: str) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT", "LLM4CDSR", "PYTHON"))
        }
        home = str(self.folder / "home")
        return {**kept, "HOME": home, "PREFECT_HOME": f"{home}/prefect", **more}

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.python.with_name("llm4cdsr")), *arguments],
            cwd=self.folder,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **more: str) -> str:
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, out + err
        return out


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, prefect_database: Path) -> Installed:
    """Of a copy: building leaves folders beside the sources."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    for name in PARTS:
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=_made_here)
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    _do([*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(place), str(source)])
    shutil.rmtree(source)
    wheel = next(place.glob("llm4cdsr-*.whl"))
    venv.create(place / "environment", symlinks=True, with_pip=False)
    python = place / "environment" / "bin" / "python"
    packages = next((place / "environment" / "lib").glob("python*")) / "site-packages"
    # A plain path line: the editable installation among those packages takes no part.
    (packages / "others.pth").write_text(f"{Path(httpx.__file__).parents[1]}\n")
    _do([*pip, "--python", str(python), "install", *offline, str(wheel)])
    folder = place / "anywhere"
    with_database(folder / "home" / "prefect", prefect_database)
    made = Installed(wheel, python, folder)
    made.run("demo-dump", "demo", "--users", "40", "--items", "60", "--seed", "3")
    return made


def _made_here(folder: str, names: list[str]) -> set[str]:
    """What use leaves in a checkout: compiled modules, the store."""
    store = {"data"} if Path(folder) == ROOT / "artifacts" else set()
    return ({"__pycache__"} | store) & set(names)


def _do(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_every_file_of_the_packages(installed: Installed) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    listed = ["git", "-C", str(ROOT), "ls-files", *PARTS]
    done = subprocess.run(listed, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a checkout of git")
    wanted = {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}
    assert wanted - names == set()


def test_nothing_of_the_checkout_is_imported(installed: Installed) -> None:
    program = "import llm4cdsr, flows, tasks; print(llm4cdsr.__file__, flows.__file__)"
    done = subprocess.run(
        [installed.python, "-c", program],
        cwd=installed.folder,
        env=installed.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(ROOT) not in done.stdout
    assert str(installed.python.parents[1]) in done.stdout


def test_run_then_serve_from_an_empty_folder(installed: Installed) -> None:
    files = ("--interactions", "demo/interactions.parquet", "--items", "demo/items.parquet")
    small = ("--preset", "single", "--epochs", "1", "--profile-users", "5", "--ablation-users", "0")
    assert "Report: " in installed.run("run", *files, *small, "--provider", "dummy")
    served = installed.start("serve-recs", "--port", "0")
    try:
        assert served.stdout is not None
        line = served.stdout.readline()
        found = re.search(r"http://localhost:(\d+)/", line)
        assert found, line + (served.stderr.read() if served.stderr else "")
        at = f"http://127.0.0.1:{found[1]}"
        assert httpx.get(f"{at}/health", timeout=60).json()["release"]
        assert "<script" in httpx.get(f"{at}/", timeout=60).text
    finally:
        served.send_signal(signal.SIGINT)
        served.communicate(timeout=60)
    user = "from llm4cdsr import Recommender as R; r = R.load('artifacts/data'); "
    asked = "print(r.recommend_users(r.user_ids[:1], k=2).height)"
    done = subprocess.run(
        [installed.python, "-c", user + asked],
        cwd=installed.folder,
        env=installed.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().isdigit(), done.stderr


def test_a_dropped_dump_is_served_by_the_machine_that_up_starts(
    installed: Installed, prefect_database: Path
) -> None:
    store, port = Store(installed.folder / "operated"), free_port()
    with_database(Machine(store, port).folder / "prefect", prefect_database)
    settings = {"LLM4CDSR_STORE": store.root, "LLM4CDSR_PROVIDER": "dummy"}
    installed.run("up", "--port", str(port), "--dumps", "dumps", "--look-every", "10", **settings)
    try:
        _shorten_training(Machine(store, port))
        shutil.copytree(installed.folder / "demo", installed.folder / "dumps" / "first")
        deadline = time.monotonic() + SECONDS
        while serving_release(store) is None:
            assert time.monotonic() < deadline, _logs(Path(store.root))
            time.sleep(3)
    finally:
        assert "server" in installed.run("down", **settings)


def _shorten_training(machine: Machine) -> None:
    parameters = {"retraining": TINY}
    with machine.client() as client:
        found = client.read_deployment_by_name("pipeline/pipeline")
        client.update_deployment(found.id, DeploymentUpdate(parameters=parameters))


def _logs(store: Path) -> str:
    return "\n".join(path.read_text()[-3000:] for path in store.glob("work/machine/*.log"))


@pytest.mark.parametrize("name", ["tasks", "model"])
def test_a_module_of_the_users_in_place_of_ours_is_named(installed: Installed, name: str) -> None:
    own = installed.folder / f"own-{name}"
    own.mkdir()
    (own / f"{name}.py").write_text("mine = 1\n")
    (own / "program.py").write_text(SHADOWED)
    done = subprocess.run(
        [installed.python, own / "program.py"],
        env=installed.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert f"{own / name}.py" in last
    assert "rename" in last
    process = installed.start("--help", PYTHONPATH=str(own))
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 2, out
    assert f"{own / name}.py" in err
    assert "Traceback" not in err


def test_a_module_of_the_users_beside_ours_does_not_matter(installed: Installed) -> None:
    (installed.folder / "tasks.py").write_text("mine = 1\n")
    try:
        assert "run" in installed.run("--help")
    finally:
        (installed.folder / "tasks.py").unlink()
