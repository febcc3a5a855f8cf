"""The input artifacts of a training, and their record while it is unfinished: its checkpoints are
of use only while its inputs are those of the latest refresh."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from artifacts.bundles import CROSSINGS, REFRESHED, parts_of
from artifacts.files.durable import write_atomically
from artifacts.integrity import ArtifactError
from artifacts.manifest import ArtifactRef, Identity
from artifacts.store import Store

TRAININGS = "trainings"
SOURCES = ".sources.json"
"""Suffix of the file with a training's sources, beside its lock."""


@dataclass(frozen=True)
class TrainingSources:
    """Input artifacts of a model; only the model of a release uses ``crossings``."""

    dataset: ArtifactRef
    tables: ArtifactRef
    profiles: ArtifactRef
    crossings: ArtifactRef | None = None

    @classmethod
    def of(cls, parts: Mapping[str, ArtifactRef]) -> Self:
        """Returns the inputs among a refresh's artifacts by role."""
        return cls(parts["dataset"], parts["tables"], parts["profiles"], parts.get(CROSSINGS))

    def parents(self) -> dict[str, ArtifactRef]:
        """Returns the inputs that are set, by role."""
        return {role: ref for role, ref in vars(self).items() if ref is not None}

    def without_crossings(self) -> dict[str, ArtifactRef]:
        """Returns the inputs by role without ``crossings``."""
        return {role: ref for role, ref in self.parents().items() if role != CROSSINGS}


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
    except ArtifactError:  # The damaged refresh is made again before the training resumes.
        return False
    sources: list[dict[str, str]] = json.loads(noted.read_bytes())
    return any(ArtifactRef.model_validate(each) not in parts for each in sources)
