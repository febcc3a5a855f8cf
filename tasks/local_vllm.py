"""Starts, watches and stops the local vLLM pair: one server for chat, one for embeddings.

Both are OpenAI-compatible servers on 127.0.0.1, each a process tree of its own that ends with
us. Flags and their reasons are in `_SERVERS`; they are tuned for two CPU cores.
"""

import http.client
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tasks.guarded_process import GuardedProcess
from tasks.local_setup import (
    CHAT_MODEL_NAME,
    EMBEDDING_MODEL_NAME,
    LocalEnvironment,
    Report,
)

Role = Literal["chat", "embedding"]
ROLES: tuple[Role, ...] = ("chat", "embedding")

_HOST = "127.0.0.1"
_MODEL_NAMES: dict[Role, str] = {"chat": CHAT_MODEL_NAME, "embedding": EMBEDDING_MODEL_NAME}
_MODULE = "vllm.entrypoints.openai.api_server"
_POLL_SECONDS = 0.2
_LOG_LINES_SHOWN = 25


class LocalServerFailed(RuntimeError):
    """A server ended before it answered, or did not answer in time."""


@dataclass(frozen=True)
class LocalVllmSettings:
    """What may differ between machines.

    startup_timeout: seconds until a server that does not answer is given up.
    stop_grace: seconds between SIGTERM and SIGKILL.
    gpu_python: interpreter of an environment that holds a CUDA build of vLLM. Used when
        `nvidia-smi` lists a device; without it the CPU build serves on any machine.
    """

    startup_timeout: float = 600.0
    stop_grace: float = 5.0
    gpu_python: Path | None = None


@dataclass
class _Server:
    role: Role
    process: GuardedProcess
    port: int
    log: Path
    started_at: float
    healthy: threading.Event = field(default_factory=threading.Event)


class LocalVllm:
    """The pair of servers. Use it as a context manager, or call `stop` yourself.

    Any number of threads may ask for URLs at once; each role has one server. A server that dies
    after it was healthy is started again by the next `base_url`; one that never became healthy
    is not, because it would fail the same way.
    """

    def __init__(
        self,
        environment: LocalEnvironment | Callable[[], LocalEnvironment],
        log_directory: Path,
        *,
        report: Report,
        settings: LocalVllmSettings | None = None,
    ) -> None:
        self._environment = environment
        self._log_directory = log_directory
        self._report = report
        self._settings = settings or LocalVllmSettings()
        self._servers: dict[Role, _Server] = {}
        self._lock = threading.Lock()

    @property
    def started(self) -> bool:
        """Whether any server was started and not stopped since."""
        return bool(self._servers)

    def start(self) -> None:
        """Launch both servers without waiting for them: they load side by side."""
        for role in ROLES:
            self._launched(role)

    def base_url(self, role: Role) -> str:
        """The server's URL up to and including `/v1`, once it answers.

        Raises LocalServerFailed.
        """
        server = self._launched(role)
        if not server.healthy.is_set():
            self._wait(server)
        return f"http://{_HOST}:{server.port}/v1"

    def model_name(self, role: Role) -> str:
        """The name to send as `model`."""
        return _MODEL_NAMES[role]

    def stop(self) -> None:
        """End both servers with all their children; returns when they are gone. Idempotent."""
        with self._lock:
            servers, self._servers = list(self._servers.values()), {}
        stopping = [threading.Thread(target=server.process.stop) for server in servers]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _launched(self, role: Role) -> _Server:
        with self._lock:
            server = self._servers.get(role)
            died = server is not None and server.healthy.is_set() and not server.process.running
            if server is None or died:
                server = self._launch(role)
                self._servers[role] = server
            return server

    def _launch(self, role: Role) -> _Server:
        if not isinstance(self._environment, LocalEnvironment):
            self._environment = self._environment()
        self._log_directory.mkdir(parents=True, exist_ok=True)
        log = (self._log_directory / f"vllm-{role}.log").absolute()
        port = _free_port()
        command, variables = _invocation(role, self._environment, port, self._settings)
        self._report(f"starting the local {role} server (log: {log})")
        process = GuardedProcess(command, variables, log, self._settings.stop_grace)
        return _Server(role, process, port, log, time.monotonic())

    def _wait(self, server: _Server) -> None:
        deadline = server.started_at + self._settings.startup_timeout
        while not _answers(server.port):
            if not server.process.running:
                raise LocalServerFailed(f"the local {server.role} server ended. {_tail(server.log)}")
            if time.monotonic() > deadline:
                raise LocalServerFailed(
                    f"the local {server.role} server did not answer within "
                    f"{self._settings.startup_timeout:.0f} s. {_tail(server.log)}"
                )
            time.sleep(_POLL_SECONDS)
        with self._lock:
            first = not server.healthy.is_set()
            server.healthy.set()
        if first:
            seconds = time.monotonic() - server.started_at
            self._report(f"the local {server.role} server answers after {seconds:.0f} s")


def _invocation(
    role: Role, environment: LocalEnvironment, port: int, settings: LocalVllmSettings
) -> tuple[list[str], dict[str, str]]:
    """The command that serves `role` and its environment variables."""
    folder = environment.chat_model_dir if role == "chat" else environment.embedding_model_dir
    on_gpu = settings.gpu_python is not None and _has_gpu()
    python = settings.gpu_python if on_gpu else environment.python
    command = [
        *(str(python), "-m", _MODULE, "--model", str(folder)),
        *("--served-model-name", _MODEL_NAMES[role], "--host", _HOST, "--port", str(port)),
        *("--dtype", "bfloat16", "--disable-uvicorn-access-log"),
        *_ROLE_FLAGS[role],
    ]
    if on_gpu:
        return [*command, "--gpu-memory-utilization", "0.4"], _variables({})
    return [*command, "--enforce-eager"], _variables(_cpu_variables(environment))


_ROLE_FLAGS: dict[Role, list[str]] = {
    "chat": ["--max-model-len", "2048", "--max-num-seqs", "64"],
    "embedding": ["--runner", "pooling", "--max-model-len", "256", "--max-num-seqs", "64"],
}


def _variables(additional: dict[str, str]) -> dict[str, str]:
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    return {**os.environ, **quiet, **additional}


def _cpu_variables(environment: LocalEnvironment) -> dict[str, str]:
    cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0)))
    preload = _preloaded(environment)
    return {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # By default vLLM keeps a core free for its scheduler: of two cores, half the machine.
        "VLLM_CPU_OMP_THREADS_BIND": cores,
        "LD_PRELOAD": ":".join(preload),
    }


def _preloaded(environment: LocalEnvironment) -> list[str]:
    """Libraries that vLLM's CPU build runs faster with, those of them that are there."""
    system = [Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib/aarch64-linux-gnu"), Path("/usr/lib64")]
    allocators = [
        found for folder in system for found in sorted(folder.glob("libtcmalloc_minimal.so*"))
    ]
    openmp = environment.directory / "lib" / "libiomp5.so"
    return [str(path) for path in (*allocators[:1], openmp) if path.is_file()]


def _has_gpu() -> bool:
    if shutil.which("nvidia-smi") is None:
        return False
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and "GPU" in listed.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    # Not through a client that honours proxy variables: the server is on this machine.
    connection = http.client.HTTPConnection(_HOST, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
    return f"The end of {log}:\n" + "\n".join(lines)
