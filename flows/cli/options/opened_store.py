"""The store that a command works on."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from artifacts.store import Store


def store_root(given: str | None) -> str:
    """Returns the folder or URL of the option ``--store``, by default that of the settings."""
    from flows.settings import Settings  # It loads polars.

    return given or Settings().store


def opened_store(given: str | None) -> "Store":
    """Returns the store of the option; its folder may be missing."""
    from artifacts.store import Store

    return Store(store_root(given))


def existing_store(given: str | None) -> "Store":
    """Returns the store of the option, or of an argument; raises BadParameter without its
    folder."""
    root = store_root(given)
    if "://" not in root and not Path(root).is_dir():
        raise typer.BadParameter(f"there is no store: {root} is not a folder; name one by --store")
    return opened_store(root)
