"""Folders of a dumps folder: which may be dumps, which files are a dump's, and why one waits."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import JsonValue

from artifacts.files.file_names import in_utf8
from tasks.dump.sources.files import COMPRESSED
from tasks.dump.sources.plain_files import file_fault, folder_fault, sub_folders

ROLES = ("interactions", "items")
FORMS = (".parquet", ".pq", ".csv", ".tsv", ".jsonl", ".ndjson", ".json")


def folders_below(filesystem: fsspec.AbstractFileSystem, root: str) -> list[str]:
    """Returns the sorted subfolders of a dumps folder, and links to folders."""
    if isinstance(filesystem, LocalFileSystem):
        return sorted(str(path) for path in sub_folders(Path(root)))
    entries = filesystem.ls(root, detail=True)
    return sorted(str(entry["name"]) for entry in entries if entry["type"] == "directory")


def candidates(root: str, below: Iterable[str]) -> list[str]:
    """Returns the folder and those of its subfolders that may be dumps."""
    return [root, *(path for path in below if not PurePosixPath(path).name.startswith((".", "_")))]


def hidden_dumps(filesystem: fsspec.AbstractFileSystem, below: Iterable[str]) -> dict[str, str]:
    """Returns the hidden subfolders with files of a dump, and the reason why they wait."""
    found = {}
    for path in below:
        if not PurePosixPath(path).name.startswith("."):
            continue
        try:
            is_dump = _is_meant(_files(filesystem, path))
        except OSError:  # Of another user, or moved since: no dump that anybody could read.
            continue
        if is_dump:
            found[in_utf8(path)] = (
                "its name begins with a dot: the copy is in progress or was interrupted. Rename it "
                "when it is complete"
            )
    return found


def dump_files(
    filesystem: fsspec.AbstractFileSystem, path: str, root: str
) -> tuple[dict[str, str], str | None]:
    """Returns a folder's dump files by name, empty if it is not a dump, and the reason.

    Folders without dump files have no reason.
    """
    if path != in_utf8(path):
        return {}, "its name is not UTF-8; rename it"
    try:
        is_local = isinstance(filesystem, LocalFileSystem)
        if is_local and (fault := folder_fault(Path(path), Path(root))):
            return {}, fault
        files = _files(filesystem, path)
        if fault := _fault(files):
            return {}, fault if _is_meant(files) else None
        if is_local:
            faults = (file_fault(Path(files[name]), Path(root)) for name in named(files))
            if fault := next(filter(None, faults), None):
                return {}, fault
    except OSError as error:
        return {}, f"it cannot be looked into ({reason_of(error)})"
    return files, None


def _is_meant(files: Iterable[str]) -> bool:
    """Returns whether names are of a dump's files, also in other cases and of unfinished copies, as
    ``.interactions.csv.x7Gk`` of rsync."""
    starts = tuple(f"{role}." for role in ROLES)
    return any(name.lower().lstrip("._~").startswith(starts) for name in files)


def reason_of(error: OSError) -> str:
    """Returns the text of a system error without its number."""
    return error.strerror or str(error)


def _files(filesystem: fsspec.AbstractFileSystem, path: str) -> dict[str, str]:
    """Returns the paths of a folder's files by their names."""
    entries = filesystem.ls(path, detail=True)
    paths = [str(entry["name"]) for entry in entries if entry["type"] != "directory"]
    return {PurePosixPath(path).name: path for path in paths}


def named(files: dict[str, str]) -> list[str]:
    """Returns the names of dump files, without temporary names of copies."""
    forms = (*FORMS, *(f"{form}{end}" for form in FORMS for end in COMPRESSED))
    wanted = {f"{role}{form}" for role in ROLES for form in forms}
    return sorted(name for name in files if name in wanted)


def _fault(files: dict[str, str]) -> str | None:
    present = named(files)
    for role in ROLES:
        count = sum(name.startswith(f"{role}.") for name in present)
        if count != 1:
            return f"{count or 'no'} {role}.* files of a known form; a dump has one"
    return None


def facts(filesystem: fsspec.AbstractFileSystem, path: str) -> list[JsonValue]:
    """Returns what another content changes: size and time may be those of the one before."""
    if isinstance(filesystem, LocalFileSystem):
        # Without the inode: where a network mount renumbers files, no dump would be complete.
        found = Path(path).stat()
        return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    return [filesystem.size(path), str(filesystem.modified(path)), str(filesystem.ukey(path))]
