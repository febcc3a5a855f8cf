"""Disk usage of a store by kind."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from artifacts.manifest import Kind
from artifacts.store import Store


@dataclass
class Used:
    """Entries of a kind's folder, and all files in them."""

    places: int = 0
    files: int = 0
    bytes: int = 0


def usage_of(store: Store) -> dict[str, Used]:
    """Returns the local disk usage of a store by kinds of artifacts and other folders."""
    found: dict[str, Used] = {}
    kinds = set(Kind)
    for top in sorted(store.local.iterdir()) if store.local.is_dir() else ():
        if top.name == "work":
            for below in sorted(top.iterdir()):
                name = below.name.partition("-")[0]
                _add(found.setdefault(f"work: {name}", Used()), below)
        elif top.name in kinds:
            for below in sorted(top.iterdir()):
                is_draft = below.name.startswith(".")
                _add(found.setdefault("draft" if is_draft else top.name, Used()), below)
        else:
            _add(found.setdefault(top.name, Used()), top)
    return found


def size_of(place: Path) -> tuple[int, int]:
    """Returns the number of files of a file or folder, and their bytes."""
    files, size = 0, 0
    for path in (place, *place.rglob("*")) if place.is_dir() else (place,):
        with suppress(FileNotFoundError):  # Deleted in the meantime.
            if path.is_symlink() or not path.is_dir():
                files, size = files + 1, size + path.lstat().st_size
    return files, size


def _add(used: Used, place: Path) -> None:
    files, size = size_of(place)
    used.places, used.files, used.bytes = used.places + 1, used.files + files, used.bytes + size
