"""What an artifact says about itself: kind, identity, parents, counts, files, notes."""

from datetime import datetime
from enum import StrEnum

from pydantic import JsonValue

from artifacts.fingerprint import canonical, fingerprint_of
from artifacts.strict import Strict


class Kind(StrEnum):
    """The nouns of the pipeline; one folder of the store each (DESIGN, the way of the data)."""

    DATASET = "dataset"
    ITEM_EMBEDDINGS = "item_embeddings"
    CLUSTERS = "clusters"
    CLUSTER_NAMES = "cluster_names"
    USER_PROFILES = "user_profiles"
    ITEM_TABLES = "item_tables"
    MODEL = "model"
    CANDIDATES = "candidates"
    METRICS = "metrics"
    CELL = "cell"
    RECOMMENDATIONS = "recommendations"
    REPORT = "report"
    REFRESH = "refresh"
    RELEASE = "release"


SCHEMA_VERSIONS: dict[Kind, int] = dict.fromkeys(Kind, 1) | {Kind.MODEL: 2, Kind.METRICS: 3}
"""Raise a kind's number when its files or their meaning change: old ones are then made anew."""

COMPLETE = "complete"


class ArtifactRef(Strict):
    """Names one artifact. This, never a frame or a tensor, travels between tasks."""

    kind: Kind
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.fingerprint}"


class Identity(Strict):
    """What an artifact is made of; equal identities are the same artifact.

    ``outcome`` is "complete", or names what is missing: an artifact with failed items is kept
    under a name of its own, so that the next run looks for the complete one, does not find it
    and tries the failed items again.
    """

    kind: Kind
    parameters: dict[str, JsonValue]
    parents: dict[str, ArtifactRef]
    outcome: str = COMPLETE

    @property
    def fingerprint(self) -> str:
        return fingerprint_of([self.model_dump(mode="json"), SCHEMA_VERSIONS[self.kind]])

    @property
    def ref(self) -> ArtifactRef:
        return ArtifactRef(kind=self.kind, fingerprint=self.fingerprint)


class StoredFile(Strict):
    """Size in bytes and SHA-256 of one file of an artifact."""

    size: int
    sha256: str


class Manifest(Strict):
    """The content of ``manifest.json``, written last: a folder without it is no artifact."""

    kind: Kind
    fingerprint: str
    schema_version: int
    parameters: dict[str, JsonValue]
    parents: dict[str, ArtifactRef]
    outcome: str
    code_version: str
    created: datetime
    counts: dict[str, int | float]
    notes: list[str]
    files: dict[str, StoredFile]


def identity(
    kind: Kind,
    parameters: object,
    parents: dict[str, ArtifactRef],
    outcome: str = COMPLETE,
) -> Identity:
    """Returns the identity of an artifact made from ``parameters`` and named ``parents``.

    Raises:
        NoStableIdentity: a parameter is not JSON-like data or a pydantic model.
    """
    data = canonical(parameters)
    if not isinstance(data, dict):
        raise TypeError(f"parameters of a {kind} must have names, not be {data!r}")
    return Identity(kind=kind, parameters=data, parents=parents, outcome=outcome)
