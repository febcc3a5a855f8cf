"""Commands as a user starts them: processes of their own, in a folder with a dump and a store."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prefect.settings import PREFECT_API_AUTH_STRING

from artifacts.store import Store
from tasks.llm.providers.dummy_models import CHAT_MODEL, EMBEDDING_MODEL
from tests.fakes import FaultyServer

LOCAL_VLLM = Path(__file__).parents[2] / ".venv-vllm"
STORE = "store [b] *? {c}"
"""A name that globs, shells and terminals would take for something else."""

SECRET = "sk-a-secret-that-must-not-be-written-anywhere"
QUICK_REFRESH = ("--clusters", "4")
QUICK = ("--epochs", "2", *QUICK_REFRESH)


@dataclass(frozen=True)
class Shop:
    """A dump on disk and a store of its own for the runs on it.

    Where ``api`` is empty, each run brings a Prefect server of its own.
    """

    folder: Path
    api: str = ""

    @property
    def store(self) -> Store:
        return Store(self.folder / STORE)

    def command(self, *arguments: str, name: str = "run") -> list[str]:
        dump = ("--interactions", "interactions.parquet", "--items", "items.parquet")
        quick = QUICK if name == "run" else QUICK_REFRESH
        return [sys.executable, "-m", "flows.cli.entry", name, *arguments, *dump, *quick]

    def environment(self, server: FaultyServer | None = None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
        recorded, answering = {}, {}
        if self.api:
            credential = PREFECT_API_AUTH_STRING.value() or ""
            recorded = {"PREFECT_API_URL": self.api, "PREFECT_API_AUTH_STRING": credential}
        if server is not None:
            answering = {
                "LLM4CDSR_CHAT_BASE_URL": server.base_url,
                "LLM4CDSR_CHAT_MODEL": CHAT_MODEL,
                "LLM4CDSR_EMBED_BASE_URL": server.base_url,
                "LLM4CDSR_EMBED_MODEL": EMBEDDING_MODEL,
            }
        return {
            **kept,
            **answering,
            **recorded,
            "LLM4CDSR_STORE": str(self.folder / STORE),
            "LLM4CDSR_LOCAL_VLLM": str(LOCAL_VLLM),
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "OPENAI_API_KEY": SECRET,
            "COLUMNS": "160",
        }

    def run(
        self, *arguments: str, name: str = "run", server: FaultyServer | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, name=name),
            cwd=self.folder,
            env=self.environment(server),
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the run never got that far"
        time.sleep(0.1)
