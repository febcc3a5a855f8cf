"""The remote side of a store: artifacts, pointers and notes under an fsspec URL.

An artifact's files are in a folder named by their upload; the manifest beside it is written last,
if none exists: of two uploads one is used, and readers never combine files of both. Downloaded
files are checked against their digests.

Existing manifests are moved, restored, replaced and deleted under one lease of the store, and only
if they are still what the caller has seen: a repair by another machine in between is kept.
"""

import logging
import uuid
from collections.abc import Collection
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

from artifacts.files.leftovers import SET_ASIDE
from artifacts.integrity import (
    ArtifactCorruptError,
    ArtifactNewerError,
    parse_manifest,
    sums_of,
    way_out,
)
from artifacts.manifest import FINGERPRINT, MANIFEST, ArtifactRef, Kind, Manifest, document_of
from artifacts.remote.remote_lease import RemoteLease
from artifacts.remote.remote_objects import RemoteObjects

UNLISTED = "unlisted"
"""Folder for manifests of unneeded artifacts: each counts as missing, and is listed again if a run
looks it up while its files exist."""

CHANGES = ("leases", "manifests")
"""Lease on changes of existing manifests."""

_OFFERS = 10
"""Maximum number of tries to publish an artifact while other machines change it."""

logger = logging.getLogger("llm4cdsr")


