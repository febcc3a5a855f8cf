"""A full disk, lacking memory or rights are one line with a way out, by whichever library met."""

import errno
import json
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from flows.cli.errors.endings import FAILED, ending_of
from flows.cli.errors.machine_faults import ADVICE, KEPT, machine_fault
from tasks.system.machine_errors import FAULTS

FULL = Path("/dev/full")
"""Every write fails for want of space."""


def of_polars() -> None:
    pl.DataFrame({"a": range(100_000)}).write_parquet(FULL)


def of_python() -> None:
    with FULL.open("w") as file:
        file.write("x")


def of_numpy() -> None:
    np.arange(100_000).tofile(FULL)


def of_torch() -> None:
    torch.save({"a": torch.zeros(100_000)}, FULL)


def of_chained() -> None:
    try:
        of_python()
    except OSError as error:
        raise ValueError("the epoch cannot be noted") from error


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("write", [of_polars, of_python, of_numpy, of_torch, of_chained])
def test_a_full_disk_is_one_line_that_says_so(write: object) -> None:
    assert callable(write)
    with pytest.raises(Exception) as raised:  # noqa: PT011 (each library raises its own)
        write()
    ending = ending_of(raised.value)
    assert ending is not None, raised.value
    assert ending.status == FAILED
    assert "full" in ending.text
    assert "--store" in ending.text
    assert "\n" not in ending.text


def test_a_read_only_database_is_told_as_such(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    with sqlite3.connect(file) as made:
        made.execute("create table a (b)")
    made.close()
    opened = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError) as raised:
        opened.execute("insert into a values (1)")
    opened.close()
    assert "read-only" in (machine_fault(raised.value) or "")


def test_weights_that_do_not_fit_are_one_line() -> None:
    """In a process of its own: the limit cannot be taken back."""
    script = """
import resource, tempfile
import numpy as np
from safetensors.numpy import save_file
from flows.cli.errors.endings import ending_of
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
with tempfile.TemporaryDirectory() as folder:
    try:
        save_file({"a": np.zeros(100_000)}, folder + "/weights")
    except Exception as error:
        print(ending_of(error).text)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "ulimit -f" in done.stdout


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "memory ran out"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: ..."), "memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "train.accum"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/store"), "/data/store"),
        (OSError(errno.EROFS, "Read-only file system", "/data"), "read-only"),
        (OSError(errno.EIO, "Input/output error"), "dmesg"),
        (pl.exceptions.ComputeError("No space left on device (os error 28)"), "disk is full"),
    ],
)
def test_each_lack_has_its_own_advice(error: Exception, words: str) -> None:
    ending = ending_of(error)
    assert ending is not None
    assert words in ending.text
    assert KEPT in ending.text


@pytest.mark.parametrize(
    "error",
    [
        ValueError("the column 'out of memory' is missing"),
        KeyError("No space left on device"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
        json.JSONDecodeError("too many open files", "", 0),
        RuntimeError("something else"),
    ],
)
def test_an_error_that_merely_sounds_so_is_left_alone(error: Exception) -> None:
    assert machine_fault(error) is None


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert machine_fault(first) is None


def test_every_advice_says_what_to_do() -> None:
    assert ADVICE.keys() == FAULTS.keys()
    for advice in ADVICE.values():
        assert advice[0].islower() or advice.startswith("--")


def test_a_port_that_is_taken_is_named_with_its_own_advice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(OSError, match="in use") as raised:
            socket.create_server(("127.0.0.1", port))
    fault = machine_fault(raised.value)
    assert fault is not None
    assert f"127.0.0.1:{port}" in fault
    assert "--port" in fault
    assert KEPT not in fault


WITHOUT_FILES = """
import resource
from flows.cli.errors.exits import one_message
with one_message():
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    open("weights")
"""


def test_a_process_that_can_open_no_file_still_ends_with_one_message() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_FILES], capture_output=True, text=True, check=False
    )
    assert ended.returncode == FAILED
    said = " ".join(ended.stderr.split())
    assert said.startswith("Failed: too many open files: weights; raise `ulimit -n`")
    assert "Traceback" not in said


WITHOUT_MEMORY = """
import resource, sys, threading, time
import polars as pl
from pathlib import Path
from flows.cli.errors.exits import one_message

def limit(more):
    threading.stack_size(256 * 1024)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (most, most))

def a_thread_that_does_not_come_to_its_first_line():
    limit(256 * 1024 + 16_000)  # Its stack, its guard page, and nothing for its first frame.
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()

def a_thread_that_ends_for_lack_of_memory():
    def work():
        raise MemoryError
    threading.Thread(target=work).start()
    threading.Event().wait()

def a_callback_that_fails_for_lack_of_memory():
    from tasks.llm.client import event_loop
    def fail():
        raise MemoryError
    async def ask():
        event_loop._loop.call_soon(fail)
    event_loop.run(ask(), lambda: None)
    threading.Event().wait()

def threads_of_a_library_in_rust():
    limit(1 << 20)
    pl.DataFrame({"a": range(1000)}).group_by("a").len()

with one_message():
    globals()[sys.argv[1]]()
"""


@pytest.mark.parametrize(
    "where",
    [
        "a_thread_that_does_not_come_to_its_first_line",
        "a_thread_that_ends_for_lack_of_memory",
        "a_callback_that_fails_for_lack_of_memory",
        "threads_of_a_library_in_rust",
    ],
)
def test_a_thread_that_cannot_run_ends_the_command_with_one_message(where: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_MEMORY, where],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == FAILED, ended.stderr
    said = " ".join(ended.stderr.split())
    assert "Failed: memory ran out" in said or "Failed: no new thread" in said
    assert KEPT in said
    assert "Traceback" not in said
