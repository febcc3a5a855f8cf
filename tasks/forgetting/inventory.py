"""What a removal can read of a store, and the artifacts that remain because it cannot."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from artifacts.integrity import ArtifactCorruptError, ArtifactMissingError, ArtifactNewerError
from artifacts.manifest import FINGERPRINT, MANIFEST, ArtifactRef, Kind, Manifest
from artifacts.store import Store

logger = logging.getLogger("llm4cdsr")


@dataclass
class Inventory:
    """Manifests by kind, oldest first. ``left``: places of unreadable artifacts, with reasons.
    ``held``: datasets that these name or may name, whose users must keep their numbers."""

    manifests: dict[Kind, list[Manifest]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    held: set[ArtifactRef] = field(default_factory=set)


def take_inventory(store: Store) -> Inventory:
    """Reads every manifest of a store, which no run may use.

    An artifact whose manifest is damaged or missing has unknown content: it is quarantined, and
    deleted with the quarantine. One of a newer version, behind a link, or that this machine cannot
    read, stays.
    """
    found = Inventory()
    contents: list[bytes] = []
    for kind in Kind:
        read = list(_read(store, kind, found.left, contents))
        found.manifests[kind] = sorted(read, key=lambda manifest: manifest.created)
    found.held.update(
        manifest.ref
        for manifest in found.manifests[Kind.DATASET]
        if any(not content or manifest.fingerprint.encode() in content for content in contents)
    )
    return found


def _read(
    store: Store, kind: Kind, left: dict[str, str], contents: list[bytes]
) -> Iterator[Manifest]:
    for ref in _refs(store, kind, left):
        place = store.local / ref.kind / ref.fingerprint
        if place.is_symlink() and place.exists():
            left[str(ref)] = f"{place} is a link; delete it and {place.resolve()}"
            continue
        try:
            yield store.manifest(ref)
        except ArtifactNewerError as error:
            left[str(ref)] = str(error)
            contents.append(error.content)
        except (ArtifactMissingError, ArtifactCorruptError) as error:
            if os.path.lexists(place):
                store.set_aside(ref)
                logger.warning("%s is deleted, because its content is unknown (%s)", ref, error)
            if os.path.lexists(place):
                left[str(ref)] = f"{place} cannot be moved or deleted"
        except OSError as error:
            contents.append(b"")
            left[str(ref)] = f"{place / MANIFEST} cannot be read ({error.strerror or error})"


def _refs(store: Store, kind: Kind, left: dict[str, str]) -> list[ArtifactRef]:
    """Returns the artifacts of a kind, with folders without a manifest."""
    names = set[str]()
    try:
        names.update(entry.name for entry in os.scandir(store.local / kind))
    except FileNotFoundError:
        names.clear()
    except OSError as error:
        left[str(kind)] = f"{store.local / kind} cannot be read ({error.strerror or error})"
    if store.remote is not None:
        names.update(store.remote.fingerprints(kind))
    return [
        ArtifactRef(kind=kind, fingerprint=name)
        for name in sorted(names)
        if FINGERPRINT.fullmatch(name)
    ]