class RemoteStore(RemoteObjects):
    """Access to the artifacts of a store under a URL."""

    def fingerprints(self, kind: Kind) -> list[str]:
        """Returns the names of the artifacts of a kind, including incomplete ones. Other objects
        in its folder are not the store's."""
        return [name for name in self.names(kind) if FINGERPRINT.fullmatch(name)]

    def manifest(self, ref: ArtifactRef) -> bytes | None:
        """Returns a manifest's content without downloading the artifact."""
        return self.read(ref.kind, ref.fingerprint, MANIFEST)

    def relisted_manifest(self, ref: ArtifactRef) -> bytes | None:
        """As `manifest`; that of an unlisted artifact is listed again first."""
        content = self.manifest(ref)
        if content is None and self.relist(ref):
            content = self.manifest(ref)
        return content

    def is_whole(self, ref: ArtifactRef, content: bytes | None) -> bool:
        """Returns whether all files of a manifest exist with their sizes; contents are not read.

        False for ``content`` None; an unreadable manifest is set aside.
        """
        if (manifest := self._sound(ref, content)) is None:
            return False
        self._files.invalidate_cache()
        for name, stored in manifest.files.items():
            try:
                found = self._files.info(self._path(*_place(manifest), name))
            except FileNotFoundError:
                return False
            if found["size"] != stored.size:
                return False
        return True

    def _sound(self, ref: ArtifactRef, content: bytes | None) -> Manifest | None:
        """Returns a manifest, None without one or if it is of a newer version; an unreadable one is
        set aside."""
        if content is None:
            return None
        try:
            return parse_manifest(content, ref, f"{self.url}/{ref}/{MANIFEST}")
        except ArtifactNewerError:
            return None
        except ArtifactCorruptError as error:
            if self.set_aside(ref, content):
                logger.warning("%s; it was quarantined", error)
            return None

    def offer(self, manifest: Manifest, folder: Path) -> Manifest | None:
        """Uploads an artifact, in place of a damaged one; returns its manifest with the upload's
        name, None if the store has a sound one, which is kept.

        Raises:
            ArtifactCorruptError: its manifest exists but cannot be read.
        """
        ref = manifest.ref
        for _ in range(_OFFERS):
            seen = self.manifest(ref)
            if self.is_whole(ref, seen):
                return None
            # If another machine has replaced the manifest, the next try checks the new one.
            if (seen is None or self.set_aside(ref, seen)) and (
                named := self.upload(manifest, folder)
            ):
                return named
            if seen is None:
                self.relist(ref)  # Another machine's manifest may have been unlisted since.
        raise ArtifactCorruptError(
            f"{self.url}/{ref}/{MANIFEST} exists but cannot be read; delete it, then "
            f"{way_out(ref.kind)}"
        )

    def upload(self, manifest: Manifest, folder: Path) -> Manifest | None:
        """Uploads an artifact's files, then its manifest; returns the manifest with the upload's
        name, None if another maker's manifest exists."""
        named = self._put_files(manifest, folder)
        try:
            self.create(document_of(named), manifest.kind, manifest.fingerprint, MANIFEST)
        except FileExistsError:
            self.delete(*_place(named))
            return None
        return named

    def replace(self, manifest: Manifest, folder: Path) -> Manifest:
        """Uploads other files of an existing artifact, then their manifest, and deletes the earlier
        ones; returns the manifest with the upload's name. No run may use the store."""
        named = self._put_files(manifest, folder)
        with self._changing():
            before = self.manifest(manifest.ref)
            self.write(document_of(named), manifest.kind, manifest.fingerprint, MANIFEST)
        if before is not None:
            try:
                earlier = parse_manifest(before, manifest.ref, self.url)
            except ArtifactCorruptError:
                if (orphans := self.orphans(manifest.ref)) is not None:
                    self.delete_orphans(orphans)
                return named
            for name in earlier.files:
                self.delete(*_place(earlier), name)
        return named

    def fetch(self, manifest: Manifest, folder: Path) -> None:
        """Downloads an artifact's files into a folder, after checking their digests.

        Raises:
            ArtifactCorruptError: a file is missing or does not match; the message has the fault.
        """
        for name, stored in manifest.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
            source = self._path(*_place(manifest), name)
            try:
                self._files.get_file(source, str(partial))
                if sums_of(partial).sha256 != stored.sha256:
                    raise ArtifactCorruptError(f"{source} has other content than was written")
                partial.replace(target)
            except FileNotFoundError as error:
                raise ArtifactCorruptError(f"{source} is gone") from error
            finally:
                partial.unlink(missing_ok=True)

    def set_aside(self, ref: ArtifactRef, seen: bytes) -> bool:
        """Moves the manifest of a damaged artifact away, so that it is treated as missing; returns
        False if the store no longer has the manifest ``seen``."""
        return self._move(ref, seen, SET_ASIDE)

    def unlist(self, ref: ArtifactRef, seen: bytes) -> bool:
        """Takes the manifest ``seen`` out of its place, so that the artifact counts as missing;
        returns False if the store no longer has it."""
        return self._move(ref, seen, UNLISTED)

    def unlisted(self, ref: ArtifactRef) -> bytes | None:
        """Returns the manifest of an unlisted artifact, None if it is not unlisted."""
        return self.read(UNLISTED, _note_of(ref))

    def relist_all(self, among: Collection[ArtifactRef] | None = None) -> None:
        """Puts the manifests of all unlisted artifacts back, or of those in ``among``."""
        for name in self.names(UNLISTED):
            kind, _, fingerprint = name.removesuffix(".json").rpartition("-")
            if kind in set(Kind) and FINGERPRINT.fullmatch(fingerprint):
                ref = ArtifactRef(kind=Kind(kind), fingerprint=fingerprint)
                if among is None or ref in among:
                    self.relist(ref)

    def relist(self, ref: ArtifactRef) -> bool:
        """Puts the manifest of an unlisted artifact back; returns whether it was unlisted."""
        if self.unlisted(ref) is None:
            return False
        with self._changing():
            content = self.unlisted(ref)
            if content is None:  # Listed again by another machine, or its files were deleted.
                return self.manifest(ref) is not None
            with suppress(FileExistsError):  # Made by another machine in the meantime.
                self.create(content, ref.kind, ref.fingerprint, MANIFEST)
            self.delete(UNLISTED, _note_of(ref))
        return True

    def orphans(self, ref: ArtifactRef) -> "Orphans | None":
        """Returns the objects of an artifact that its manifest does not name, None without any: of
        killed or second uploads, and of an unlisted artifact. None for an artifact of a newer
        version, whose files are unknown."""
        self._files.invalidate_cache()
        folder = self._path(ref.kind, ref.fingerprint)
        content = self.manifest(ref)
        try:
            own = parse_manifest(content, ref, folder).upload if content is not None else None
        except ArtifactNewerError:
            return None
        if own == "":
            return None  # Its files lie beside its manifest.
        found = cast(dict[str, dict[str, int]], self._files.find(folder, detail=True))
        kept = {f"{folder}/{MANIFEST}", *(path for path in found if f"{folder}/{own}/" in path)}
        paths = [path for path in found if path not in kept]
        if not paths:
            return None
        note = self._path(UNLISTED, _note_of(ref))
        aged = [*paths, *([note] if self._files.exists(note) else [])]
        changed = max(self._files.modified(path) for path in aged)
        return Orphans(ref, paths, sum(int(found[path]["size"]) for path in paths), changed)

    def delete_orphans(self, orphans: "Orphans") -> bool:
        """Deletes the objects, and the manifest of an unlisted artifact; returns False, and deletes
        nothing, if the artifact has changed since `orphans`, for example was listed again."""
        with self._changing():
            try:
                if self.orphans(orphans.ref) != orphans:
                    return False
            except ArtifactCorruptError:
                return False
            # In this order, so that no run lists it again without its files.
            self.delete(UNLISTED, _note_of(orphans.ref))
            for path in orphans.paths:
                with suppress(FileNotFoundError):
                    self._files.rm_file(path)
            # A folder in the manifest's place would keep the artifact from being made again.
            self.delete_folders(orphans.ref.kind, orphans.ref.fingerprint, MANIFEST)
        return True

    def clear_leftovers(self) -> int:
        """Deletes quarantined, unlisted and damaged manifests, and all objects that no manifest
        names, while no run uses the store; returns their number."""
        objects = 0
        refs = [
            ArtifactRef(kind=kind, fingerprint=name)
            for kind in Kind
            for name in self.fingerprints(kind)
        ]
        for ref in refs:
            # The files of an unreadable manifest are unknown, so all of them are deleted below.
            self._sound(ref, self.manifest(ref))
        with self._changing():
            for folder in (SET_ASIDE, UNLISTED):
                objects += len(self.names(folder))
                self.delete(folder)
        for ref in refs:
            orphans = self.orphans(ref)
            if orphans is not None and self.delete_orphans(orphans):
                objects += len(orphans.paths)
        return objects

    def drop(self, ref: ArtifactRef) -> None:
        """Deletes an artifact: its manifest first, so that a partial deletion counts as missing."""
        with self._changing():
            self.delete(ref.kind, ref.fingerprint, MANIFEST)
        self.delete(ref.kind, ref.fingerprint)

    def _put_files(self, manifest: Manifest, folder: Path) -> Manifest:
        """Uploads an artifact's files; returns its manifest with the upload's name."""
        named = manifest.model_copy(update={"upload": f"files-{uuid.uuid4().hex[:12]}"})
        for name in manifest.files:
            self.put(folder / name, *_place(named), name)
        return named

    def _move(self, ref: ArtifactRef, seen: bytes, folder: str) -> bool:
        with self._changing():
            if self.manifest(ref) != seen:
                return False
            self.write(seen, folder, _note_of(ref))
            self.delete(ref.kind, ref.fingerprint, MANIFEST)
        return True

    def _changing(self) -> AbstractContextManager[None]:
        """Excludes changes of existing manifests by other processes during a block. The creation of
        a manifest needs no exclusion, because it changes no existing one."""
        return RemoteLease(self, *CHANGES).held()


@dataclass(frozen=True)
class Orphans:
    """Objects that no manifest names; ``changed`` is when the newest of them was written."""

    ref: ArtifactRef
    paths: list[str]
    bytes: int
    changed: datetime


def _note_of(ref: ArtifactRef) -> str:
    return f"{ref.kind}-{ref.fingerprint}.json"


def _place(manifest: Manifest) -> tuple[str, ...]:
    beside = (manifest.kind, manifest.fingerprint)
    return (*beside, manifest.upload) if manifest.upload else beside
