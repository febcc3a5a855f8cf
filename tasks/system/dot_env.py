"""Settings in a file ``.env`` of the working folder."""

import os
from pathlib import Path

from tasks.system.working_folder import require_own_settings, trusted_owners

PREFIX = "LLM4CDSR_"

ENVIRONMENT = "the environment"

_of_file: dict[str, tuple[str, Path]] = {}
"""Variables set by the file: value and path."""


def read_dot_env() -> None:
    """Sets the product's variables of ``.env`` for this process and its children.

    The environment takes precedence. Keys and the webhook's URL are read from the environment.

    Raises:
        ForeignSettingsError: another user has put settings into the working folder.
    """
    require_own_settings(trusted_owners())
    file = Path(".env")
    if not file.is_file():
        return
    from dotenv import dotenv_values  # Imported on use, because few commands find such a file.

    for name, value in dotenv_values(file, encoding="utf-8").items():
        variable = name.upper()
        if variable.startswith(PREFIX) and value is not None and variable not in os.environ:
            os.environ[variable] = value
            _of_file[variable] = value, file.resolve()


def origin_of(variable: str) -> str:
    """Returns where a variable's value comes from: `ENVIRONMENT`, or the path of a ``.env``."""
    value, file = _of_file.get(variable, (None, None))
    return str(file) if file and os.environ.get(variable) == value else ENVIRONMENT
