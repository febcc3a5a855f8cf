"""Settings that stand in a file ``.env`` of the folder that a command is run in."""

import os
from pathlib import Path

PREFIX = "LLM4CDSR_"


def read_dot_env() -> None:
    """Gives this process, and those that it starts, the variables of ``.env`` that are ours.

    What the environment says itself wins. Keys and the webhook's URL are no settings, and who asks
    for them looks into the environment alone.
    """
    file = Path(".env")
    if not file.is_file():
        return
    from dotenv import dotenv_values  # Few commands find such a file, and all start quickly.

    for name, value in dotenv_values(file, encoding="utf-8").items():
        if name.upper().startswith(PREFIX) and value is not None:
            os.environ.setdefault(name.upper(), value)
