"""Detection of complete new dumps in a folder or fsspec URL.

A dump is a folder with one ``interactions.*`` and one ``items.*`` file: the watched folder itself
or a subfolder. It is complete if it contains a file ``_SUCCESS``, or if its files are unchanged
since a scan at least ``settle_seconds`` ago. Dumps are identified by content: equal bytes under
another name or date are not a new dump. An unreadable folder, or one without regular files, waits
with a reason; others are processed. A folder whose name begins with a dot is a copy in progress;
one with files of a dump waits too, because an interrupted copy looks the same.
"""

import hashlib
import math
import time
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import fsspec
from pydantic import Field, ValidationError

from artifacts.files.file_names import in_utf8
from artifacts.fingerprint import fingerprint_of
from artifacts.remote.file_systems import file_system_of
from artifacts.remote.url_credentials import hide_credentials
from artifacts.store import Store
from artifacts.store_notes import FOLDER as NOTES
from artifacts.store_notes import read_note, write_note
from artifacts.strict import Strict
from artifacts.user_error import UserError
from tasks.dump.dump_config import DumpConfig
from tasks.dump.sources.dump_folders import (
    FORMS,
    ROLES,
    candidates,
    dump_files,
    facts,
    folders_below,
    hidden_dumps,
    named,
    reason_of,
)

SUCCESS = "_SUCCESS"
SETTLE_SECONDS = 30.0
"""Seconds without changes after which a dump without `SUCCESS` is complete."""

_READ_BYTES = 1 << 20


class NoDumpFolderError(FileNotFoundError):
    """The watched folder does not exist."""


class NoDumpError(LookupError):
    """The folder has no complete dump."""


class WatchMemoryError(UserError):
    """The state of earlier scans is unreadable, so announced dumps are unknown."""


class LandedDump(Strict):
    """A complete dump: folder, files, and hash of its content."""

    folder: str
    interactions: str
    items: str
    checksum: str

    @property
    def name(self) -> str:
        return PurePosixPath(self.folder).name


class Sighting(Strict):
    """State of a dump at its last change; ``checksum`` once it was complete."""

    signature: str
    since: float
    checksum: str | None = None


class Wait(Strict):
    """A folder that is not a complete dump: its first scan (seconds since 1970), the last reason,
    and whether an alert was posted (``told``)."""

    since: float
    reason: str
    told: bool = False


class WatchMemory(Strict):
    """State of a watched folder: sightings, waiting folders, and announced contents."""

    sightings: dict[str, Sighting] = Field(default_factory=dict)
    waits: dict[str, Wait] = Field(default_factory=dict)
    announced: tuple[str, ...] = ()


@dataclass
class Look:
    """Result of a scan: complete new dumps, and reasons of waiting and of hidden folders."""

    landed: list[LandedDump] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    hidden: dict[str, str] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)
    memory: WatchMemory = field(default_factory=WatchMemory)


def look_into(folder: str, memory: WatchMemory, now: float, settle_seconds: float) -> Look:
    """Scans once; ``now`` is in seconds. The caller announces new dumps and records them by
    `announced`.

    Raises:
        NoDumpFolderError.
    """
    filesystem, root = _open(folder)
    seen = Look()
    sightings: dict[str, Sighting] = {}
    below = folders_below(filesystem, root)
    for path in candidates(root, below):
        files, fault = dump_files(filesystem, path, root)
        if fault:
            seen.waiting[in_utf8(path)] = fault
        if not files:
            continue
        try:
            sighting = _sighting(filesystem, files, memory.sightings.get(path), now)
            settled = SUCCESS in files or now - sighting.since >= settle_seconds
            if not settled:
                seen.waiting[path] = "its files are new or still changing"
            elif sighting.checksum is None:
                checksum = _checksum(filesystem, files)
                sighting = sighting.model_copy(update={"checksum": checksum})
        except OSError as error:
            seen.waiting[path] = f"its files cannot be read ({reason_of(error)})"
            continue
        sightings[path] = sighting
        if sighting.checksum is None:
            continue
        if sighting.checksum in memory.announced:
            seen.known.append(path)
        elif sighting.checksum not in {dump.checksum for dump in seen.landed}:
            seen.landed.append(_landed(filesystem, path, files, sighting.checksum))
    seen.hidden = hidden_dumps(filesystem, below)
    waits = {
        path: _wait(memory.waits.get(path), reason, now)
        for path, reason in {**seen.waiting, **seen.hidden}.items()
    }
    seen.memory = WatchMemory(sightings=sightings, waits=waits, announced=memory.announced)
    return seen


def overdue(memory: WatchMemory, now: float, seconds: float) -> dict[str, Wait]:
    """Returns the folders that wait for ``seconds`` or longer, without an alert so far."""
    return {
        path: wait
        for path, wait in memory.waits.items()
        if not wait.told and now - wait.since >= seconds
    }


def told(memory: WatchMemory, path: str) -> WatchMemory:
    """Returns the state after the alert about a waiting folder."""
    wait = memory.waits[path].model_copy(update={"told": True})
    return memory.model_copy(update={"waits": {**memory.waits, path: wait}})


def announced(memory: WatchMemory, dump: LandedDump) -> WatchMemory:
    """Returns the state with a dump recorded as announced."""
    return memory.model_copy(update={"announced": (*memory.announced, dump.checksum)})


