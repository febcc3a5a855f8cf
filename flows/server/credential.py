"""The credential of a Prefect server: random, readable by its owner alone."""

import fcntl
import os
import secrets
from pathlib import Path

USER = "llm4cdsr"
_RANDOM_BYTES = 32


def new_credential() -> str:
    """Returns ``user:password``, the form of Prefect's authentication."""
    return f"{USER}:{secrets.token_urlsafe(_RANDOM_BYTES)}"


def kept_credential(file: Path) -> str:
    """Returns the credential of a file, which is made with a new one where it is missing or empty.

    Its mode is 0600 whatever the umask, also where somebody widened it.
    """
    place = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(place, "r+") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)  # Two commands at once must not make two.
        os.fchmod(opened.fileno(), 0o600)
        if found := opened.read().strip():
            return found
        made = new_credential()
        opened.write(f"{made}\n")
    return made
