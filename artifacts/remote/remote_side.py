"""The remote side of a store: artifacts, pointers and notes under an fsspec URL.

An artifact's files are in a folder of their upload; the manifest beside it is written last, if none
exists: of two makers one wins, and readers never combine files of both. Downloaded files are
checked against their digests.
"""

import uuid
from pathlib import Path, PurePosixPath
from typing import cast

from fsspec.implementations.local import LocalFileSystem

from artifacts.files.durable import create_exclusively
from artifacts.integrity import ArtifactCorruptError, sums_of, way_out
from artifacts.manifest import MANIFEST, ArtifactRef, Kind, Manifest, document_of
from artifacts.remote.file_systems import file_system_of

SET_ASIDE = "set-aside"


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
        """Replaces an object."""
        self._files.makedirs(self._path(*parts[:-1]), exist_ok=True)
        self._files.pipe_file(self._path(*parts), content)

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

    def _damaged(self, manifest: Manifest, fault: str) -> ArtifactCorruptError:
        self.set_aside(manifest.ref)
        return ArtifactCorruptError(f"{fault}; it was set aside: {way_out(manifest.kind)}")

    def _path(self, *parts: str) -> str:
        return str(PurePosixPath(self._root, *parts))


def _place(manifest: Manifest) -> tuple[str, ...]:
    beside = (manifest.kind, manifest.fingerprint)
    return (*beside, manifest.upload) if manifest.upload else beside
