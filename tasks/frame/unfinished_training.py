"""What unfinished trainings are made from: their checkpoints are worth nothing without it."""

import json
from pathlib import Path

from artifacts.files.durable import write_atomically
from artifacts.manifest import ArtifactRef, Identity, Kind
from artifacts.store import Store

TRAININGS = "trainings"
SOURCES = ".sources.json"
"""How the file beside a training's lock ends that names its sources."""


def note_sources(store: Store, wanted: Identity) -> Path:
    """Writes down what a model is to be made from; returns the folder of the trainings' locks."""
    folder = store.workspace(TRAININGS)
    sources = json.dumps([parent.model_dump() for parent in wanted.parents.values()])
    write_atomically(folder / f"{wanted.fingerprint}{SOURCES}", sources.encode())
    return folder


def checkpoints_of(fingerprint: str) -> str:
    """Returns the name of the workspace that holds a model's checkpoints."""
    return f"train-{fingerprint}"


def unfinished_sources(store: Store) -> list[ArtifactRef]:
    """Returns what the models are made from of which there are checkpoints and no artifact."""
    work, found = store.local / "work", list[ArtifactRef]()
    for path in (work / TRAININGS).glob(f"*{SOURCES}"):
        if (work / checkpoints_of(path.name.removesuffix(SOURCES))).is_dir():
            sources: list[dict[str, str]] = json.loads(path.read_bytes())
            found += [
                ArtifactRef(kind=Kind(each["kind"]), fingerprint=each["fingerprint"])
                for each in sources
            ]
    return found
