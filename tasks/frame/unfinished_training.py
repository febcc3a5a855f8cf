"""Inputs of unfinished trainings: checkpoints are of use while these are the latest refresh."""

import json
from pathlib import Path

from artifacts.bundles import REFRESHED, parts_of
from artifacts.files.durable import write_atomically
from artifacts.integrity import ArtifactError
from artifacts.manifest import ArtifactRef, Identity
from artifacts.store import Store

TRAININGS = "trainings"
SOURCES = ".sources.json"
"""Suffix of the file with a training's sources, beside its lock."""


def note_sources(store: Store, wanted: Identity) -> Path:
    """Records the sources of a training; returns the folder of locks."""
    folder = store.workspace(TRAININGS)
    sources = json.dumps([parent.model_dump() for parent in wanted.parents.values()])
    write_atomically(folder / f"{wanted.fingerprint}{SOURCES}", sources.encode())
    return folder


def checkpoints_of(fingerprint: str) -> str:
    """Returns the name of the work folder of a model's checkpoints."""
    return f"train-{fingerprint}"


def is_replaced(store: Store, fingerprint: str) -> bool:
    """Returns whether a later refresh has replaced the inputs of a training, so that no run resumes
    it."""
    refreshed = store.pointed(REFRESHED)
    noted = store.local / "work" / TRAININGS / f"{fingerprint}{SOURCES}"
    if refreshed is None or not noted.exists():
        return False
    try:
        parts = parts_of(store, refreshed).values()
    except ArtifactError:  # The refresh is made again before the training resumes.
        return False
    sources: list[dict[str, str]] = json.loads(noted.read_bytes())
    return any(ArtifactRef.model_validate(each) not in parts for each in sources)
