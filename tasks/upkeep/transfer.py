"""Copying of releases with their ancestors between stores."""

from artifacts.integrity import ArtifactMissingError
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from tasks.upkeep.needed import with_ancestors


def copy(source: Store, target: Store, ref: ArtifactRef) -> int:
    """Copies an artifact and its ancestors to another store; returns their number.

    Existing artifacts are kept. Missing ancestors are skipped.

    Raises:
        ArtifactMissingError, ArtifactCorruptError: it cannot be read.
    """
    found = list(with_ancestors(source, ref))
    for each in reversed(found):  # Ancestors first: a copied artifact always has its ancestors.
        try:
            target.adopt(source, each)
        except ArtifactMissingError:
            if each == ref:
                raise
    return len(found)


def copy_all(source: Store, target: Store) -> list[ArtifactRef]:
    """Copies every release of a store, or every artifact if it has no release."""
    releases = [manifest.ref for manifest in source.artifacts(Kind.RELEASE)]
    every = releases or [manifest.ref for kind in Kind for manifest in source.artifacts(kind)]
    for ref in every:
        copy(source, target, ref)
    return every
