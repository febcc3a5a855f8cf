"""The credential of a Prefect server: random, in a file of mode 0600."""

import fcntl
import os
import secrets
from pathlib import Path

USER = "llm4cdsr"
_RANDOM_BYTES = 32


def new_credential() -> str:
    """Returns a random ``user:password``, the format of Prefect's authentication."""
    return f"{USER}:{secrets.token_urlsafe(_RANDOM_BYTES)}"


def kept_credential(file: Path) -> str:
    """Returns the credential in a file, created if missing or empty.

    The mode is set to 0600 in any case.
    """
    place = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(place, "r+") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)  # Concurrent commands must not create two.
        os.fchmod(opened.fileno(), 0o600)
        if found := opened.read().strip():
            return found
        made = new_credential()
        opened.write(f"{made}\n")
    return made
