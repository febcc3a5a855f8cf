"""The file of a backup: a tar archive, ``about.json`` first and ``SHA256SUMS`` last.

Without this program, ``tar -xf FILE`` unpacks it and ``sha256sum -c SHA256SUMS`` checks it.
"""

import hashlib
import io
import os
import shutil
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Literal

from pydantic import AfterValidator, ValidationError

from artifacts.files.durable import sync
from artifacts.strict import Strict
from artifacts.user_error import UserError

ABOUT, SUMS = "about.json", "SHA256SUMS"
VERSION = 1
PARTIAL = ".llm4cdsr-"
"""Prefix of files and folders beside a backup until it is complete."""

_BLOCK = 1 << 20
_LATEST = 1 << 33
_DAY = 86_400


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)


_Printable = Annotated[str, AfterValidator(_printable)]


class NoBackupError(UserError):
    """A file is no backup, or one of a newer version."""


class BackupDamagedError(UserError):
    """A backup is cut off, or a file in it has other content than its checksum."""


class _AnyVersion(Strict, extra="ignore"):
    """What ``about.json`` has in every version."""

    version: int
    program: _Printable


class About(Strict):
    """The origin of a backup. ``version``: of its form; ``store``: the path or URL that was backed
    up; ``is_remote``: whether that is a remote store, whose backup has Prefect's database only."""

    version: Literal[1] = VERSION
    made: datetime
    program: _Printable
    store: _Printable
    is_remote: bool


@dataclass
class BackupWriter:
    """An archive in creation: checksums of its files by name, and their size in bytes."""

    archive: tarfile.TarFile
    on_bytes: Callable[[int], None] = lambda count: None
    sums: dict[str, str] = field(default_factory=dict)
    size: int = 0

    def add(self, path: Path, name: str) -> bool:
        """Adds a file with the size that it has now; returns False if it does not exist."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return False
        with file:
            facts = os.fstat(file.fileno())
            self._put(name, file, facts.st_size, facts.st_mtime)
        return True

    def add_content(self, content: bytes, name: str, at: float) -> None:
        """Adds a file with this content."""
        self._put(name, io.BytesIO(content), len(content), at)

    def _put(self, name: str, file: IO[bytes], size: int, at: float) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mtime, member.mode = size, min(max(int(at), 0), _LATEST), 0o600
        read = _Hashing(file, self.on_bytes)
        self.archive.addfile(member, read)
        self.sums[name] = read.digest.hexdigest()
        self.size += size


@dataclass
class _Hashing(io.RawIOBase):
    """A file for reading that hashes what is read."""

    file: IO[bytes]
    on_bytes: Callable[[int], None]
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def read(self, size: int = -1, /) -> bytes:
        block = self.file.read(size)
        self.digest.update(block)
        self.on_bytes(len(block))
        return block


@contextmanager
def new_backup(
    path: Path, about: About, on_bytes: Callable[[int], None] = lambda count: None
) -> Iterator[BackupWriter]:
    """Yields a writer; the file has its name after the block, with mode 0600, and is on disk. An
    error leaves an earlier file of this name as it was. What killed backups left is deleted after a
    day."""
    for left in path.parent.glob(f"{PARTIAL}*"):
        _delete_if_old(left)
    partial = path.with_name(f"{PARTIAL}{uuid.uuid4().hex}.tmp")
    try:
        with (
            os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
            tarfile.TarFile(fileobj=file, mode="w", copybufsize=_BLOCK) as archive,
        ):
            writer = BackupWriter(archive, on_bytes)
            at = about.made.timestamp()
            writer.add_content(about.model_dump_json(indent=1).encode(), ABOUT, at)
            yield writer
            lines = [f"{digest}  {name}\n" for name, digest in writer.sums.items()]
            writer.add_content("".join(lines).encode(), SUMS, at)
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


def _delete_if_old(left: Path) -> None:
    with suppress(FileNotFoundError):  # Another backup has ended or deleted it.
        if time.time() - left.stat().st_mtime < _DAY:
            return
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()


def about_of(path: Path) -> About:
    """Returns the origin of a backup.

    Raises:
        NoBackupError: it is no backup, or has a form of a newer version.
        FileNotFoundError: there is no file.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            first = archive.next()
            if first is None or first.name != ABOUT or not _is_plain(first):
                raise NoBackupError(f"{path} is not a file of `llm4cdsr backup`")
            content = _content(archive, first).read(_BLOCK)
        form = _AnyVersion.model_validate_json(content)
        if form.version > VERSION:
            raise NoBackupError(
                f"{path} was made by llm4cdsr {form.program}, which is newer; restore it by that"
            )
        return About.model_validate_json(content)
    except (tarfile.TarError, ValidationError, EOFError) as error:
        raise NoBackupError(f"{path} is not a file of `llm4cdsr backup`") from error


