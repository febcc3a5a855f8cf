"""Start, monitoring and stop of the local vLLM servers: one for chat, one for embeddings.

Both are OpenAI-compatible servers on 127.0.0.1, each a process tree that ends with this process. A
crashed server is restarted once on its port while requests wait. On CPUs the flags are tuned for
two cores; one GPU is shared by both servers, of several the chat server gets all except one.
"""

import http.client
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from artifacts.ledger.answers import Role
from tasks.llm.providers.local_setup import (
    CHAT_MODEL_NAME,
    EMBEDDING_MODEL_NAME,
    SAFE_PATH,
    LocalEnvironment,
    Report,
)
from tasks.llm.settings.batch_config import BatchStart
from tasks.system.free_port import free_port
from tasks.system.guarded_process import GuardedProcess
from tasks.system.port_owner import is_foreign

_HOST = "127.0.0.1"
_OWN_VARIABLES = {
    **SAFE_PATH,
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
_CPU_INFO = Path("/proc/cpuinfo")
_LIBRARY_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64")
_MODEL_NAMES: dict[Role, str] = {
    Role.CHAT: CHAT_MODEL_NAME,
    Role.EMBEDDING: EMBEDDING_MODEL_NAME,
}
_SERVER = "vllm.entrypoints.openai.api_server"
# Started as a module, because the `vllm` command of the CPU build does not find its own version.
_RUN_BATCH = "vllm.entrypoints.openai.run_batch"
_ROLE_FLAGS: dict[Role, list[str]] = {
    Role.CHAT: ["--max-model-len", "2048"],
    Role.EMBEDDING: ["--runner", "pooling", "--max-model-len", "256"],
}
_CPU_FLAGS: dict[Role, list[str]] = {
    # 64 sequences decode as fast as 128 and faster than 32. Blocks of 32 tokens instead of 128,
    # because only whole blocks are cached and the common prefix of a template has about 60 tokens.
    Role.CHAT: ["--max-num-seqs", "64", "--block-size", "32"],
    # Titles are short, so one step holds several requests.
    Role.EMBEDDING: ["--max-num-seqs", "256", "--max-num-batched-tokens", "8192"],
}
# Compilation gains 6 % of throughput, but takes two minutes and needs a C++ compiler.
_EAGER = ["--enforce-eager"]
_GPU_FLAGS: dict[Role, list[str]] = {
    Role.CHAT: ["--max-num-seqs", "256"],
    Role.EMBEDDING: ["--max-num-seqs", "256", "--max-num-batched-tokens", "32768"],
}
_SHARED_GPU_MEMORY: dict[Role, str] = {Role.CHAT: "0.6", Role.EMBEDDING: "0.25"}
_OWN_GPU_MEMORY = "0.9"
_WATCH_SECONDS = 1.0
_POLL_SECONDS = 0.2
_LOG_LINES_SHOWN = 25


class LocalServerError(RuntimeError):
    """A server ended before it answered, or did not answer in time."""


@dataclass(frozen=True)
class LocalVllmSettings:
    """Settings of a machine. startup_timeout: seconds to wait for a server's first response.
    stop_grace: seconds between SIGTERM and SIGKILL. gpu_python: Python interpreter with a CUDA
    build of vLLM, used if `nvidia-smi` lists a device; otherwise the CPU build is used."""

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
    is_second: bool = False
    healthy: threading.Event = field(default_factory=threading.Event)


class LocalVllm:
    """The two local servers. Use as a context manager, or call `stop`.

    Thread-safe; each role has one server. A server that dies after it was healthy is restarted once
    with the same URL; a server that never became healthy is not, because it would fail again.
    `on_lost` is called when a server is lost permanently.
    """

    def __init__(
        self,
        environment: LocalEnvironment | Callable[[], LocalEnvironment],
        log_directory: Path,
        *,
        report: Report,
        settings: LocalVllmSettings | None = None,
        on_lost: Callable[[str], None] | None = None,
    ) -> None:
        self._environment = environment
        self._log_directory = log_directory
        self._report = report
        self._settings = settings or LocalVllmSettings()
        self._servers: dict[Role, _Server] = {}
        self._lock = threading.Lock()
        self._on_lost = on_lost
        self._ending = threading.Event()
        self._watch: threading.Thread | None = None

    @property
    def started(self) -> bool:
        """Whether any server is started."""
        return bool(self._servers)

    def start(self) -> None:
        """Starts both servers without waiting; they load in parallel."""
        for role in Role:
            self._launched(role)

    def base_url(self, role: Role) -> str:
        """Waits for the server; returns its URL including `/v1`. Raises LocalServerError."""
        server = self._launched(role)
        if not server.healthy.is_set():
            self._wait(server)
        return f"http://{_HOST}:{server.port}/v1"

    def model_name(self, role: Role) -> str:
        """Returns the value of `model` in requests."""
        return _MODEL_NAMES[role]

    def batch_start(self, role: Role) -> BatchStart:
        """Returns the command of a role's model for files of prompts."""
        environment, gpus = self._installed()
        return BatchStart(*_engine(role, environment, self._settings, gpus, _RUN_BATCH))

    def stop(self) -> None:
        """Stops both servers with all child processes and waits for their end. Idempotent."""
        self._ending.set()
        if self._watch is not None and self._watch is not threading.current_thread():
            self._watch.join()
            self._watch = None
        with self._lock:
            servers, self._servers = list(self._servers.values()), {}
        stopping = [threading.Thread(target=server.process.stop) for server in servers]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _restart_the_dead(self) -> None:
        while not self._ending.wait(_WATCH_SECONDS):
            for role in list(self._servers):
                try:
                    second = self._launched(role)
                    if second.is_second and not second.healthy.is_set():
                        self._wait(second)
                except LocalServerError as error:
                    if self._on_lost is not None and not self._ending.is_set():
                        self._on_lost(str(error))
                    return

    def _launched(self, role: Role) -> _Server:
        with self._lock:
            server = self._servers.get(role)
            if server is not None and server.healthy.is_set() and not server.process.running:
                server = self._servers[role] = self._second(server)
            if server is None:
                server = self._servers[role] = self._launch(role, free_port())
            return server

    def _second(self, dead: _Server) -> _Server:
        dead.process.stop()
        if dead.is_second:
            raise LocalServerError(_ended(dead))
        self._report(f"the local {dead.role} server ended unexpectedly; restarting it")
        # The log of the first server is kept.
        kept = dead.log.with_name(f"{dead.log.stem}-crashed.log")
        dead.log.replace(kept)
        return self._launch(dead.role, dead.port, is_second=True)

    def _launch(self, role: Role, port: int, *, is_second: bool = False) -> _Server:
        environment, gpus = self._installed()
        self._log_directory.mkdir(parents=True, exist_ok=True)
        log = (self._log_directory / f"vllm-{role}.log").absolute()
        command, variables = invocation(role, environment, port, self._settings, gpus)
        self._report(f"starting the local {role} server (log: {log})")
        process = GuardedProcess(command, variables, log, self._settings.stop_grace)
        if self._watch is None:
            self._ending.clear()
            self._watch = threading.Thread(target=self._restart_the_dead, daemon=True)
            self._watch.start()
        return _Server(role, process, port, log, time.monotonic(), is_second)

    def _installed(self) -> tuple[LocalEnvironment, int]:
        """Returns the environment and the number of usable GPUs."""
        if not isinstance(self._environment, LocalEnvironment):
            self._environment = self._environment()
        return self._environment, gpu_count() if self._settings.gpu_python is not None else 0

    def _wait(self, server: _Server) -> None:
        deadline = server.started_at + self._settings.startup_timeout
        while not _answers(server.port):
            if self._ending.is_set():
                raise LocalServerError(f"the local {server.role} server is being stopped")
            if not server.process.running:
                raise LocalServerError(_ended(server))
            if time.monotonic() > deadline:
                raise LocalServerError(
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


def _ended(server: _Server) -> str:
    how = "crashed twice" if server.is_second else "ended"
    return f"the local {server.role} server {how}. {_tail(server.log)}"


def invocation(
    role: Role,
    environment: LocalEnvironment,
    port: int,
    settings: LocalVllmSettings,
    gpus: int,
) -> tuple[list[str], dict[str, str]]:
    """Returns the command and environment variables of a role's server for this many GPUs.

    Without a GPU or a CUDA environment, the CPU build is used.
    """
    model, variables = _engine(role, environment, settings, gpus, _SERVER)
    where = ["--host", _HOST, "--port", str(port), "--disable-uvicorn-access-log"]
    return [*model, *where], variables


def _engine(
    role: Role,
    environment: LocalEnvironment,
    settings: LocalVllmSettings,
    gpus: int,
    module: str,
) -> tuple[list[str], dict[str, str]]:
    folder = environment.chat_model_dir if role is Role.CHAT else environment.embedding_model_dir
    if settings.gpu_python is not None and gpus:
        python = settings.gpu_python
        flags, device_variables = _gpu_flags(role, gpus)
        dtype = "bfloat16"
    else:
        python = environment.python
        dtype = cpu_dtype(_CPU_INFO.read_text("utf-8", "replace"))
        flags, device_variables = [*_CPU_FLAGS[role], *_EAGER], _cpu_variables(environment)
    command = [
        *(str(python), "-m", module, "--model", str(folder)),
        *("--served-model-name", _MODEL_NAMES[role], "--dtype", dtype),
        *(*_ROLE_FLAGS[role], *flags),
    ]
    return command, {**os.environ, **_OWN_VARIABLES, **device_variables}


def cpu_dtype(info: str) -> str:
    """Returns the number format in which a processor is fast, of the text of ``/proc/cpuinfo``.

    Without AVX-512 (x86) or BF16 (ARM), matrix products in bfloat16 are emulated, and a chat
    server writes some tokens a second in place of hundreds.
    """
    known = set(info.split())
    return "bfloat16" if known & {"avx512bw", "bf16"} else "float32"


def gpu_count() -> int:
    """Returns the number of GPUs listed by the driver; 0 without a driver."""
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    lines = listed.stdout.splitlines() if listed.returncode == 0 else []
    return sum(line.startswith("GPU ") for line in lines)


def _gpu_flags(role: Role, gpus: int) -> tuple[list[str], dict[str, str]]:
    """Returns the GPU flags: one GPU is shared; of several, embeddings use the last and chat has a
    replica on each other one."""
    if gpus == 1:
        return [*_GPU_FLAGS[role], "--gpu-memory-utilization", _SHARED_GPU_MEMORY[role]], {}
    own = [str(gpus - 1)] if role is Role.EMBEDDING else [str(gpu) for gpu in range(gpus - 1)]
    replicas = ["--data-parallel-size", str(len(own))] if len(own) > 1 else []
    memory = ["--gpu-memory-utilization", _OWN_GPU_MEMORY]
    return [*_GPU_FLAGS[role], *memory, *replicas], {"CUDA_VISIBLE_DEVICES": ",".join(own)}


def _cpu_variables(environment: LocalEnvironment) -> dict[str, str]:
    preloaded = [*_preloaded(environment), *os.environ.get("LD_PRELOAD", "").split(":")]
    return {
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB: 46,000 tokens of the chat model
        # Runs the model in the engine's process. A separate worker would import all modules a third
        # time (20 s on two cores) and leave one core unused.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
        # Milliseconds of spinning of idle threads; the default 200 takes cores from the other
        # server.
        "KMP_BLOCKTIME": "5",
        "LD_PRELOAD": ":".join(path for path in preloaded if path),
    }


def _preloaded(environment: LocalEnvironment) -> list[str]:
    """Returns the available libraries that speed up vLLM's CPU build."""
    folders = [Path(folder) for folder in _LIBRARY_FOLDERS]
    allocators = [
        found for folder in folders for found in sorted(folder.glob("libtcmalloc_minimal.so*"))
    ]
    openmp = environment.directory / "lib" / "libiomp5.so"
    return [str(path) for path in (*allocators[:1], openmp) if path.is_file()]


def _answers(port: int) -> bool:
    if is_foreign(port):
        return False  # It would receive the prompts. The own server ends, without a port.
    # Without a client that uses proxy variables, because the server is local.
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
