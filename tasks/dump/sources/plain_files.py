"""Restriction of a dumps folder to regular files.

Pipes and devices may be endless, and links may expose other files.
"""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

LINKS_VARIABLE = "LLM4CDSR_DUMP_LINKS"
ANYWHERE = "anywhere"
"""Value of the variable that allows links out of the dumps folder."""

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


def folder_fault(folder: Path, root: Path) -> str | None:
    """Returns the reason for skipping a folder below ``root``, None if it is scanned."""
    return _link_fault(folder, root, stat.S_ISDIR, "folder")


def file_fault(path: Path, root: Path) -> str | None:
    """Returns the reason for refusing a file below ``root``, None if it is regular."""
    return _link_fault(path, root, stat.S_ISREG, "file")


def sub_folders(root: Path) -> Iterator[Path]:
    """Yields subfolders and links to folders."""
    with os.scandir(root) as entries:
        found = sorted(entry.path for entry in entries if _may_be_folder(entry))
    yield from map(Path, found)


def _may_be_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and not _is_file(entry))


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # A loop.
        return False


def _link_fault(
    path: Path, root: Path, is_wanted: Callable[[int], bool], wanted: str
) -> str | None:
    """``is_wanted`` is a predicate of `stat`; links are resolved if their target is in ``root``."""
    try:
        found = path.lstat()
        is_link = stat.S_ISLNK(found.st_mode)
        if is_link:
            found = path.stat()
    except OSError as error:  # Dangling, a loop, or not accessible.
        return f"{path.name} cannot be opened ({error.strerror})"
    if not is_wanted(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "something else")
        return f"{path.name} is {kind}{' behind a link' if is_link else ''}, not a {wanted}"
    if os.environ.get(LINKS_VARIABLE) != ANYWHERE and not path.resolve().is_relative_to(
        root.resolve()
    ):
        return (
            f"{path.name} leads out of the dumps folder: copy the {wanted} there, or set "
            f"{LINKS_VARIABLE}={ANYWHERE} for the machine"
        )
    return None
