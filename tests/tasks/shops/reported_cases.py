"""Dumps and servers as users of like tools have reported them, beside this repository.

    with reported_server("think", "nousage") as server:
        ...client of server.root + "/v1"...
    assert server.posted == {("embeddings", 200): 2}

The dumps lie in folders of ``../shared/cases``; its ``fake.py`` is the server, in a process of its
own. Where they are absent, tests that use them are skipped.
"""

import hashlib
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.system.free_port import free_port

CASES = Path(__file__).parents[4] / "shared" / "cases"
WORDS = "The person likes oats and pans and bowls."
CLUSTER_NAME = "Oats and pans"
WIDTH = 32
COUNTED = 4
"""Method, path, status and number; the server counts other things too."""

needs_cases = pytest.mark.skipif(
    not CASES.is_dir(), reason="the reported dumps and servers are not beside this repository"
)


@dataclass(frozen=True)
class ReportedServer:
    """A running server."""

    root: str

    @property
    def variables(self) -> dict[str, str]:
        """Returns the environment of a command that asks this server for everything."""
        roles = ("CHAT", "EMBED")
        urls = {f"LLM4CDSR_{role}_BASE_URL": f"{self.root}/v1" for role in roles}
        return urls | {f"LLM4CDSR_{role}_MODEL": "m" for role in roles}

    @property
    def posted(self) -> Counter[tuple[str, int]]:
        """Requests so far, by the last part of their path and their status."""
        found: Counter[tuple[str, int]] = Counter()
        for method, path, status, count in self._counts():
            if method == "POST":
                found[path.partition("?")[0].rpartition("/")[2], status] += count
        return found

    def _counts(self) -> list[tuple[str, str, int, int]]:
        with urllib.request.urlopen(f"{self.root}/_counts", timeout=5) as answer:
            counts = json.load(answer)
        return [tuple(row) for row in counts if len(row) == COUNTED]


@contextmanager
def reported_server(*modes: str) -> Iterator[ReportedServer]:
    """Runs the server in some modes until the block ends."""
    port = free_port()
    server = ReportedServer(f"http://127.0.0.1:{port}")
    process = subprocess.Popen(
        [sys.executable, str(CASES / "fake.py"), str(port), *modes], stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                _ = server.posted
                break
            except OSError:
                assert process.poll() is None, "the server did not start"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def reported_vector(text: str) -> list[float]:
    """The vector that the server gives a text: numbers that float32 holds exactly."""
    digest = hashlib.sha256(text.encode()).digest()
    return [(digest[place % 32] - 127.5) / 128 for place in range(WIDTH)]
