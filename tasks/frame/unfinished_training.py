"""Inputs of unfinished trainings, without which their checkpoints are useless."""

import json
from pathlib import Path

from artifacts.files.durable import write_atomically
from artifacts.manifest import ArtifactRef, Identity, Kind
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


def unfinished_sources(store: Store) -> list[ArtifactRef]:
    """Returns the sources of models with checkpoints but without an artifact."""
    work, found = store.local / "work", list[ArtifactRef]()
    for path in (work / TRAININGS).glob(f"*{SOURCES}"):
        if (work / checkpoints_of(path.name.removesuffix(SOURCES))).is_dir():
            sources: list[dict[str, str]] = json.loads(path.read_bytes())
            found += [
                ArtifactRef(kind=Kind(each["kind"]), fingerprint=each["fingerprint"])
                for each in sources
            ]
    return found
