"""A Ray cluster with a separate head and two nodes makes what one process makes, and pays once."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import FaultPlan, FaultyServer, faulty_endpoint
from tests.scale.ray_nodes import ROOT, RayNodes, ray_nodes, run_environment

USERS = 200
CONCURRENCY = 4
"""Requests of a process at once, as in `small_shop.spec_of`."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is not installed: pip install 'llm4cdsr[ray]'",
    ),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayNodes]:
    # A short path: Ray's sockets lie in it.
    with tempfile.TemporaryDirectory(prefix="ray-") as folder, ray_nodes(2, Path(folder)) as nodes:
        yield nodes


def begun(server: FaultyServer, store: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    store.parent.mkdir(exist_ok=True)
    program = str(ROOT / "tests/scale/profiled_once.py")
    return subprocess.Popen(
        [sys.executable, program, server.base_url, str(store), str(USERS)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(run: subprocess.Popen[str]) -> dict:
    said, told = run.communicate(timeout=500)
    assert run.returncode == 0, told[-4000:]
    return json.loads(said.splitlines()[-1])


def paid_again(server: FaultyServer) -> int:
    """Returns the prompts that were answered more than once."""
    answers = Counter(
        prompt
        for exchange in server.answered
        if exchange.status == 200
        for prompt in exchange.prompts
    )
    assert answers
    return sum(count - 1 for count in answers.values())


def test_two_nodes_make_the_same_bytes_as_threads_and_pay_no_prompt_twice(
    cluster: RayNodes, tmp_path: Path
) -> None:
    with faulty_endpoint() as server:
        local = result(begun(server, tmp_path / "local" / "store", run_environment()))
    with faulty_endpoint() as server:
        store = tmp_path / "ray" / "store"
        made = result(begun(server, store, cluster.environment))
        assert paid_again(server) == 0
        assert made == local
        assert made["merged"][1] > 0, "equal prompts of several blocks are asked once"
        for artifact in made["files"]:
            for file in (store / artifact).iterdir():
                file.unlink()
        asked = len(server.answered)
        again = result(begun(server, store, cluster.environment))
        assert (again["files"], again["requests"]) == (made["files"], 0)
        assert len(server.answered) == asked


def test_a_killed_worker_is_recovered_and_pays_only_for_what_was_in_flight(
    cluster: RayNodes, tmp_path: Path
) -> None:
    with faulty_endpoint() as server:
        local = result(begun(server, tmp_path / "local" / "store", run_environment()))
    with faulty_endpoint(FaultPlan(latency_s=0.1)) as server:
        run = begun(server, tmp_path / "ray" / "store", cluster.environment)
        killed = 0
        while run.poll() is None and not killed:
            time.sleep(0.05)
            if server.requests_to("/v1/chat/completions") < 40:
                continue
            for worker in cluster.busy_workers()[:1]:
                os.kill(worker, signal.SIGKILL)
                killed = worker
        assert killed, run.communicate()
        assert result(run)["files"] == local["files"]
        assert paid_again(server) <= CONCURRENCY
