"""Environments of commands that tests start: nothing in them is the test run's own."""

import os
import shutil
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]


def with_database(home: Path, database: Path) -> None:
    """Lets a Prefect home that does not exist yet begin with a copy of a database."""
    if not home.exists():
        home.mkdir(parents=True)
        shutil.copy(database, home / "prefect.db")


def own_variables(folder: Path, database: Path | None = None) -> dict[str, str]:
    """Returns the variables of a command with a Prefect home in the folder.

    With a ``database``, the home begins with a copy of it.
    """
    home = folder / "prefect"
    if database is not None:
        with_database(home, database)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT", "LLM4CDSR", "OPENAI"))
    }
    return {**kept, "PYTHONPATH": str(REPOSITORY), "PREFECT_HOME": str(home)}
