"""What every test leaves behind as it found it."""

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from filelock import FileLock

from artifacts.remote.remote_side import RemoteStore
from artifacts.store import Store
from benchmarks.preloaded_cli import PreloadedCli, preloaded_cli
from model.scoring.measurable import LEAST_CANDIDATES as USUAL_CANDIDATES
from tests.artifacts.machines import KINDS, Machine, machines, remote_root
from tests.flows.server.command_variables import own_variables

if TYPE_CHECKING:
    from tests.flows.server.prefect_servers import ServerLogin

_home = tempfile.TemporaryDirectory(prefix="prefect-home-")
os.environ["PREFECT_HOME"] = _home.name
"""Set before Prefect is loaded: two test runs at once share no database, and neither has yours."""

if sys.dont_write_bytecode:
    # To compile all modules in every process that tests start takes most of a quick run's time.
    # The folder is pytest's own, so nothing is written beside sources.
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    sys.dont_write_bytecode = False
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A background job of a shell ignores SIGINT, one of nohup SIGHUP, and so would programs of tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Readline exports a width of 80 columns to workers, at which messages would be wrapped.
for _size in ("COLUMNS", "LINES"):
    os.environ.pop(_size, None)

hypothesis.settings.register_profile("busy machine", deadline=None)
hypothesis.settings.load_profile("busy machine")
"""An example that waits for a processor is no failure."""

SLOW_TESTS = frozenset(Path(__file__).with_name("slow_tests.txt").read_text("utf-8").split())
"""By durations as ``pytest --durations=0`` measures them: a file or a test a line."""

SLOW_FIXTURES = frozenset(
    {"closed_server", "commands", "devtools", "operated", "installed", "site"}
)
"""Servers, a browser, an installed wheel and a built site: whatever needs them waits for them."""

LONGEST = (
    "tests/test_operate.py",
    "tests/tasks/forgetting/test_remote_forgetting.py",
    "tests/test_wheel.py",
    "tests/flows/cli/output/test_hashed_users_everywhere.py",
    "tests/flows/cli/commands/runs/test_tune_command.py",
    "tests/flows/cli/test_command_line.py",
    "tests/flows/cli/commands/runs/test_experiment_command.py",
    "tests/tasks/forgetting/test_forgetting.py",
    "tests/flows/server/test_machine_worker.py",
)
"""Files that run first, the longest at the top: a process that begins one last works on it while
the others have nothing left."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Modules and tests stay until the end: the garbage collector does not look through them.

    To look takes a third of the collection.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first; marks slow tests, which ``-m "not slow"`` leaves out."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))
    for item in items:
        needed = SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ()))
        test = item.nodeid.partition("[")[0]
        if needed or not SLOW_TESTS.isdisjoint((test, test.partition("::")[0])):
            item.add_marker(pytest.mark.slow)


LIBRARY_THREADS = (
    "asking",  # Ours: the one loop that talks to endpoints, kept for the process.
    "model_",  # Ours: the worker of a service that the tests of a module share.
    "fsspecIO",  # fsspec's one loop, kept for the process.
    "prefect request",  # Ours: a request that was given up; no thread can be ended.
    "GlobalEventLoopThread",  # Prefect's loop, and its senders of logs and events.
    "APILogWorkerThread",
    "EventsWorker",
    "RunSyncEventLoopThread",
    "AnyIO worker thread",  # Idle workers of Starlette and Prefect.
    "asyncio_",  # Idle workers of a loop's own executor.
    "ThreadPoolExecutor-",
)
"""How the names of threads begin that may outlive a test."""

LIBRARY_VARIABLES = frozenset(
    {
        "PYTEST_CURRENT_TEST",
        "TORCHINDUCTOR_CACHE_DIR",  # PyTorch sets it when it first compiles.
        "KMP_DUPLICATE_LIB_OK",  # scikit-learn sets them when it is first loaded.
        "KMP_INIT_AT_FORK",
    }
)


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """No thread, no environment variable and no running event loop outlives the test.

    The first of its fixtures, so that those of the test are done when this one looks.
    """
    threads, variables = set(threading.enumerate()), dict(os.environ)
    yield
    deadline = time.monotonic() + 2  # Threads that have just been told to end do so.
    while (left := _threads_beside(threads)) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not left, f"the test leaves threads behind: {left}"
    changed = {
        name
        for name in variables.keys() | os.environ.keys()
        if variables.get(name) != os.environ.get(name) and name not in LIBRARY_VARIABLES
    }
    assert not changed, f"the test leaves environment variables changed: {sorted(changed)}"
    with pytest.raises(RuntimeError):  # noqa: PT012
        asyncio.get_running_loop()
        pytest.fail("the test leaves an event loop running")


def _threads_beside(known: set[threading.Thread]) -> list[str]:
    new = (thread for thread in threading.enumerate() if thread not in known)
    return [each.name for each in new if not each.name.startswith(LIBRARY_THREADS)]


@pytest.fixture(autouse=True)
def our_logger_stays_as_it_was() -> Iterator[None]:
    """A command that runs in the test's process sends our log lines to its terminal alone."""
    logger = logging.getLogger("llm4cdsr")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logger.propagate = propagate


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk() -> Iterator[None]:
    """Tests end processes and never the machine, so nothing in them depends on `os.fsync`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def small_shops_are_measured() -> Iterator[None]:
    """One candidate is enough for a figure: shops that a test can be worked out in are tiny."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.scoring.measurable.LEAST_CANDIDATES", 1)
        yield


