"""How a command ends: one message instead of a trace, an exit status that scripts can read.

0: it did what was asked. 130: interrupted. The others are told in `flows.cli.errors.endings`.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from artifacts.remote.url_credentials import without_credentials
from flows.cli.output import terminal
from tasks.llm.client.stop import stop_asking

INTERRUPTED = 130

GRACE_SECONDS = 5.0
"""From an interrupt to the end: time for journals to be sealed and servers to stop."""


@contextmanager
def one_message() -> Iterator[None]:
    """An expected error ends the process with one message; an unexpected one keeps its trace."""
    try:
        yield
    except Exception as error:
        from flows.cli.errors.endings import ending_of  # A command that ends well need not load it.

        ending = ending_of(error)
        if ending is None:
            raise
        _end(ending.label, ending.text, ending.status)


@contextmanager
def interruptible(kept: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM end a run with what is kept and how to go on, always.

    Python raises KeyboardInterrupt wherever the main thread happens to be; in a finalizer it is
    swallowed. So a clock runs from the signal on, and what has not ended by then is ended.
    Guarded processes (the local servers, Prefect's) end with us in any case.
    """

    def end(number: int, frame: FrameType | None) -> None:
        stop_asking()
        clock = threading.Timer(GRACE_SECONDS, _end_interrupted, [kept])
        clock.daemon = True
        clock.start()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    try:
        yield
    except KeyboardInterrupt:
        _end_interrupted(kept)


@contextmanager
def leaving() -> Iterator[None]:
    """Ends a command whose Prefect server went away at once: Python would wait for services that
    go on trying to send."""
    try:
        yield
    except SystemExit as end:
        # Few commands load it, and all start quickly.
        watch = sys.modules.get("tasks.frame.prefect_link")
        if watch is not None and watch.has_given_up():
            _leave(end.code if isinstance(end.code, int) else 0)
        raise


def _end(label: str, text: str, status: int) -> NoReturn:
    """Ends with one message; ``text`` may hold anything and is shown as it is."""
    terminal.err.print(label, style="bold red", end=" ")
    terminal.err.print(without_credentials(text), highlight=False)
    _leave(status)


def _end_interrupted(kept: str) -> None:
    terminal.err.print(f"Interrupted. {kept}")
    _leave(INTERRUPTED)


def _leave(status: int) -> NoReturn:
    """Ends at once: worker threads may still wait for answers that nobody wants any more."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
