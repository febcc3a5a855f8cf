"""Who may read a store: the user that it belongs to, or also a group.

Files are 0600 in folders of 0700. With LLM4CDSR_STORE_GROUP, a group's name or number, they are
0640 in 0750 and of that group, but for ``work`` (logs, credentials, half-made things), which stays
the user's own. One rule for all files: the process writes by it from its first write on, and a
store of before is brought under it then.
"""

import grp
import logging
import os
import stat
from pathlib import Path

from artifacts.manifest import Kind
from artifacts.user_error import UserError

GROUP_VARIABLE = "LLM4CDSR_STORE_GROUP"
OWN = "work"
"""The folder of a store that no group may enter."""
FOLDERS = frozenset({OWN, ".trash", "ledger", "operation", "pointers", "set-aside", *Kind})

SECRET = "secret.key"
"""A file of this name is the user's own, wherever it is."""

_given_umask: int | None = None
_seen: set[tuple[str, int | None]] = set()

logger = logging.getLogger("llm4cdsr")


class UnknownGroupError(UserError):
    """LLM4CDSR_STORE_GROUP names no group of this machine, or one that this user is not in."""


def keep_private(root: Path) -> None:
    """Has this process write by the rule, and brings a store under it that is not yet.

    Nothing is changed but the store's own folders, and ``root`` where it holds nothing else.

    Raises:
        UnknownGroupError.
    """
    group = _group()
    if (str(root), group) in _seen:
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
            raise UnknownGroupError(
                f"{error.filename or root} cannot be given to the group of {GROUP_VARIABLE} "
                f"({error.strerror}); name a group that this user is in"
            ) from error
        logger.warning("%s is another user's store; its permissions stay as they are", root)
    _seen.add((str(root), group))


def settle(folder: Path) -> None:
    """Brings files under the rule that a library has given permissions of its own."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            path.chmod(0o600 if _group() is None else 0o640)


def share_as_usual(path: Path) -> None:
    """Gives a file that was asked for elsewhere the permissions that its user's umask says."""
    if _given_umask is not None:
        path.chmod(0o666 & ~_given_umask)


def _group() -> int | None:
    name = os.environ.get(GROUP_VARIABLE, "").strip()
    if not name:
        return None
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise UnknownGroupError(
            f"{GROUP_VARIABLE}={name} is no group of this machine; `getent group` lists them"
        ) from None


def _is_under_rule(root: Path, group: int | None) -> bool:
    found = root.stat()
    mode = stat.S_IMODE(found.st_mode)
    if group is None:
        return mode & 0o077 == 0
    return (mode & 0o777, found.st_gid) == (0o750, group)


def _bring_under_rule(top: Path, group: int | None, *, deep: bool) -> None:
    """The folder itself last: a process that dies in between leaves one that is looked at again."""
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
        # Of a folder with this bit, what is made in it has its group.
        path.chmod(0o2750 if is_folder else 0o640)
    except FileNotFoundError:
        """Another process has done with it."""
