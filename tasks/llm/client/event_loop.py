"""The one event loop of this process that talks to endpoints, in a thread of its own.

Shards run in several threads. They share this loop, and with it connections, limits and the
knowledge of who is down. What an answer brings is kept on the loop, before its worker asks
again: so no more is lost by a kill than was in flight, and no thread is woken for an answer,
which costs more than to write it down.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import wait
from contextlib import AbstractAsyncContextManager, contextmanager

WAIT_SECONDS = 0.2


def run(work: Coroutine[None, None, None], on_wait: Callable[[], None]) -> None:
    """Runs ``work`` on the loop to its end, and raises its error.

    ``on_wait`` is called in the calling thread, now and then and once at the end: for what may
    take longer than the loop can stand still.
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
    """Holds something of the loop's open while the block of this thread runs."""
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
        if _loop is None or _owner != os.getpid():  # A fork has the loop but not its thread.
            _loop, _owner = asyncio.new_event_loop(), os.getpid()
            threading.Thread(target=_loop.run_forever, name="asking", daemon=True).start()
        return _loop


def _call(work: Coroutine[None, None, object]) -> None:
    asyncio.run_coroutine_threadsafe(work, _running_loop()).result()
