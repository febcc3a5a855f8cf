"""A Ray cluster of processes of this machine: a head without cores, and nodes that work."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
STORE_BYTES = 78_643_200
"""Object store of a node: the least that Ray accepts."""

HEAD = "127.0.0.2"
"""A loopback address which Ray does not replace by the machine's own, as it does 127.0.0.1."""


class RayNodes:
    """The running cluster; `environment` is what a run in it needs."""

    def __init__(self, address: str, own: dict[str, str], nodes: list[subprocess.Popen[bytes]]):
        self.environment = {**own, "LLM4CDSR_ENGINE": "ray", "LLM4CDSR_RAY_ADDRESS": address}
        self._nodes = nodes

    def busy_workers(self) -> list[int]:
        """Returns the processes of the nodes that run a task now."""
        groups = {node.pid for node in self._nodes}
        found: list[int] = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                title = (folder / "cmdline").read_bytes()
                group = os.getpgid(int(folder.name))
            except (FileNotFoundError, ProcessLookupError):
                continue  # Ended meanwhile.
            if group in groups and title.startswith(b"ray::") and b"IDLE" not in title:
                found.append(int(folder.name))
        return found


def run_environment() -> dict[str, str]:
    """Returns the environment of a process that finds the code and no Prefect server."""
    kept = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    code = os.pathsep.join([str(ROOT), kept.get("PYTHONPATH", "")])
    return {**kept, "PYTHONPATH": code, "OMP_NUM_THREADS": "1"}


@contextmanager
def ray_nodes(workers: int, folder: Path) -> Iterator[RayNodes]:
    """Starts a head and nodes of one core; all their processes end with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"{HEAD}:{port}"
    own = {
        **run_environment(),
        "HOME": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
    common = [f"--node-ip-address={HEAD}", f"--object-store-memory={STORE_BYTES}"]
    head = [*common, "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false"]
    head.append(f"--temp-dir={folder}")
    node = [*common, f"--address={address}", "--num-cpus=1"]
    with ExitStack() as ending:
        nodes: list[subprocess.Popen[bytes]] = []
        ending.callback(_end, nodes)
        for arguments in (head, *[node] * workers):
            log = ending.enter_context((folder / f"node{len(nodes)}.log").open("wb"))
            nodes.append(
                subprocess.Popen(
                    [*ray, *arguments],
                    env=own,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
            _wait_for_nodes(address, own, len(nodes), folder)
        yield RayNodes(address, own, nodes[1:])


def _wait_for_nodes(address: str, own: dict[str, str], count: int, folder: Path) -> None:
    """Waits until the head knows this number of nodes."""
    asked = (
        f"import ray; ray.init({address!r}, log_to_driver=False, logging_level='ERROR'); "
        "print(sum(node['Alive'] for node in ray.nodes()))"
    )
    deadline, told = time.monotonic() + 120, ""
    while time.monotonic() < deadline:
        done = subprocess.run(
            [sys.executable, "-c", asked],
            env=own,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0 and int(done.stdout.split()[-1]) >= count:
            return
        told = done.stderr[-500:]
    said = "\n".join(log.read_text(errors="replace")[-500:] for log in folder.glob("*.log"))
    raise AssertionError(f"the Ray cluster did not begin: {told}\n{said}")


def _end(nodes: list[subprocess.Popen[bytes]]) -> None:
    """Ends the nodes, workers first, with every process that they started."""
    for node in reversed(nodes):
        node.terminate()
    for node in nodes:
        with suppress(subprocess.TimeoutExpired):  # Then it is killed below.
            node.wait(30)
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if os.getsid(int(folder.name)) == node.pid:
                    os.kill(int(folder.name), signal.SIGKILL)
            except ProcessLookupError:
                continue
        node.wait(30)
