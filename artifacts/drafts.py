"""Drafts of artifacts: filled in a folder beside their place, which a rename makes final."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from artifacts.files.durable import sync
from artifacts.files.ownership import locked
from artifacts.manifest import MANIFEST

DRAFT_LOCK = ".lock"
"""How the name of the file ends that is locked while a draft is filled."""


@dataclass
class Draft:
    """An artifact being made: put files into ``path``, counts and notes beside them."""

    path: Path
    counts: dict[str, int | float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@contextmanager
def draft_beside(place: Path) -> Iterator[Draft]:
    """Gives a folder beside an artifact's place, locked (``flock``) and gone when the block ends:
    one that a killed process left is known by its lock."""
    draft = Draft(place.parent / f".{place.name}.{uuid.uuid4().hex[:8]}.tmp")
    lock = draft.path.with_name(f"{draft.path.name}{DRAFT_LOCK}")
    place.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock):
        draft.path.mkdir()
        try:
            yield draft
        finally:
            shutil.rmtree(draft.path, ignore_errors=True)
            lock.unlink(missing_ok=True)


def take_place(ready: Path, place: Path) -> None:
    """Puts a whole folder where another one is."""
    shutil.rmtree(place, ignore_errors=True)
    ready.rename(place)
    sync(place.parent)


def give_name(partial: Path, place: Path) -> None:
    """Gives a finished folder its name, unless another run was first: both hold the same."""
    try:
        partial.rename(place)
    except OSError:
        if not (place / MANIFEST).exists():
            raise
    sync(place.parent)
    sync(place.parent.parent)
