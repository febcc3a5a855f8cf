"""Which files of a dumps folder may be opened: regular ones, whatever else lies there.

A pipe or a device would never end, a link may point at what its owner did not mean to hand in.
"""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

LINKS_VARIABLE = "LLM4CDSR_DUMP_LINKS"
ANYWHERE = "anywhere"
"""The value of the variable with which links may leave the dumps folder."""

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


def folder_fault(folder: Path, root: Path) -> str | None:
    """Returns why a folder below ``root`` is not looked into, None where it is."""
    return _link_fault(folder, root, stat.S_ISDIR, "folder")


def file_fault(path: Path, root: Path) -> str | None:
    """Returns why a file below ``root`` is not opened, None where it is regular."""
    return _link_fault(path, root, stat.S_ISREG, "file")


def sub_folders(root: Path) -> Iterator[Path]:
    """Yields what lies in a folder and is, or leads to, a folder."""
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
    """``is_wanted`` is of `stat`; a link counts as what it leads to, if that lies in ``root``."""
    try:
        found = path.lstat()
        is_link = stat.S_ISLNK(found.st_mode)
        if is_link:
            found = path.stat()
    except OSError as error:  # Dangling, a loop, or not to be entered.
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
