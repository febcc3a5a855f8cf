"""Commands as a user starts them: processes of their own, in a folder with a dump and a store."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from artifacts.store import Store
from benchmarks.preloaded_cli import PreloadedCli
from tasks.llm.providers.dummy_models import CHAT_MODEL, EMBEDDING_MODEL
from tests.fakes import FaultyServer
from tests.flows.server.command_variables import own_variables

LOCAL_VLLM = Path(__file__).parents[2] / ".venv-vllm"
STORE = "store [b] *? {c}"
"""A name that globs, shells and terminals would take for something else."""

SECRET = "sk-a-secret-that-must-not-be-written-anywhere"
QUICK_REFRESH = ("--clusters", "4")
QUICK = ("--epochs", "2", *QUICK_REFRESH)
SMALL_TRAINING = ("--preset", "single", "--ablation-users", "0")
"""Otherwise `auto` and the ablation train several models."""


@dataclass(frozen=True)
class Shop:
    """A dump on disk and a store of its own for the runs on it.

    ``recorded`` names a Prefect server. Where it is empty, each run brings a server of its own,
    which begins with a copy of ``database``.
    """

    folder: Path
    commands: PreloadedCli
    database: Path
    recorded: Mapping[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(self.folder / STORE)

    def command(self, *arguments: str, name: str = "run") -> list[str]:
        return [sys.executable, "-m", "flows.cli.entry", *self.arguments(*arguments, name=name)]

    def arguments(self, *arguments: str, name: str = "run") -> list[str]:
        dump = ("--interactions", "interactions.parquet", "--items", "items.parquet")
        quick = QUICK if name == "run" else QUICK_REFRESH
        return [name, *arguments, *dump, *quick]

    def environment(self, server: FaultyServer | None = None) -> dict[str, str]:
        answering = {}
        if server is not None:
            answering = {
                "LLM4CDSR_CHAT_BASE_URL": server.base_url,
                "LLM4CDSR_CHAT_MODEL": CHAT_MODEL,
                "LLM4CDSR_EMBED_BASE_URL": server.base_url,
                "LLM4CDSR_EMBED_MODEL": EMBEDDING_MODEL,
            }
        return {
            **own_variables(self.folder, self.database),
            **self.recorded,
            **answering,
            "LLM4CDSR_STORE": str(self.folder / STORE),
            "LLM4CDSR_LOCAL_VLLM": str(LOCAL_VLLM),
            "OPENAI_API_KEY": SECRET,
            "COLUMNS": "160",
        }

    def run(
        self, *arguments: str, name: str = "run", server: FaultyServer | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, in a process that was forked for it."""
        wanted = self.arguments(*arguments, name=name)
        return self.commands.run(wanted, self.folder, self.environment(server))


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the run never got that far"
        time.sleep(0.1)
