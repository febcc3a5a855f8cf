"""Manifests of artifacts: kind, identity, parents, counts, files, notes."""

import hashlib
import json
import re
from datetime import datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue, field_validator

from artifacts.fingerprint import canonical, fingerprint_of
from artifacts.strict import Strict


class Kind(StrEnum):
    """Kinds of artifacts; each has a folder in the store (DESIGN, data flow)."""

    DATASET = "dataset"
    ITEM_EMBEDDINGS = "item_embeddings"
    CLUSTERS = "clusters"
    CLUSTER_NAMES = "cluster_names"
    CROSSING_ANSWERS = "crossing_answers"
    USER_PROFILES = "user_profiles"
    ITEM_TABLES = "item_tables"
    TRAINING_CHOICE = "training_choice"
    MODEL = "model"
    ABLATION = "ablation"
    CANDIDATES = "candidates"
    METRICS = "metrics"
    CELL = "cell"
    RECOMMENDATIONS = "recommendations"
    REPORT = "report"
    REFRESH = "refresh"
    RELEASE = "release"


SCHEMA_VERSIONS: dict[Kind, int] = dict.fromkeys(Kind, 1) | {Kind.MODEL: 2, Kind.METRICS: 4}
"""Increase a kind's number when its files or their meaning change; old artifacts are then made
again."""

FINGERPRINT = re.compile(r"[0-9a-f]{16}")
"""Name of an artifact's folder; folders with other names beside it do not belong to the store."""

COMPLETE = "complete"
MANIFEST = "manifest.json"


def _one_name(name: str) -> str:
    if name in (".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} is not the name of a folder")
    return name


FolderName = Annotated[str, AfterValidator(_one_name)]
"""Name of a folder in the store; manifests and pointers of others must not lead out of it."""


class ArtifactRef(Strict):
    """Reference to an artifact. Tasks exchange references, never frames or tensors."""

    kind: Kind
    fingerprint: Annotated[FolderName, Field(min_length=1)]

    def __str__(self) -> str:
        return f"{self.kind}/{self.fingerprint}"


class Identity(Strict):
    """Inputs of an artifact; equal identities are the same artifact.

    ``outcome`` is "complete", or describes missing items: an artifact with failed items has its own
    fingerprint, so that the next run does not find the complete one and retries the failed items.
    """

    kind: Kind
    parameters: dict[str, JsonValue]
    parents: dict[str, ArtifactRef]
    outcome: str = COMPLETE

    @property
    def fingerprint(self) -> str:
        return self.fingerprint_at(SCHEMA_VERSIONS[self.kind])

    def fingerprint_at(self, schema_version: int) -> str:
        """Returns the fingerprint of this identity under a schema version."""
        return fingerprint_of([self.model_dump(mode="json"), schema_version])

    @property
    def ref(self) -> ArtifactRef:
        return ArtifactRef(kind=self.kind, fingerprint=self.fingerprint)


class StoredFile(Strict):
    """Size in bytes and digests of one file of an artifact; ``xxh3`` is None in old manifests."""

    size: int
    sha256: str
    xxh3: str | None = None


class Manifest(Strict):
    """Content of ``manifest.json``, written last: a folder without it is not an artifact.

    ``upload``: folder with the files of a remote artifact, "" if they are beside the manifest.
    ``digest``: of all other fields, None in old manifests.
    """

    kind: Kind
    fingerprint: FolderName
    schema_version: int
    parameters: dict[str, JsonValue]
    parents: dict[str, ArtifactRef]
    outcome: str
    code_version: str
    created: datetime
    counts: dict[str, int | float]
    notes: list[str]
    files: dict[str, StoredFile]
    upload: FolderName = ""
    digest: str | None = None

    @property
    def ref(self) -> ArtifactRef:
        return ArtifactRef(kind=self.kind, fingerprint=self.fingerprint)

    @field_validator("files")
    @classmethod
    def _inside_the_folder(cls, files: dict[str, StoredFile]) -> dict[str, StoredFile]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or str(path) != name or "\0" in name:
                raise ValueError(f"{name!r} is not a file in the artifact's folder")
        return files


def document_of(manifest: Manifest) -> bytes:
    """Returns the content of ``manifest.json``, with its digest."""
    facts = manifest.model_dump(mode="json", exclude={"digest"})
    return json.dumps(facts | {"digest": digest_of(facts)}, indent=2, ensure_ascii=False).encode()


def digest_of(document: dict[str, JsonValue]) -> str:
    """Returns the hex SHA-256 of a manifest without its ``digest``."""
    facts = {name: value for name, value in document.items() if name != "digest"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def identity(
    kind: Kind,
    parameters: object,
    parents: dict[str, ArtifactRef],
    outcome: str = COMPLETE,
) -> Identity:
    """Returns the identity of an artifact made from ``parameters`` and named ``parents``.

    Raises: NoStableIdentityError: a parameter is neither JSON-like data nor a pydantic model.
    """
    data = canonical(parameters)
    if not isinstance(data, dict):
        raise TypeError(f"parameters of a {kind} must have names, not be {data!r}")
    return Identity(kind=kind, parameters=data, parents=parents, outcome=outcome)
