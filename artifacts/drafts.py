"""Drafts of artifacts: temporary folders beside the final path, completed by a rename."""

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
"""Suffix of the lock file of a draft."""


@dataclass
class Draft:
    """An artifact in creation: files are written to ``path``, counts and notes to fields."""

    path: Path
    counts: dict[str, int | float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@contextmanager
def draft_beside(place: Path) -> Iterator[Draft]:
    """Yields a locked (``flock``) folder beside an artifact's path, deleted at the end of the
    block; drafts of killed processes are recognised by their free lock."""
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
    """Replaces a folder by another one."""
    shutil.rmtree(place, ignore_errors=True)
    ready.rename(place)
    sync(place.parent)


def give_name(partial: Path, place: Path) -> None:
    """Renames a finished folder to its final name; keeps an existing one of another run, which is
    equal."""
    try:
        partial.rename(place)
    except OSError:
        if not (place / MANIFEST).exists():
            raise
    sync(place.parent)
    sync(place.parent.parent)
