"""The event loop of all requests of this process, in its own thread.

Shards run in several threads and share this loop with its connections, limits and server states.
Answers are written on the loop before the worker sends again: a kill loses only answers in flight,
and no thread is woken per answer, which would cost more than writing it.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import wait
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

from tasks.system.machine_errors import is_lack

WAIT_SECONDS = 0.2


def run(work: Coroutine[None, None, None], on_wait: Callable[[], None]) -> None:
    """Runs ``work`` on the loop; returns its result or raises its error.

    ``on_wait`` is called in the calling thread periodically and at the end, for operations that
    would block the loop.
    """
    running = asyncio.run_coroutine_threadsafe(work, _running_loop())
    try:
        while wait([running], WAIT_SECONDS).not_done:
            on_wait()
        on_wait()
    except BaseException:
        running.cancel()
        raise
    running.result()


@contextmanager
def held(context: AbstractAsyncContextManager[object]) -> Iterator[None]:
    """Keeps a resource of the loop open during a block of this thread."""
    _call(context.__aenter__())
    try:
        yield
    finally:
        _call(context.__aexit__(None, None, None))


_guard = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_owner = 0


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop, _owner
    with _guard:
        if (
            _loop is None or _owner != os.getpid()
        ):  # A forked process has the loop but not its thread.
            _loop, _owner = asyncio.new_event_loop(), os.getpid()
            _loop.set_exception_handler(_end_if_lacking)
            threading.Thread(target=_loop.run_forever, name="asking", daemon=True).start()
        return _loop


def _end_if_lacking(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handles an error of a callback; of a lack (`is_lack`) as of a thread that ends by it, because
    what the callback was to pass on may be waited for."""
    error = context.get("exception")
    if isinstance(error, BaseException) and is_lack(error):
        told = (type(error), error, error.__traceback__, threading.current_thread())
        threading.excepthook(threading.ExceptHookArgs(told))
    else:
        loop.default_exception_handler(context)


def _call(work: Coroutine[None, None, object]) -> None:
    asyncio.run_coroutine_threadsafe(work, _running_loop()).result()
