"""The remote side of a store: artifacts, pointers and notes under an fsspec URL.

An artifact's files are in a folder of their upload; the manifest beside it is written last, if none
exists: of two makers one wins, and readers never combine files of both. Downloaded files are
checked against their digests.
"""

import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from fsspec.implementations.local import LocalFileSystem

from artifacts.files.durable import create_exclusively, write_atomically
from artifacts.files.leftovers import SET_ASIDE
from artifacts.integrity import ArtifactCorruptError, parse_manifest, sums_of, way_out
from artifacts.manifest import MANIFEST, ArtifactRef, Kind, Manifest, document_of
from artifacts.remote.file_systems import file_system_of

UNLISTED = "unlisted"
"""Where manifests of artifacts lie that nothing needs: each counts as not made, and is listed again
when a run looks it up while its files exist."""


class RemoteStore:
    """Access to the objects of a store under a URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._files, self._root = file_system_of(url)

    def read(self, *parts: str) -> bytes | None:
        """Returns an object's content, None if it does not exist."""
        self._files.invalidate_cache()
        try:
            return cast(bytes, self._files.cat_file(self._path(*parts)))
        except FileNotFoundError:
            return None

    def write(self, content: bytes, *parts: str) -> None:
        """Replaces an object; no reader sees a part of it."""
        self._files.makedirs(self._path(*parts[:-1]), exist_ok=True)
        path = self._path(*parts)
        if isinstance(self._files, LocalFileSystem):
            write_atomically(Path(path), content)
        else:
            self._files.pipe_file(path, content)

    def create(self, content: bytes, *parts: str) -> None:
        """Creates an object conditionally (``If-None-Match`` on S3).

        Raises:
            FileExistsError: it exists.
        """
        self._files.makedirs(self._path(*parts[:-1]), exist_ok=True)
        path = self._path(*parts)
        if isinstance(self._files, LocalFileSystem):
            create_exclusively(Path(path), content)
        else:
            self._files.pipe_file(path, content, mode="create")

    def put(self, source: Path, *parts: str) -> None:
        """Uploads a file as an object."""
        self._files.makedirs(self._path(*parts[:-1]), exist_ok=True)
        self._files.put_file(str(source), self._path(*parts))

    def get(self, target: Path, *parts: str) -> None:
        """Downloads an object into a file; raises FileNotFoundError."""
        self._files.get_file(self._path(*parts), str(target))

    def opened(self, *parts: str) -> BinaryIO:
        """Returns an object, open for reading of its parts; raises FileNotFoundError."""
        return cast(BinaryIO, self._files.open(self._path(*parts), "rb"))

    def delete(self, *parts: str) -> None:
        """Deletes an object or all objects below a folder, if they exist."""
        path = self._path(*parts)
        self._files.invalidate_cache()
        # `rm` would interpret brackets in names as patterns.
        for found in self._files.find(path):
            self._files.rm_file(found)

    def names(self, *parts: str) -> list[str]:
        """Returns the sorted names below a folder; empty if it does not exist."""
        self._files.invalidate_cache()
        path = self._path(*parts)
        try:
            entries = self._files.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(PurePosixPath(entry).name for entry in entries)

    def fingerprints(self, kind: Kind) -> list[str]:
        """Returns the names of the artifacts of a kind, including incomplete ones."""
        return [name for name in self.names(kind) if not name.startswith(".")]

    def manifest(self, ref: ArtifactRef) -> bytes | None:
        """Returns a manifest's content without downloading the artifact."""
        return self.read(ref.kind, ref.fingerprint, MANIFEST)

    def is_whole(self, manifest: Manifest) -> bool:
        """Returns whether all files exist with their sizes; contents are not read."""
        self._files.invalidate_cache()
        for name, stored in manifest.files.items():
            try:
                found = self._files.info(self._path(*_place(manifest), name))
            except FileNotFoundError:
                return False
            if found["size"] != stored.size:
                return False
        return True

    def upload(self, manifest: Manifest, folder: Path, *, replace: bool) -> Manifest | None:
        """Uploads an artifact's files, then its manifest; returns the manifest with the upload's
        name.

        None if another maker's manifest exists; ``replace`` overwrites it.
        """
        named = manifest.model_copy(update={"upload": f"files-{uuid.uuid4().hex[:12]}"})
        for name in manifest.files:
            target = self._path(*_place(named), name)
            self._files.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
            self._files.put_file(str(folder / name), target)
        write = self.write if replace else self.create
        try:
            write(document_of(named), manifest.kind, manifest.fingerprint, MANIFEST)
        except FileExistsError:
            self.delete(*_place(named))
            return None
        return named

    def replace(self, manifest: Manifest, folder: Path) -> Manifest:
        """Uploads other files of an existing artifact, then their manifest, and deletes the earlier
        ones; returns the manifest with the upload's name. No other process may write."""
        before = self.manifest(manifest.ref)
        named = self.upload(manifest, folder, replace=True)
        assert named is not None
        if before is not None:
            earlier = parse_manifest(before, manifest.ref, self.url)
            for name in earlier.files:
                self.delete(*_place(earlier), name)
        return named

    def fetch(self, manifest: Manifest, folder: Path) -> None:
        """Downloads an artifact's files into a folder, after checking their digests.

        Raises:
            ArtifactCorruptError: a file is missing or does not match; the remote artifact is
                quarantined.
        """
        for name, stored in manifest.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
            source = self._path(*_place(manifest), name)
            try:
                self._files.get_file(source, str(partial))
                if sums_of(partial).sha256 != stored.sha256:
                    raise self._damaged(manifest, f"{source} has other content than was written")
                partial.replace(target)
            except FileNotFoundError as error:
                raise self._damaged(manifest, f"{source} is gone") from error
            finally:
                partial.unlink(missing_ok=True)

    def set_aside(self, ref: ArtifactRef) -> None:
        """Moves a manifest away, so that the artifact is treated as missing."""
        content = self.manifest(ref)
        if content is not None:
            self.write(content, SET_ASIDE, f"{ref.kind}-{ref.fingerprint}.json")
            self.delete(ref.kind, ref.fingerprint, MANIFEST)

    def unlist(self, ref: ArtifactRef) -> None:
        """Takes a manifest out of its place, so that the artifact counts as not made."""
        content = self.manifest(ref)
        if content is not None:
            self.write(content, UNLISTED, _note_of(ref))
            self.delete(ref.kind, ref.fingerprint, MANIFEST)

    def relist_all(self) -> None:
        """Puts the manifests of all unlisted artifacts back."""
        for name in self.names(UNLISTED):
            kind, _, fingerprint = name.removesuffix(".json").rpartition("-")
            if kind in set(Kind):
                self.relist(ArtifactRef(kind=Kind(kind), fingerprint=fingerprint))

    def relist(self, ref: ArtifactRef) -> bool:
        """Puts the manifest of an unlisted artifact back; returns whether there was one."""
        content = self.read(UNLISTED, _note_of(ref))
        if content is None:
            return False
        with suppress(FileExistsError):  # Somebody has made it meanwhile.
            self.create(content, ref.kind, ref.fingerprint, MANIFEST)
        self.delete(UNLISTED, _note_of(ref))
        return True

    def orphans(self, ref: ArtifactRef) -> "Orphans | None":
        """Returns the objects of an artifact that its manifest does not name, None without any:
        of makers that were killed or came second, and of an unlisted artifact."""
        self._files.invalidate_cache()
        folder = self._path(ref.kind, ref.fingerprint)
        content = self.manifest(ref)
        own = parse_manifest(content, ref, folder).upload if content is not None else None
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

    def delete_orphans(self, orphans: "Orphans") -> None:
        """Deletes them, and the note of an unlisted artifact: in this order, so that no run lists
        it again without its files."""
        self.delete(UNLISTED, _note_of(orphans.ref))
        for path in orphans.paths:
            with suppress(FileNotFoundError):
                self._files.rm_file(path)

    def clear_leftovers(self) -> int:
        """Deletes quarantined and unlisted manifests, and all objects that no manifest names, while
        no run uses the store; returns their number."""
        objects = 0
        for folder in (SET_ASIDE, UNLISTED):
            objects += len(self.names(folder))
            self.delete(folder)
        for kind in Kind:
            for name in self.fingerprints(kind):
                orphans = self.orphans(ArtifactRef(kind=kind, fingerprint=name))
                if orphans is not None:
                    objects += len(orphans.paths)
                    self.delete_orphans(orphans)
        return objects

    def drop(self, ref: ArtifactRef) -> None:
        """Deletes an artifact: its manifest first, so that a partial deletion counts as missing."""
        self.delete(ref.kind, ref.fingerprint, MANIFEST)
        self.delete(ref.kind, ref.fingerprint)

    def _damaged(self, manifest: Manifest, fault: str) -> ArtifactCorruptError:
        self.set_aside(manifest.ref)
        return ArtifactCorruptError(f"{fault}; it was set aside: {way_out(manifest.kind)}")

    def _path(self, *parts: str) -> str:
        return str(PurePosixPath(self._root, *parts))


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
