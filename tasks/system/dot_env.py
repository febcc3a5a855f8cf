"""Settings that stand in a file ``.env`` of the folder that a command is run in."""

import os
from pathlib import Path

PREFIX = "LLM4CDSR_"

ENVIRONMENT = "the environment"

_of_file: dict[str, tuple[str, Path]] = {}
"""Variables that the file set: their value and the file."""


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
        variable = name.upper()
        if variable.startswith(PREFIX) and value is not None and variable not in os.environ:
            os.environ[variable] = value
            _of_file[variable] = value, file.resolve()


def origin_of(variable: str) -> str:
    """Returns where a variable's value comes from: `ENVIRONMENT`, or the path of a ``.env``."""
    value, file = _of_file.get(variable, (None, None))
    return str(file) if file and os.environ.get(variable) == value else ENVIRONMENT
