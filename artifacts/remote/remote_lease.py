"""One at a time among machines that share a store: a lease of objects, written on condition.

A lease is taken by creating the object of the next number (``If-None-Match`` on S3), which of
several takers one can. Its holder changes another object every few seconds. Who sees no change for
`LEASE_SECONDS`, by its own clock, takes the next number: clocks of machines need not agree.

A holder that stood still for longer than that, and goes on, is not alone: what a lease guards must
bear that (answers are paid twice, of two makers one wins), and is never wrong for it.
"""

import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from artifacts.remote.remote_side import RemoteStore

LEASE_SECONDS = 60.0
BEAT_SECONDS = 10.0
POLL_SECONDS = 1.0

_HELD, _BEAT, _ENDED = ".held", ".beat", ".ended"
_NAME = re.compile(r"(\d{8})(\.(?:held|beat|ended))")

logger = logging.getLogger("llm4cdsr")


class Liveness:
    """Whether something still changes that its owner changes while it lives."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[bytes | None, float]] = {}

    def is_alive(self, name: str, beat: bytes | None) -> bool:
        """Returns False once ``beat`` has been the same for `LEASE_SECONDS`."""
        now = time.monotonic()
        before, since = self._seen.get(name, (b"never seen", now))
        if before != beat:
            before, since = beat, now
        self._seen[name] = (before, since)
        return now - since < LEASE_SECONDS


class RemoteLease:
    """The right to a place in a store; one holder at a time."""

    def __init__(self, remote: RemoteStore, *place: str) -> None:
        self._remote, self._place = remote, place
        self._liveness = Liveness()

    @contextmanager
    def held(self, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Waits for the lease and holds it while the block runs.

        ``on_wait`` is called before each further try; what it raises ends the wait.
        """
        while (number := self._taken()) is None:
            on_wait()
            time.sleep(POLL_SECONDS)
        try:
            with beating(lambda beat: self._write(beat, number, _BEAT)):
                yield
        finally:
            self._write(b"", number, _ENDED)

    def _taken(self) -> int | None:
        """Returns the number under which this process holds the lease now, None while it cannot."""
        before = self._objects()
        last = max(before, default=0)
        if last and _ENDED not in before[last]:
            beat = self._remote.read(*self._place, _name(last, _BEAT))
            if self._liveness.is_alive(str(last), beat):
                return None
        mine = last + 1
        try:
            self._write(b"", mine, _HELD, create=True)
        except FileExistsError:
            return None
        if max(self._objects(), default=0) != mine:
            return None  # It was long ago that we looked: others had the number, and are further.
        for number in set(before) - {last}:  # The last one decides, those before are not needed.
            for kind in before[number]:
                self._remote.delete(*self._place, _name(number, kind))
        return mine

    def _objects(self) -> dict[int, set[str]]:
        """Returns which objects there are of each number."""
        found: dict[int, set[str]] = {}
        for name in self._remote.names(*self._place):
            if parts := _NAME.fullmatch(name):
                found.setdefault(int(parts[1]), set()).add(parts[2])
        return found

    def _write(self, content: bytes, number: int, kind: str, *, create: bool = False) -> None:
        write = self._remote.create if create else self._remote.write
        write(content or uuid.uuid4().bytes, *self._place, _name(number, kind))


@contextmanager
def beating(beat: Callable[[bytes], None]) -> Iterator[None]:
    """Calls ``beat`` with new bytes at once and every `BEAT_SECONDS`, while the block runs.

    A beat that fails is tried again at the next; the first one's error rises.
    """
    ended = threading.Event()
    beat(uuid.uuid4().bytes)

    def go_on() -> None:
        while not ended.wait(BEAT_SECONDS):
            try:
                beat(uuid.uuid4().bytes)
            except Exception as error:  # noqa: BLE001 (stores have errors of many kinds)
                logger.warning("the store cannot be written (%s); tried again", error)

    thread = threading.Thread(target=go_on, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _name(number: int, kind: str) -> str:
    return f"{number:08}{kind}"
