"""Mutual exclusion of machines on a remote store by conditional writes.

A lease is acquired by creating the object of the next number (``If-None-Match`` on S3), which
succeeds for one machine. Its holder changes a heartbeat object every few seconds. A machine that
sees no change for `LEASE_SECONDS`, by its own clock, acquires the next number, so clocks need not
be synchronised. A holder that resumes after a longer suspension is not exclusive: guarded
operations must tolerate this (an answer is paid for twice, one of two makers wins) and remain
correct.
"""

import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from artifacts.remote.remote_objects import RemoteObjects

LEASE_SECONDS = 60.0
BEAT_SECONDS = 10.0
POLL_SECONDS = 1.0

_HELD, _BEAT, _ENDED = ".held", ".beat", ".ended"
_NAME = re.compile(r"(\d{8})(\.(?:held|beat|ended))")

logger = logging.getLogger("llm4cdsr")


class Liveness:
    """Detection of missing heartbeats."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[bytes | None, float, float]] = {}

    def is_alive(self, name: str, beat: bytes | None) -> bool:
        """Returns False if ``beat`` has not changed for `LEASE_SECONDS`.

        At most `BEAT_SECONDS` count between two calls: while the store does not respond, no
        heartbeat reaches it.
        """
        now = time.monotonic()
        before, silent, called = self._seen.get(name, (b"never seen", 0.0, now))
        silent = silent + min(now - called, BEAT_SECONDS) if beat == before else 0.0
        self._seen[name] = (beat, silent, now)
        return silent < LEASE_SECONDS


class RemoteLease:
    """An exclusive lease on a name in a store."""

    def __init__(self, remote: RemoteObjects, *place: str) -> None:
        self._remote, self._place = remote, place
        self._liveness = Liveness()

    @contextmanager
    def held(self, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Waits for the lease and holds it during the block.

        ``on_wait`` is called before each retry; an error in it ends the wait.
        """
        while (number := self._taken()) is None:
            on_wait()
            time.sleep(POLL_SECONDS)
        try:
            with beating(lambda beat: self._write(beat, number, _BEAT)):
                yield
        finally:
            self._write(b"", number, _ENDED)

    def is_held(self) -> bool:
        """Returns whether a living holder has the lease; a dead one counts as living for
        `LEASE_SECONDS` after the first call."""
        return self._is_held(self._objects())

    def _is_held(self, objects: dict[int, set[str]]) -> bool:
        last = max(objects, default=0)
        if not last or _ENDED in objects[last]:
            return False
        beat = self._remote.read(*self._place, _name(last, _BEAT))
        return self._liveness.is_alive(str(last), beat)

    def _taken(self) -> int | None:
        """Tries to acquire the lease; returns its number, None if it is held."""
        before = self._objects()
        last = max(before, default=0)
        if self._is_held(before):
            return None
        mine = last + 1
        try:
            self._write(b"", mine, _HELD, create=True)
        except FileExistsError:
            return None
        if max(self._objects(), default=0) != mine:
            return None  # The listing was outdated: other machines have used this number.
        # Only the last number counts; objects of earlier ones are deleted.
        for number in set(before) - {last}:
            for kind in before[number]:
                self._remote.delete(*self._place, _name(number, kind))
        return mine

    def _objects(self) -> dict[int, set[str]]:
        """Returns the objects by number."""
        found: dict[int, set[str]] = {}
        for name in self._remote.names(*self._place):
            if parts := _NAME.fullmatch(name):
                found.setdefault(int(parts[1]), set()).add(parts[2])
        return found

    def _write(self, content: bytes, number: int, kind: str, *, create: bool = False) -> None:
        write = self._remote.create if create else self._remote.write
        write(content or uuid.uuid4().bytes, *self._place, _name(number, kind))


@contextmanager
def beating(beat: Callable[[bytes], object]) -> Iterator[None]:
    """Calls ``beat`` with new bytes immediately and every `BEAT_SECONDS` during the block.

    A failed heartbeat is retried at the next interval; an error of the first one is raised.
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