def read_backup(
    path: Path,
    target: Path | None,
    allowed: frozenset[str],
    on_bytes: Callable[[int], None] = lambda count: None,
) -> int:
    """Checks every file of a backup, and writes them below ``target``, if given; returns their
    number. What is written is sound only if this returns.

    Args:
        path: the backup.
        target: an empty folder.
        allowed: names of files, and of folders (with a slash at their end), that a backup may have.
        on_bytes: called with the number of bytes of each block.

    Raises:
        BackupDamagedError: it is cut off, a checksum differs, or a member is none that `new_backup`
            writes: a link, a sparse file, a second one of its name, or outside of ``allowed``.
    """
    found: dict[str, str] = {}
    folders = set[str]()
    given: bytes | None = None
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name, above = member.name, {str(it) for it in PurePosixPath(member.name).parents}
                is_new = name not in found and name not in folders and above.isdisjoint(found)
                if not (_is_plain(member) and _is_allowed(name, allowed) and is_new):
                    raise BackupDamagedError(f"{path} has {name!r}, which no backup has")
                content = _content(archive, member)
                if name == SUMS:
                    given = content.read()
                    continue
                place = target / name if target and name != ABOUT else None
                found[name] = _copied(content, place, member.mtime, on_bytes)
                folders |= above
    except (tarfile.TarError, EOFError) as error:
        raise BackupDamagedError(f"{path} is damaged or cut off ({error})") from error
    if given is None:
        raise BackupDamagedError(f"{path} is cut off: its checksums are missing")
    lines = [line.partition("  ") for line in given.decode(errors="replace").splitlines()]
    expected = {name: digest for digest, _, name in lines}
    if wrong := sorted(set(found.items()) ^ set(expected.items())):
        raise BackupDamagedError(
            f"{path} is damaged: {wrong[0][0]!r} has other content than was backed up"
        )
    return len(found) - 1


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(member)
    assert content is not None
    return content


def _is_plain(member: tarfile.TarInfo) -> bool:
    """A sparse file of some bytes would fill a disk or the memory."""
    return member.isreg() and not member.issparse() and 0 <= member.mtime <= _LATEST


def _is_allowed(name: str, allowed: frozenset[str]) -> bool:
    path = PurePosixPath(name)
    if str(path) != name or ".." in path.parts or not name.isprintable():
        return False
    return name in (ABOUT, SUMS) or any(
        name.startswith(place) if place.endswith("/") else name == place for place in allowed
    )


def _copied(
    content: IO[bytes], place: Path | None, at: float, on_bytes: Callable[[int], None]
) -> str:
    """Returns the SHA-256 of a file in an archive, written to ``place``, if given."""
    digest = hashlib.sha256()
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("xb") if place is not None else io.BytesIO() as file:
        while block := content.read(_BLOCK):
            digest.update(block)
            on_bytes(len(block))
            if place is not None:
                file.write(block)
    if place is not None:
        os.utime(place, (at, at))
    return digest.hexdigest()