@pytest.fixture
def usual_candidates(monkeypatch: pytest.MonkeyPatch) -> int:
    """Figures need as many candidates as they do for a user."""
    monkeypatch.setattr("model.scoring.measurable.LEAST_CANDIDATES", USUAL_CANDIDATES)
    return USUAL_CANDIDATES


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(params=KINDS)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty store of each remote kind."""
    with remote_root(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def remote(root: str) -> RemoteStore:
    """An empty store of each remote kind."""
    return RemoteStore(root)


@pytest.fixture
def machine(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Machines with caches of their own and a common store of each remote kind."""
    return machines(root, tmp_path, monkeypatch)


MAKE_TABLES = """
import asyncio
from prefect.server.database import provide_database_interface
asyncio.run(provide_database_interface().create_db())
"""


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """An empty database of a Prefect server, for `prefect_home`; all test processes share it.

    Most of a server's first start is the making of these tables.
    """
    base = tmp_path_factory.getbasetemp()
    home = (base if worker_id == "master" else base.parent) / "empty-prefect-home"
    with FileLock(f"{home}.lock"):
        if not home.exists():
            making = home.with_name("half-made-prefect-home")
            making.mkdir(exist_ok=True)
            variables = {**os.environ, "PREFECT_HOME": str(making)}
            subprocess.run([sys.executable, "-c", MAKE_TABLES], env=variables, check=True)
            making.rename(home)
    return home / "prefect.db"


@pytest.fixture(scope="session")
def closed_server(
    tmp_path_factory: pytest.TempPathFactory, prefect_database: Path
) -> Iterator["ServerLogin"]:
    """One server for all tests that bring none: to start one takes longer than most commands."""
    from tests.flows.server.prefect_servers import closed_server_in

    with closed_server_in(
        tmp_path_factory.mktemp("server") / "prefect", prefect_database
    ) as server:
        yield server


@pytest.fixture(scope="module")
def prefect_server(closed_server: "ServerLogin") -> Iterator[str]:
    """The URL of its API, which is configured while the tests of a module run."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    url, credential = closed_server
    with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: credential}):
        yield url


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreloadedCli]:
    """Runs commands in processes of their own that need not load PyTorch and Prefect.

    For tests of what commands do. Tests of how a process starts and ends start one themselves.
    """
    folder = tmp_path_factory.mktemp("preloaded")
    with preloaded_cli(own_variables(folder), folder) as cli:
        yield cli
