"""Copies releases between stores, with all that they are made of."""

from artifacts.integrity import ArtifactMissingError
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from tasks.upkeep.needed import with_parents


def copy(source: Store, target: Store, ref: ArtifactRef) -> int:
    """Copies an artifact and all that it is made of into another store; returns how many.

    What is whole there stays. What is gone from the source is left out, but the artifact itself.

    Raises:
        ArtifactMissingError, ArtifactCorruptError: it cannot be read.
    """
    found = list(with_parents(source, ref))
    for each in reversed(found):  # It comes last: what is there is there with all of its parents.
        try:
            target.adopt(source, each)
        except ArtifactMissingError:
            if each == ref:
                raise
    return len(found)


def copy_all(source: Store, target: Store) -> list[ArtifactRef]:
    """Copies every release of a store, or every artifact where it has no release."""
    releases = [manifest.ref for manifest in source.artifacts(Kind.RELEASE)]
    every = releases or [manifest.ref for kind in Kind for manifest in source.artifacts(kind)]
    for ref in every:
        copy(source, target, ref)
    return every
