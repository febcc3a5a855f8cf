"""Kills a run with ``kill -9`` while it profiles and while it trains; the next run must finish.

Counts what the endpoint was asked: answers that came before the kill are not asked again.

    python benchmarks/worker_kill.py --help
    python benchmarks/worker_kill.py --json worker_kill.json
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from artifacts.store import Store  # noqa: E402
from tasks.bundle import SERVING  # noqa: E402
from tasks.demo_dump import write_demo_dump  # noqa: E402
from tests.fakes import CHAT, FaultPlan, FaultyServer, faulty_endpoint  # noqa: E402

IN_FLIGHT = 64
"""The chat concurrency: more cannot be asked twice."""


def main() -> None:
    """Prints one row a kill."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=60, help="of the demo dump")
    parser.add_argument("--epochs", type=int, default=12, help="of the training")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    arguments = parser.parse_args()
    rows = [killed(phase, arguments.users, arguments.epochs) for phase in ("profile", "train")]
    print(f"{'killed while':>14} {'asked':>7} {'distinct':>9} {'again':>6} {'served':>7}")
    for row in rows:
        print(
            f"{row['phase']:>14} {row['asked']:>7} {row['distinct']:>9} "
            f"{row['asked_again']:>6} {row['served']!s:>7}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


def killed(phase: str, users: int, epochs: int) -> dict[str, object]:
    """Runs the pipeline, kills it in a phase, runs it again, and counts."""
    with (
        tempfile.TemporaryDirectory() as name,
        faulty_endpoint(FaultPlan(latency_s=0.2)) as server,
    ):
        folder = Path(name)
        write_demo_dump(folder, seed=3, users=users, items=80)
        process = start(folder, server, epochs)
        wait_until(lambda: reached(phase, folder, server), process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        again = start(folder, server, epochs)
        code = again.wait(timeout=900)
        prompts = [exchange.prompts for exchange in server.answered if exchange.route == CHAT]
        asked = server.requests_to(CHAT)
        return {
            "phase": phase,
            "exit_code": code,
            "asked": asked,
            "distinct": len(set(prompts)),
            "asked_again": asked - len(set(prompts)),
            "allowed": IN_FLIGHT if phase == "profile" else 0,
            "served": Store(folder / "store").pointed(SERVING) is not None,
        }


def start(folder: Path, server: FaultyServer, epochs: int) -> subprocess.Popen[bytes]:
    """Starts the pipeline in a process group of its own."""
    kept = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    files = ("--interactions", "interactions.parquet", "--items", "items.parquet")
    return subprocess.Popen(
        [sys.executable, "-m", "flows.entry", "run", *files, "--epochs", str(epochs)],
        cwd=folder,
        env={
            **kept,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), kept.get("PYTHONPATH", "")]),
            "PREFECT_HOME": str(folder / "prefect"),
            "LLM4CDSR_STORE": str(folder / "store"),
            "LLM4CDSR_CHAT_BASE_URL": server.base_url,
            "LLM4CDSR_CHAT_MODEL": "dummy-chat",
            "LLM4CDSR_EMBEDDING_BASE_URL": server.base_url,
            "LLM4CDSR_EMBEDDING_MODEL": "dummy-embedding",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def reached(phase: str, folder: Path, server: FaultyServer) -> bool:
    """Returns whether a run is in the middle of a phase."""
    if phase == "profile":
        return server.requests_to(CHAT) > 40
    return any(folder.glob("store/work/train-*/training.safetensors"))


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Waits for a condition of a process that runs."""
    while not condition():
        if process.poll() is not None:
            raise SystemExit(f"the run ended by itself with exit code {process.returncode}")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
