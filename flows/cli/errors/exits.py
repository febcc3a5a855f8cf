"""Ends of commands: one message in place of a traceback, and an exit status for scripts.

0: success. 130: interrupted. `flows.cli.errors.endings` defines the others.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from artifacts.remote.url_credentials import without_credentials
from flows.cli.errors.machine_faults import machine_fault
from flows.cli.output import terminal
from tasks.llm.client.stop import stop_asking
from tasks.system.lost_threads import on_lost_thread
from tasks.system.machine_errors import chain_of

INTERRUPTED = 130

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

GRACE_SECONDS = 5.0
"""Seconds from an interrupt to the forced end, for sealing journals and stopping servers."""


@contextmanager
def one_message() -> Iterator[None]:
    """Ends the process with one message for an expected error, also of a thread that cannot run; an
    unexpected error keeps its traceback."""
    try:
        with on_lost_thread(_end_without_thread):
            yield
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # A panic of a library in Rust is no Exception.
        if _is_interrupt(error):
            raise KeyboardInterrupt from error
        try:
            from flows.cli.errors.endings import ending_of  # Imported on failure only.
        except (OSError, MemoryError, ImportError) as lack:  # No file or memory for the module.
            _end("Failed:", machine_fault(error) or machine_fault(lack) or str(error), 1)
        ending = ending_of(error)
        if ending is None:
            raise
        _end(ending.label, ending.text, ending.status)


@contextmanager
def interruptible(kept: str) -> Iterator[None]:
    """Ends a run on Ctrl-C, SIGTERM and the end of its terminal (SIGHUP, unless `nohup` ignores it)
    with a message about kept results and the command to resume.

    Python raises KeyboardInterrupt at an arbitrary point of the main thread: in a finalizer it is
    swallowed, and a call of a library delays it until it returns, also a wait that the signal
    precedes by microseconds. Another thread therefore learns of the signal at once, and forces the
    end. Guarded processes (local servers, Prefect) end with this process.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in _ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)
    try:
        with _on_signal(lambda: _force_end(kept)):
            yield
    except BaseException as error:
        if not _is_interrupt(error):
            raise
        _end_interrupted(kept)


def _is_interrupt(error: BaseException) -> bool:
    """Includes errors of libraries that a KeyboardInterrupt caused: pydantic wraps it."""
    return any(isinstance(each, KeyboardInterrupt) for each in chain_of(error))


@contextmanager
def _on_signal(act: Callable[[], None]) -> Iterator[None]:
    """Calls ``act`` in a thread when one of the signals that end a run arrives during a block."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def watch() -> None:
        while numbers := os.read(reading, 64):
            if not set(_ENDING).isdisjoint(numbers):
                act()
        os.close(reading)

    threading.Thread(target=watch, name="signals", daemon=True).start()
    # A forked process has the pipe too; its signals are not this one's.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)


def _force_end(kept: str) -> None:
    stop_asking()
    time.sleep(GRACE_SECONDS)
    _end_interrupted(kept)


@contextmanager
def leaving() -> Iterator[None]:
    """Ends a command with a lost Prefect server immediately: Python would wait for services that
    keep retrying."""
    try:
        yield
    except SystemExit as end:
        # Imported here, because few commands need it.
        watch = sys.modules.get("tasks.frame.prefect_link")
        if watch is not None and watch.has_given_up():
            _leave(end.code if isinstance(end.code, int) else 0)
        raise


def _end(label: str, text: str, status: int) -> NoReturn:
    """Ends with one message; ``text`` is printed literally, its lines with commands unbroken."""
    said = without_credentials(text)
    try:
        terminal.err.print(label, style="bold red", end=" ")
        for line in said.splitlines():
            terminal.err.print(line, highlight=False, soft_wrap=line.startswith("llm4cdsr "))
    except (OSError, MemoryError):  # Colours and line breaks need memory and files.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{label} {said}\n".encode())
    _leave(status)


def _end_without_thread(error: BaseException) -> NoReturn:
    _end("Failed:", machine_fault(error) or str(error), 1)


def _end_interrupted(kept: str) -> None:
    try:
        terminal.err.print(f"Interrupted. {kept}")
    finally:  # The terminal may be gone.
        _leave(INTERRUPTED)


def _leave(status: int) -> NoReturn:
    """Ends immediately: worker threads may still wait for abandoned answers."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)