def dump_in(folder: str, before: float = math.inf, within: str | None = None) -> LandedDump:
    """Returns the dump of a folder, or the newest one in its subfolders.

    A dump changed after ``before`` (seconds since 1970) is accepted only with `SUCCESS`. Links may
    point into ``within`` if it contains the folder, else into the folder.

    Raises:
        NoDumpFolderError, NoDumpError.
    """
    filesystem, root = _open(folder)
    found: list[tuple[float, str, dict[str, str]]] = []
    changing: list[str] = []
    refused: list[str] = []
    allowed = root
    if (
        within is not None
        and "://" not in within
        and Path(root).resolve().is_relative_to(Path(within).resolve())
    ):
        allowed = within
    for path in candidates(root, folders_below(filesystem, root)):
        files, fault = dump_files(filesystem, path, allowed)
        if fault:
            refused.append(f"{path}: {fault}")
        if not files:
            continue
        try:
            newest = max(filesystem.modified(files[name]).timestamp() for name in named(files))
        except OSError as error:  # Replaced or deleted since it was listed.
            refused.append(f"{path}: its files cannot be read ({reason_of(error)})")
            continue
        if newest > before and SUCCESS not in files:
            changing.append(path)
        else:
            found.append((newest, path, files))
    if not found and changing:
        raise NoDumpError(
            f"{', '.join(changing)} may still be copied: wait {SETTLE_SECONDS:.0f} s after its "
            f"last change, or put an empty file {SUCCESS} there"
        )
    if not found:
        raise NoDumpError(
            f"{folder} holds no dump: put interactions.* and items.* there or in a sub-folder "
            f"({', '.join(FORMS)}, the text forms also .gz or .zst)"
            + "".join(f"; {reason}" for reason in refused)
        )
    _, path, files = max(found, key=lambda dump: dump[:2])
    return _landed(filesystem, path, files, checksum="")


def dump_to_read(dump: DumpConfig | None, folder: str | None, default: str) -> DumpConfig:
    """Returns a dump configuration with the files of a folder, if one is to be read.

    Without a ``folder`` the files of ``dump`` are used; without either, the newest complete dump in
    ``default``.

    Raises:
        NoDumpFolderError, NoDumpError.
    """
    if dump is not None and folder is None:
        return dump
    settled = time.time() - SETTLE_SECONDS
    found = dump_in(default, before=settled) if folder is None else dump_in(folder, within=default)
    files = {"interactions": found.interactions, "items": found.items}
    return DumpConfig.model_validate({**(dump.model_dump() if dump else {}), **files})


def read_memory(store: Store, folder: str) -> WatchMemory:
    """Returns the stored state of a folder; raises `WatchMemoryError`."""
    name = _memory_name(folder)
    note = read_note(store, name)
    if note is None:
        return WatchMemory()
    try:
        return WatchMemory.model_validate_json(note)
    except ValidationError as error:
        raise WatchMemoryError(
            f"{store.root}/{NOTES}/{name} cannot be read ({error.errors()[0]['msg']}). Delete it; "
            f"every dump in {folder} is then announced again, so move old ones away first"
        ) from error


def write_memory(store: Store, folder: str, memory: WatchMemory) -> None:
    """Stores the state for the next scan."""
    write_note(store, _memory_name(folder), memory.model_dump_json(indent=1).encode())


def _memory_name(folder: str) -> str:
    return f"watch-{fingerprint_of(folder)}.json"


def _open(folder: str) -> tuple[fsspec.AbstractFileSystem, str]:
    filesystem, root = file_system_of(folder)
    if not filesystem.isdir(root):
        raise NoDumpFolderError(f"{folder} is not a folder; create it, or name another to watch")
    return filesystem, root


def _sighting(
    filesystem: fsspec.AbstractFileSystem,
    files: dict[str, str],
    before: Sighting | None,
    now: float,
) -> Sighting:
    signature = fingerprint_of([[name, *facts(filesystem, files[name])] for name in named(files)])
    if before is None or before.signature != signature:
        return Sighting(signature=signature, since=now)
    # Otherwise a clock that was set back would delay the dump until it has caught up.
    return before.model_copy(update={"since": min(before.since, now)})


def _wait(before: Wait | None, reason: str, now: float) -> Wait:
    since = now if before is None else min(before.since, now)
    return Wait(since=since, reason=reason, told=before is not None and before.told)


def _checksum(filesystem: fsspec.AbstractFileSystem, files: dict[str, str]) -> str:
    """Returns the hash of the content and format of both files, independent of their path."""
    digest = hashlib.sha256()
    for name in named(files):
        digest.update(f"{name}\n".encode())
        with cast(BinaryIO, filesystem.open(files[name], "rb")) as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _landed(
    filesystem: fsspec.AbstractFileSystem, path: str, files: dict[str, str], checksum: str
) -> LandedDump:
    def address(path: str) -> str:
        protocol = filesystem.protocol
        is_local = "file" in ([protocol] if isinstance(protocol, str) else protocol)
        return str(Path(path)) if is_local else hide_credentials(filesystem.unstrip_protocol(path))

    interactions, items = (
        next(files[name] for name in named(files) if name.startswith(f"{role}.")) for role in ROLES
    )
    return LandedDump(
        folder=address(path),
        interactions=address(interactions),
        items=address(items),
        checksum=checksum,
    )
