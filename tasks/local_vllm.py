"""Starts, watches and stops the local vLLM pair: one server for chat, one for embeddings.

Both are OpenAI-compatible servers on 127.0.0.1, each a process tree of its own that ends with
us. The flags are tuned for two CPU cores.
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
_QUIET_VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
_LIBRARY_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64")
_MODEL_NAMES: dict[Role, str] = {"chat": CHAT_MODEL_NAME, "embedding": EMBEDDING_MODEL_NAME}
_MODULE = "vllm.entrypoints.openai.api_server"
# 64 at once decode as fast as 128 and faster than 32. Blocks of 32 tokens instead of 128, because
# only whole blocks are cached and the head that all prompts of a template share is about 60 long.
_CHAT_FLAGS = ["--max-model-len", "2048", "--max-num-seqs", "64", "--block-size", "32"]
# Titles are short: room for several requests of them in one step.
_EMBEDDING_FLAGS = [
    *("--runner", "pooling", "--max-model-len", "256"),
    *("--max-num-seqs", "256", "--max-num-batched-tokens", "8192"),
]
_ROLE_FLAGS: dict[Role, list[str]] = {"chat": _CHAT_FLAGS, "embedding": _EMBEDDING_FLAGS}
# Compiling gains 6 % of throughput for two minutes of start, and needs a C++ compiler.
_CPU_FLAGS = ["--enforce-eager"]
_GPU_FLAGS = ["--gpu-memory-utilization", "0.4"]  # two servers share the device
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
            if server is not None and server.healthy.is_set() and not server.process.running:
                self._report(f"the local {role} server ended by itself; starting it again")
                server.process.stop()
                server = None
            if server is None:
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
                raise LocalServerFailed(
                    f"the local {server.role} server ended. {_tail(server.log)}"
                )
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
    python, device_flags, device_variables = environment.python, _CPU_FLAGS, {}
    if settings.gpu_python is not None and _has_gpu():
        python, device_flags = settings.gpu_python, _GPU_FLAGS
    else:
        device_variables = _cpu_variables(environment)
    command = [
        *(str(python), "-m", _MODULE, "--model", str(folder)),
        *("--served-model-name", _MODEL_NAMES[role], "--host", _HOST, "--port", str(port)),
        *("--dtype", "bfloat16", "--disable-uvicorn-access-log"),
        *(*_ROLE_FLAGS[role], *device_flags),
    ]
    return command, {**os.environ, **_QUIET_VARIABLES, **device_variables}


def _cpu_variables(environment: LocalEnvironment) -> dict[str, str]:
    preloaded = [*_preloaded(environment), *os.environ.get("LD_PRELOAD", "").split(":")]
    return {
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB: 46,000 tokens of the chat model
        # Runs the model in the engine's process. A worker of its own would import everything a
        # third time (20 s on two cores) and bind threads to one core less than there are.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
        # Milliseconds that idle threads spin; the default 200 takes cores from the other server.
        "KMP_BLOCKTIME": "5",
        "LD_PRELOAD": ":".join(path for path in preloaded if path),
    }


def _preloaded(environment: LocalEnvironment) -> list[str]:
    """Libraries that vLLM's CPU build runs faster with, those of them that are there."""
    folders = [Path(folder) for folder in _LIBRARY_FOLDERS]
    allocators = [
        found for folder in folders for found in sorted(folder.glob("libtcmalloc_minimal.so*"))
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
