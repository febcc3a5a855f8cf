"""Leases on artifacts in use, which prevent their deletion during a run.

A run locks a file under ``work/leases`` (``flock``) and writes the name of an artifact to it before
looking it up. Writing waits while clean-up holds its lock: clean-up either sees the line, or the
run finds the artifact deleted and makes it again.
"""

import fcntl
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from artifacts.files.ownership import if_abandoned, locked, opened_locked
from artifacts.files.private_files import keep_private

LEASES = Path("work", "leases")
_CLEANING = "cleaning.lock"
_ENDING = ".lease"


@dataclass
class _Lease:
    """This process's lease on one store; ``holders`` counts concurrent uses."""

    path: Path
    descriptor: int
    release: ExitStack
    holders: int = 0
    noted: set[str] = field(default_factory=set)


_leases: dict[str, _Lease] = {}
_guard = threading.RLock()


@contextmanager
def in_use(local: Path) -> Iterator[None]:
    """Protects the artifacts that this process makes or finds from clean-up during a block."""
    key = str(local.absolute())
    with _guard:
        lease = _leases.get(key) or _taken(local)
        _leases[key] = lease
        lease.holders += 1
    try:
        yield
    finally:
        with _guard:
            lease.holders -= 1
            if not lease.holders:
                del _leases[key]
                lease.release.close()


def is_in_use_here(local: Path) -> bool:
    """Returns whether this process holds a lease on a store."""
    with _guard:
        return str(local.absolute()) in _leases


def note_use(local: Path, name: str) -> bool:
    """Records that an artifact (``kind/fingerprint``) is in use; returns whether this is its first
    use by this lease, False outside of `in_use`."""
    with _guard:
        lease = _leases.get(str(local.absolute()))
        if lease is None or name in lease.noted:
            return False
        with locked(local / LEASES / _CLEANING, fcntl.LOCK_SH):
            os.write(lease.descriptor, f"{name}\n".encode())
        lease.noted.add(name)
        return True


@contextmanager
def cleaning(local: Path) -> Iterator[None]:
    """Blocks runs from starting and from finding or making artifacts during a block, which must be
    short."""
    folder = local / LEASES
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / _CLEANING):
        yield


def used_now(local: Path, *, elsewhere: bool = False) -> tuple[int, set[str]]:
    """Returns the number of runs with a lease, and their artifacts; ``elsewhere``: of other
    processes only. Called in `cleaning`.

    Leases of dead processes are deleted.
    """
    runs, names = 0, set[str]()
    own = _leases.get(str(local.absolute())) if elsewhere else None
    for path in (local / LEASES).glob(f"*{_ENDING}"):
        if own is not None and path.name == own.path.name:
            continue
        with if_abandoned(path) as is_dead:
            if is_dead:
                path.unlink(missing_ok=True)
                continue
        with suppress(FileNotFoundError):  # The run has ended in the meantime.
            names.update(path.read_text().split())
            runs += 1
    return runs, names


def _taken(local: Path) -> _Lease:
    keep_private(local)
    folder = local / LEASES
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uuid.uuid4().hex}{_ENDING}"
    with ExitStack() as stack, locked(folder / _CLEANING, fcntl.LOCK_SH):
        path.touch()
        stack.callback(path.unlink, missing_ok=True)
        file = stack.enter_context(opened_locked(path))
        file.seek(0, os.SEEK_END)
        return _Lease(path, file.fileno(), stack.pop_all())
