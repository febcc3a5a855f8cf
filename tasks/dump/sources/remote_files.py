"""Download of files of URLs (``s3://…``, ``https://…``), with a cache."""

import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TypeVar

import fsspec
from pydantic import JsonValue

from artifacts.files.durable import write_atomically
from artifacts.fingerprint import fingerprint_of
from artifacts.remote.url_credentials import shown_url, with_credentials, without_credentials
from artifacts.store import Store
from tasks.dump.dump_config import DumpConfig, Source
from tasks.dump.sources.files import UnreadableDumpError
from tasks.dump.sources.source_files import Paths, paths_of
from tasks.dump.sources.unchanged_files import DumpChangedError

_FACTS = ".files.json"
"""Metadata of the files at the time of the copy."""

Files = TypeVar("Files", DumpConfig, Source)


def with_local_files(dump: DumpConfig, store: Store) -> DumpConfig:
    """Returns a dump with local files only.

    Files are copied again if their size or modification mark changed.

    Raises:
        DumpChangedError: a file was replaced before the last one was copied.
        UnreadableDumpError: the download failed; the message has no credentials of the URL.
    """
    copies = _Copies(store)
    if dump.sources:
        local = dump.model_copy(update={"sources": tuple(map(copies.of, dump.sources))})
    else:
        local = copies.of(dump)
    for url, facts in copies.seen.items():
        with _told(url):
            filesystem, root = fsspec.core.url_to_fs(with_credentials(url))
            filesystem.invalidate_cache()
            if _facts(filesystem, _found(filesystem, root, url)) != facts:
                raise DumpChangedError(
                    f"{shown_url(url)} was replaced or written to while it was copied; run again "
                    "when its upload has ended"
                )
    return local


class _Copies:
    """Local copies of files of URLs; ``seen``: metadata of each URL's files before their copy."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.seen: dict[str, dict[str, JsonValue]] = {}

    def of(self, files: Files) -> Files:
        """Returns a source of local files."""
        found = {"interactions": self._local(files.interactions), "items": self._local(files.items)}
        return files.model_copy(update=found)

    def _local(self, paths: Paths | None) -> Paths | None:
        if paths is None:
            return None
        found = tuple(self._fetched(path) if "://" in path else path for path in paths_of(paths))
        return found[0] if isinstance(paths, str) else found

    def _fetched(self, url: str) -> str:
        with _told(url):
            filesystem, root = fsspec.core.url_to_fs(with_credentials(url))
            found = _found(filesystem, root, url)
            if "file" in _protocols(filesystem):
                return root
            facts = self.seen[url] = _facts(filesystem, found)
            is_one = found == [root]
            base = str(PurePosixPath(_name(root)).parent) if is_one else _fixed(_name(root))
            place = self.store.workspace("dumps") / fingerprint_of(url)
            known = place / _FACTS
            if not known.is_file() or json.loads(known.read_bytes()) != facts:
                _copy(filesystem, base, found, facts, place)
        return str(place / PurePosixPath(_name(root)).name if is_one else place)


def _facts(filesystem: fsspec.AbstractFileSystem, found: list[str]) -> dict[str, JsonValue]:
    """Returns size and modification mark of remote files, by the names of their copies."""
    return {_name(path): [filesystem.size(path), str(filesystem.ukey(path))] for path in found}


def _name(path: str) -> str:
    """Returns the name of the copy of a remote path; without the query of an HTTP URL."""
    return shown_url(path) if path.startswith(("http://", "https://")) else path


def _found(filesystem: fsspec.AbstractFileSystem, root: str, url: str) -> list[str]:
    if filesystem.isfile(root):
        return [root]
    is_pattern = any(mark in root for mark in "*?[")
    listed = filesystem.glob(root) if is_pattern else filesystem.find(root)
    found = sorted(str(path) for path in listed if filesystem.isfile(path))
    if not found and root.startswith(("http://", "https://")):
        filesystem.info(root)  # States the cause: refused, unreachable or missing.
    if not found:
        _require_answer(filesystem, root)
        raise UnreadableDumpError(
            f"{shown_url(url)} is no file and no folder of files; correct the URL"
        )
    return found


def _require_answer(filesystem: fsspec.AbstractFileSystem, root: str) -> None:
    """Raises the cause of a failed request, which a listing hides."""
    try:
        filesystem.info(root)
    except FileNotFoundError as error:
        if isinstance(error.__cause__, Exception):
            raise error.__cause__ from None


def _fixed(root: str) -> str:
    """Returns the fixed folder of a pattern."""
    fixed = PurePosixPath()
    for part in PurePosixPath(root).parts:
        if any(mark in part for mark in "*?["):
            break
        fixed /= part
    return str(fixed)


def _copy(
    filesystem: fsspec.AbstractFileSystem,
    base: str,
    found: list[str],
    facts: dict[str, JsonValue],
    place: Path,
) -> None:
    partial = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        for path in found:
            target = partial / PurePosixPath(_name(path)).relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            filesystem.get_file(path, str(target))
        write_atomically(partial / _FACTS, json.dumps(facts).encode())
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _protocols(filesystem: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Returns the message of a storage's error in one line."""
    shown = shown_url(url)
    protocol = shown.partition("://")[0]
    try:
        yield
    except UnreadableDumpError:
        raise
    except ImportError as error:
        raise UnreadableDumpError(
            f"{shown} cannot be read: {protocol}:// needs a package that is not installed "
            f"({_line(error, url)}); install it with pip, or download the file"
        ) from None
    except Exception as error:  # noqa: BLE001 - whatever a storage raises, the URL is named
        raise UnreadableDumpError(
            f"{shown} cannot be read: {_line(error, url)}; check the URL and the access to it"
        ) from None


def _line(error: Exception, url: str) -> str:
    given = with_credentials(url)
    said = without_credentials((str(error).splitlines() or [""])[0].replace(given, shown_url(url)))
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
