"""Runs of the command line on a made-up shop with the dummy endpoint, in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefect.settings import PREFECT_API_AUTH_STRING

from artifacts.manifest import Kind
from artifacts.store import Store
from benchmarks.preloaded_cli import PreloadedCli, PreloadedProcess
from flows.server.api import prefect_api
from tasks.demo.demo_dump import write_demo_dump

ROOT = Path(__file__).parents[1]
Run = subprocess.Popen[bytes] | PreloadedProcess
QUICK = ("--epochs", "2", "--clusters", "4")

TOLD_OF_TIMES = frozenset({Kind.REPORT, Kind.RELEASE, Kind.REFRESH})
"""A report tells of seconds; bundles name it."""

LONGEST = 600.0
"""Seconds after which a run counts as hung: a hundred times what one takes."""


def ends_within(run: Run, seconds: float) -> bool:
    """Returns whether a run ends in time; one that does not writes its stacks and is killed."""
    try:
        run.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGUSR1)
        time.sleep(2)
        run.send_signal(signal.SIGKILL)
        run.wait()
        return False
    return True


@dataclass(frozen=True)
class DemoRuns:
    """A folder with a dump, a store and a log; ``variables`` are the environment of its runs.

    With ``cli`` a run is forked from a process that has loaded everything.
    """

    folder: Path
    variables: dict[str, str]
    cli: PreloadedCli | None = None
    provider: tuple[str, ...] = ("--provider", "dummy")

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")

    @property
    def log(self) -> Path:
        return self.folder / "run.log"

    def write_dump(self, seed: int, users: int = 60, items: int = 80) -> None:
        """Replaces the dump."""
        write_demo_dump(self.folder, seed=seed, users=users, items=items)

    def start(self, *arguments: str, **variables: str) -> Run:
        """Starts ``llm4cdsr run``; what it says goes to the log."""
        dump = ("--interactions", "interactions.parquet", "--items", "items.parquet")
        command = ("run", *dump, *self.provider, *QUICK, *arguments)
        environment = {**self.variables, "LLM4CDSR_STORE": str(self.store.local), **variables}
        self.log.write_bytes(b"")  # It can be read at once.
        if self.cli is not None:
            return self.cli.start(command, self.folder, environment, self.log)
        with self.log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "flows.cli.entry", *command],
                cwd=self.folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def finish(self, *arguments: str, **variables: str) -> None:
        """Runs to the end; raises `RuntimeError` with the log's last lines where it fails, or its
        threads' stacks where it has not ended after `LONGEST` seconds.
        """
        run = self.start(*arguments, **variables)
        if not ends_within(run, LONGEST):
            raise RuntimeError(f"a run did not end in {LONGEST:.0f} s:\n{self._last_lines(80)}")
        if run.wait():
            raise RuntimeError(f"a run ended with {run.wait()}:\n{self._last_lines(8)}")

    def _last_lines(self, count: int) -> str:
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-count:])

    def checksums(self) -> dict[str, str]:
        """Returns the SHA-256 of every file that does not tell of times, by artifact and name."""
        return {
            f"{manifest.ref}/{name}": file.sha256
            for kind in Kind
            if kind not in TOLD_OF_TIMES
            for manifest in self.store.artifacts(kind)
            for name, file in manifest.files.items()
            if not name.endswith("curve.parquet")  # Seconds an epoch.
        }


@contextmanager
def demo_machine(folder: Path) -> Iterator[dict[str, str]]:
    """Gives the environment of runs that share one Prefect server while the block lasts."""
    with prefect_api(folder / "prefect.log") as url:
        yield {
            **clean_environment(folder),
            "PREFECT_API_URL": url,
            "PREFECT_API_AUTH_STRING": PREFECT_API_AUTH_STRING.value() or "",
        }


def clean_environment(folder: Path) -> dict[str, str]:
    """Returns an environment without settings of this machine; Prefect's files go to ``folder``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT", "LLM4CDSR", "OPENAI"))
    }
    return {
        **kept,
        "PREFECT_HOME": str(folder / "prefect"),
        "PYTHONPATH": str(ROOT),
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": "1",  # Reductions, and so artifacts, are then the same each time.
        "GOMP_SPINCOUNT": "1000",
        "DO_NOT_TRACK": "1",
    }
