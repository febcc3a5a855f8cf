"""File permissions of a store: owner only, or with a reading group.

Files are 0600 in folders of 0700. With LLM4CDSR_STORE_GROUP, a group's name or number, they are
0640 in 0750 and of that group, except for ``work`` (logs, credentials, drafts), which stays
private. The process applies the rule to all its writes, and to an existing store at its first
write.
"""

import grp
import logging
import os
import stat
from pathlib import Path

from artifacts.manifest import Kind
from artifacts.user_error import InvalidSettingError

GROUP_VARIABLE = "LLM4CDSR_STORE_GROUP"
OWN = "work"
"""Folder of a store without group access."""
FOLDERS = frozenset({OWN, ".trash", "ledger", "operation", "pointers", "set-aside", *Kind})

SECRET = "secret.key"
"""Name of files without group access in any folder."""

_given_umask: int | None = None
_seen: set[tuple[str, int | None]] = set()

logger = logging.getLogger("llm4cdsr")


def keep_private(root: Path, *, again: bool = False) -> None:
    """Sets the umask of this process and the modes of an existing store; ``again``: also if this
    process has set the modes before.

    Changes the store's own folders only, and ``root`` if it contains nothing else.

    Raises:
        InvalidSettingError: the group is unknown, or this user is not in it.
    """
    group = _group()
    if (str(root), group) in _seen and not again:
        return
    root.mkdir(parents=True, exist_ok=True)
    global _given_umask
    before = os.umask(0o077 if group is None else 0o027)
    _given_umask = before if _given_umask is None else _given_umask
    try:
        (root / OWN).mkdir(mode=0o700, exist_ok=True)
        entries = list(root.iterdir())
        places = [path for path in entries if path.name in FOLDERS]
        for path in (*places, *([root] if len(places) == len(entries) else [])):
            wanted = None if path.name == OWN else group
            if not path.is_symlink() and not _is_under_rule(path, wanted):
                _bring_under_rule(path, wanted, deep=path != root)
    except PermissionError as error:
        if root.stat().st_uid == os.geteuid() and group is not None:
            raise InvalidSettingError(
                f"{error.filename or root} cannot be given to the group of {GROUP_VARIABLE} "
                f"({error.strerror}); name a group that this user is in"
            ) from error
        logger.warning("%s is another user's store; its permissions stay as they are", root)
    _seen.add((str(root), group))


def settle(folder: Path) -> None:
    """Applies the rule to files written by libraries."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            path.chmod(0o600 if _group() is None else 0o640)


def share_as_usual(path: Path) -> None:
    """Applies the user's umask to a file requested outside of the store."""
    if _given_umask is not None:
        path.chmod(0o666 & ~_given_umask)


def _group() -> int | None:
    name = os.environ.get(GROUP_VARIABLE, "").strip()
    if not name:
        return None
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise InvalidSettingError(
            f"{GROUP_VARIABLE}={name} is no group of this machine; `getent group` lists them"
        ) from None


def _is_under_rule(root: Path, group: int | None) -> bool:
    found = root.stat()
    mode = stat.S_IMODE(found.st_mode)
    if group is None:
        return mode & 0o077 == 0
    return (mode & 0o777, found.st_gid) == (0o750, group)


def _bring_under_rule(top: Path, group: int | None, *, deep: bool) -> None:
    """The folder itself is changed last, so that an interrupted change is repeated."""
    for place, folders, names in os.walk(top, topdown=False) if deep else ():
        for path in (Path(place, name) for name in (*names, *folders)):
            if not path.is_symlink():
                _set(path, None if path.name == SECRET else group)
    _set(top, group)


def _set(path: Path, group: int | None) -> None:
    try:
        found = path.stat()
        is_folder = stat.S_ISDIR(found.st_mode)
        if group is None:
            path.chmod(0o700 if is_folder else 0o600)
            return
        if found.st_gid != group:
            os.chown(path, -1, group)
        # With this bit, new files inherit the folder's group.
        path.chmod(0o2750 if is_folder else 0o640)
    except FileNotFoundError:
        """Deleted by another process."""
