"""Refusal of settings that another user has put into the working folder.

In a folder of another user's dump, a ``.env``, Prefect's settings (whose logging configuration may
call any function) or an environment of the local servers would divert keys and run code.
"""

import os
import pwd
import tomllib
from collections.abc import Collection
from pathlib import Path

_ROOT = 0
_OF_PREFECT = "pyproject.toml"
_NAMES = (".env", "prefect.toml", _OF_PREFECT, ".venv-vllm")


class ForeignSettingsError(ValueError):
    """The working folder has settings that belong to another user."""


def trusted_owners() -> frozenset[int]:
    """Returns the users whose settings apply: this one, root, and the owner of the program."""
    return frozenset({os.geteuid(), _ROOT, Path(__file__).stat().st_uid})


def require_own_settings(owners: Collection[int]) -> None:
    """Raises `ForeignSettingsError` for settings in the working folder, or links to them, of other
    users than ``owners``."""
    for name in _NAMES:
        path = Path(name)
        try:
            found = {path.lstat().st_uid, path.stat().st_uid}
        except OSError:  # None, or one that nothing can read.
            continue
        if foreign := found.difference(owners):
            if name == _OF_PREFECT and not _has_prefect(path):
                continue
            raise ForeignSettingsError(
                f"{path.absolute()} belongs to {_name_of(foreign.pop())}, who could read keys and "
                "run commands by it: start llm4cdsr in another folder, or replace the file by a "
                "copy of your own after reading it"
            )


def _has_prefect(path: Path) -> bool:
    try:
        return "prefect" in tomllib.loads(path.read_text("utf-8")).get("tool", {})
    except ValueError:  # Prefect cannot read it either.
        return False


def _name_of(user: int) -> str:
    try:
        return f"the user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"the user {user}"
