"""The one event loop of this process that talks to endpoints, in a thread of its own.

Shards run in several threads. They share this loop, and with it connections, limits and the
knowledge of who is down. Each shard's thread keeps the shard's answers: what it writes to disk
does not hold up the others' requests. A request's slot is free again only when its answers are
kept, so no more is lost by a kill than was in flight.
"""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

Thing = TypeVar("Thing")

Give = Callable[[Sequence[Thing]], Awaitable[None]]
"""Hands things to the thread that keeps them; returns when they are kept."""


def run(
    work: Callable[[Give[Thing]], Coroutine[None, None, None]], keep: Callable[[Thing], None]
) -> None:
    """Runs ``work`` on the loop; what it gives is kept by ``keep`` in the calling thread.

    An error of either ends both and is raised.
    """
    loop = _running_loop()
    handoff = _Handoff[Thing](loop)
    running = asyncio.run_coroutine_threadsafe(work(handoff.give), loop)
    running.add_done_callback(lambda _: handoff.close())
    try:
        handoff.keep_all(keep)
    except BaseException:
        running.cancel()
        raise
    running.result()


class _Handoff(Generic[Thing]):
    """From the loop to one thread, and the word back that things are kept."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._given: SimpleQueue[tuple[Sequence[Thing], asyncio.Future[None]] | None] = (
            SimpleQueue()
        )

    async def give(self, things: Sequence[Thing]) -> None:
        kept = self._loop.create_future()
        self._given.put((things, kept))
        await kept

    def close(self) -> None:
        self._given.put(None)

    def keep_all(self, keep: Callable[[Thing], None]) -> None:
        while (first := self._given.get()) is not None:
            # All that waits is kept before the loop is told: one wake-up for many answers.
            waiting = [first]
            for _ in range(self._given.qsize()):
                if (other := self._given.get()) is None:
                    self._given.put(None)
                else:
                    waiting.append(other)
            for things, _ in waiting:
                for thing in things:
                    keep(thing)
            self._loop.call_soon_threadsafe(_tell, [kept for _, kept in waiting])


def _tell(kept: list[asyncio.Future[None]]) -> None:
    for future in kept:
        if not future.done():
            future.set_result(None)


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
