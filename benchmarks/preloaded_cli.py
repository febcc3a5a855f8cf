"""Command lines in processes of their own that need not load PyTorch and Prefect each time.

A server process loads the command line once and forks for each command: a real process, with a
process id to kill, that begins at the first line of the command. `SIGUSR1` makes it write the
stacks of its threads to its log. What modules read from the environment when they are loaded
(`flows.operating.OPERATING`) is that of the server. Started as a program it is that server: it
reads a JSON object a line (arguments, folder, variables, log, errors) and answers with the process
id at once, and with process id and status when the command has ended.
"""

import faulthandler
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import cast

ROOT = Path(__file__).parents[1]
LOADED = (
    "faiss",
    "httpcore2",
    "openai",
    "prefect.flow_engine",
    "prefect.task_engine",
    "sklearn.cluster",
    "sklearn.decomposition",
    "torch._dynamo",  # What an optimizer's first step loads.
    "truststore",
    "uvicorn.lifespan.off",
    "uvicorn.loops.asyncio",
    "flows.cli.commands.runs.run_commands",
    "flows.cli.running",
    "flows.pipeline",
    "tasks.llm.client.ask",
    "tasks.llm.providers.dummy_endpoint",
    "tasks.llm.shards.shard_run",
    "model.training.trainer",
)

SAFE_THREADS = {"jemalloc_bg_thd", "polars-ooc-clea"}
"""The allocator of Polars holds its locks over a fork; its cleaner of spilled files waits only."""


class PreloadedProcess:
    """A command under way; the part of `subprocess.Popen` that benchmarks use."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = threading.Event()

    def poll(self) -> int | None:
        """Returns the status, None while it runs; of a signal its negative number."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Returns the status; raises `subprocess.TimeoutExpired`."""
        if not self._ended.wait(timeout) or self.returncode is None:
            raise subprocess.TimeoutExpired("llm4cdsr", timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def end(self, status: int) -> None:
        """Notes how it ended."""
        self.returncode = status
        self._ended.set()


class PreloadedCli:
    """The server that forks; see `preloaded_cli`."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server
        self._begun = SimpleQueue[PreloadedProcess]()
        threading.Thread(target=self._listen, daemon=True).start()

    def run(
        self, arguments: Sequence[str], folder: Path, variables: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Runs ``llm4cdsr ARGUMENTS`` in a folder to its end."""
        with tempfile.TemporaryDirectory() as place:
            out, err = Path(place) / "out", Path(place) / "err"
            status = self.start(arguments, folder, variables, out, err).wait(550)
            said = out.read_text(errors="replace"), err.read_text(errors="replace")
        return subprocess.CompletedProcess(list(arguments), status, *said)

    def start(
        self,
        arguments: Sequence[str],
        folder: Path,
        variables: Mapping[str, str],
        log: Path,
        errors: Path | None = None,
    ) -> PreloadedProcess:
        """Starts ``llm4cdsr ARGUMENTS`` in a folder; what it says goes to the log, or its messages
        to a file of their own."""
        command = {
            "arguments": list(arguments),
            "folder": str(folder),
            "variables": dict(variables),
            "log": str(log),
            "errors": str(errors or log),
        }
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(command) + "\n")
        self._server.stdin.flush()
        return self._begun.get(timeout=600)

    def _listen(self) -> None:
        processes: dict[int, PreloadedProcess] = {}
        for line in self._server.stdout or ():
            told = cast(dict[str, int], json.loads(line))
            pid = told["pid"]
            if "status" in told:
                processes.pop(pid).end(told["status"])
            else:
                processes[pid] = PreloadedProcess(pid)
                self._begun.put(processes[pid])


@contextmanager
def preloaded_cli(
    variables: Mapping[str, str], folder: Path | None = None
) -> Iterator[PreloadedCli]:
    """Runs the server, in a folder, while the block lasts."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__))],
        env=dict(variables),
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            yield PreloadedCli(server)
        finally:
            server.kill()


def _serve() -> None:
    import importlib

    from flows.cli.entry import OPENMP, PREFECT_LOGGING

    for name, value in (PREFECT_LOGGING | OPENMP).items():
        os.environ.setdefault(name, value)
    for module in LOADED:
        importlib.import_module(module)
    # A lock that a thread holds when the process forks is never released in the new process.
    names = {(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
    # The name of the process is that of its main thread, whatever the interpreter is called.
    if unsafe := names - SAFE_THREADS - {Path("/proc/self/comm").read_text().strip()}:
        raise RuntimeError(f"threads before the first fork: {sorted(unsafe)}")
    gc.freeze()
    to_benchmark = os.dup(1)

    def tell(**facts: int) -> None:
        os.write(to_benchmark, (json.dumps(facts) + "\n").encode())

    for line in sys.stdin:
        command = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.close(to_benchmark)
            _become(command)
        tell(pid=pid)
        # One at a time: a thread that waits would be in the next fork.
        _, status = os.waitpid(pid, 0)
        tell(pid=pid, status=os.waitstatus_to_exitcode(status))


def _become(command: dict[str, object]) -> None:
    """Runs a command in this process, which was forked for it, and ends it."""
    from prefect.context import refresh_global_settings_context

    os.setpgid(0, 0)
    for place, target in ((os.devnull, 0), (command["log"], 1), (command["errors"], 2)):
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        os.dup2(os.open(str(place), flags), target)
    faulthandler.register(signal.SIGUSR1)
    os.environ.clear()
    os.environ.update(cast(dict[str, str], command["variables"]))
    os.chdir(str(command["folder"]))
    sys.argv = ["llm4cdsr", *cast(list[str], command["arguments"])]
    refresh_global_settings_context()
    from flows.cli.entry import main

    status = 0
    try:
        main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 (as an interpreter ends)
        import traceback

        status = 1  # First: where no byte can be written, the trace cannot be told.
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    _serve()
