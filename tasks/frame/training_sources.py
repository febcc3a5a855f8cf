"""The artifacts that models are fitted on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from artifacts.bundles import CROSSINGS
from artifacts.manifest import ArtifactRef


@dataclass(frozen=True)
class TrainingSources:
    """Input artifacts of a model; only the released one reads ``crossings``."""

    dataset: ArtifactRef
    tables: ArtifactRef
    profiles: ArtifactRef
    crossings: ArtifactRef | None = None

    @classmethod
    def of(cls, parts: Mapping[str, ArtifactRef]) -> Self:
        """Returns those of a refresh, given its artifacts by role."""
        return cls(parts["dataset"], parts["tables"], parts["profiles"], parts.get(CROSSINGS))

    def parents(self) -> dict[str, ArtifactRef]:
        """Returns the available artifacts by role."""
        return {role: ref for role, ref in vars(self).items() if ref is not None}

    def without_crossings(self) -> dict[str, ArtifactRef]:
        """Returns the artifacts by role without ``crossings``."""
        return {role: ref for role, ref in self.parents().items() if role != CROSSINGS}
