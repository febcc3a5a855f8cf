"""The remote side of a store: artifacts, pointers and notes under an fsspec URL.

An artifact's files lie in a folder of their own upload, its manifest beside that folder and
written last, on condition that there is none: of two makers one is the first, and no reader ever
gets one's weights and the other's settings. Every fetched file is held against its digest.
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
    """Artifacts under a URL; reads and writes whole objects."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._files, self._root = file_system_of(url)

    def read(self, *parts: str) -> bytes | None:
        """Returns an object's content, None where there is none."""
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
        """Writes an object on condition that there is none (``If-None-Match`` on S3).

        Raises:
            FileExistsError: there is one.
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
        """Deletes an object or all below a folder; what is not there is no error."""
        path = self._path(*parts)
        self._files.invalidate_cache()
        # Not by `rm`: it takes a name with brackets for a pattern.
        for found in self._files.find(path):
            self._files.rm_file(found)

    def names(self, *parts: str) -> list[str]:
        """Returns the names below a folder, sorted; none where it is not there."""
        self._files.invalidate_cache()
        path = self._path(*parts)
        try:
            entries = self._files.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(PurePosixPath(entry).name for entry in entries)

    def fingerprints(self, kind: Kind) -> list[str]:
        """Returns the names of the artifacts of a kind, whole or not."""
        return [name for name in self.names(kind) if not name.startswith(".")]

    def manifest(self, ref: ArtifactRef) -> bytes | None:
        """Returns a manifest's content without fetching the artifact."""
        return self.read(ref.kind, ref.fingerprint, MANIFEST)

    def is_whole(self, manifest: Manifest) -> bool:
        """Returns whether all files are there in their sizes; their content is not read."""
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
        """Uploads an artifact's files, then its manifest; returns that, with its upload's name.

        None where another maker's manifest came first; with ``replace`` it makes way.
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
        """Fetches an artifact's files into a folder, each once its digest is that of the manifest.

        Raises:
            ArtifactCorruptError: a file is gone or has other content; the remote artifact is
                set aside.
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
        """Moves a manifest away, so that the artifact counts as not made."""
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
