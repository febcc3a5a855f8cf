"""The artifact store: ``root/<kind>/<fingerprint>/`` with data files and a manifest.

Artifacts are immutable. One is written into a temporary folder beside its place and renamed
when its manifest is there, so a reader sees all of it or nothing (DESIGN, decision 1). The
only things that change are the pointers (``root/pointers/<name>.json``), replaced atomically.

A root with a protocol (``s3://bucket/prefix``) works through fsspec: artifacts are made in a
local cache and uploaded, manifest last; reading fetches what the cache lacks.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import fsspec
from pydantic import ValidationError

from artifacts.fingerprint import fingerprint_of, sha256_of_file
from artifacts.manifest import (
    SCHEMA_VERSIONS,
    ArtifactRef,
    Identity,
    Kind,
    Manifest,
    StoredFile,
)

MANIFEST = "manifest.json"


class ArtifactMissing(LookupError):
    """An artifact that was asked for is not in the store."""


class ArtifactCorrupt(RuntimeError):
    """An artifact's files are not what its manifest says."""


@dataclass
class Draft:
    """An artifact being made: put files into ``path``, counts and notes beside them."""

    path: Path
    counts: dict[str, int | float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Store:
    """Finds, makes and opens artifacts under one root: a local folder or an fsspec URL."""

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)
        self._remote: fsspec.AbstractFileSystem | None = None
        self._remote_root = ""
        if "://" in self.root:
            self._remote, self._remote_root = fsspec.core.url_to_fs(self.root)
            cache = Path(os.environ.get("LLM4CDSR_CACHE", Path.home() / ".cache" / "llm4cdsr"))
            self.local = cache / fingerprint_of(self.root)
        else:
            self.local = Path(self.root)

    def find(self, identity: Identity) -> ArtifactRef | None:
        """Returns the artifact of this identity, or None when it was not made yet.

        An artifact whose files are gone, cut short or unreadable counts as not made.
        """
        return identity.ref if self.holds(identity.ref) else None

    @contextmanager
    def create(self, identity: Identity) -> Iterator[Draft]:
        """Gives a draft to fill; committed when the block ends, dropped when it raises."""
        place = self._folder(identity.ref)
        draft = Draft(place.parent / f".{place.name}.{uuid.uuid4().hex[:8]}.tmp")
        draft.path.mkdir(parents=True)
        try:
            yield draft
            self._commit(identity, draft, place)
        finally:
            shutil.rmtree(draft.path, ignore_errors=True)

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """Raises `ArtifactMissing` when there is none, `ArtifactCorrupt` when unreadable."""
        path = self._folder(ref) / MANIFEST
        if not path.exists():
            self._fetch(ref)
        if not path.exists():
            raise ArtifactMissing(f"{ref} is not in {self.root}; run the stage that makes it")
        return _read_manifest(path)

    def path(self, ref: ArtifactRef) -> Path:
        """Returns the local folder of an artifact; raises `ArtifactMissing`."""
        self.manifest(ref)
        return self._folder(ref)

    def holds(self, ref: ArtifactRef) -> bool:
        """Whether an artifact's files are all here, none of them cut short."""
        try:
            return self._is_whole(self.manifest(ref))
        except (ArtifactMissing, ArtifactCorrupt):
            return False

    def adopt(self, other: "Store", ref: ArtifactRef, manifest_only: bool = False) -> None:
        """Takes over an artifact of another store as it is; what is whole here stays.

        With ``manifest_only`` its facts can be read here, while it still counts as not made.
        Raises `ArtifactMissing` where the other store has none.
        """
        source, place = other.path(ref), self._folder(ref)
        if self.holds(ref) or (manifest_only and (place / MANIFEST).exists()):
            return
        partial = place.parent / f".{place.name}.{uuid.uuid4().hex[:8]}.tmp"
        partial.mkdir(parents=True)
        try:
            for path in [source / MANIFEST] if manifest_only else sorted(source.iterdir()):
                shutil.copyfile(path, partial / path.name)
            if self._remote and not manifest_only:
                self._upload(ref, partial)
            shutil.rmtree(place, ignore_errors=True)
            _settle(partial, place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def verify(self, ref: ArtifactRef) -> None:
        """Reads every file; raises `ArtifactCorrupt` where a checksum differs."""
        folder = self.path(ref)
        for name, expected in self.manifest(ref).files.items():
            path = folder / name
            if not path.exists() or sha256_of_file(path) != expected.sha256:
                raise ArtifactCorrupt(f"{path} is missing or damaged; delete {folder} and rerun")

    def artifacts(self, kind: Kind) -> list[Manifest]:
        """Returns the manifests of one kind on this machine, oldest first.

        Raises:
            ArtifactCorrupt: one of them is unreadable.
        """
        folders = (self.local / kind).glob(f"[!.]*/{MANIFEST}")
        found = [_read_manifest(path) for path in folders]
        return sorted(found, key=lambda manifest: manifest.created)

    def point(self, name: str, ref: ArtifactRef) -> None:
        """Makes the pointer ``name`` (say "serving") name this artifact, atomically."""
        path = self._pointer(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, ref.model_dump_json().encode())
        if self._remote:
            self._remote.makedirs(self._remote_path("pointers"), exist_ok=True)
            self._remote.put_file(str(path), self._remote_path("pointers", path.name))

    def pointed(self, name: str) -> ArtifactRef | None:
        """Returns what the pointer ``name`` names, or None where it was never set."""
        path = self._pointer(name)
        if self._remote and self._remote.exists(self._remote_path("pointers", path.name)):
            content = self._remote.cat_file(self._remote_path("pointers", path.name))
            return ArtifactRef.model_validate_json(content)
        return ArtifactRef.model_validate_json(path.read_bytes()) if path.exists() else None

    def workspace(self, name: str) -> Path:
        """Returns a folder for what a stage keeps between tries: checkpoints, spooled requests."""
        path = self.local / "work" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def drop_workspace(self, name: str) -> None:
        """Deletes what a stage kept between tries, now that its artifact is there."""
        shutil.rmtree(self.local / "work" / name, ignore_errors=True)

    def _commit(self, identity: Identity, draft: Draft, place: Path) -> None:
        manifest = Manifest(
            kind=identity.kind,
            fingerprint=identity.fingerprint,
            schema_version=SCHEMA_VERSIONS[identity.kind],
            parameters=identity.parameters,
            parents=identity.parents,
            outcome=identity.outcome,
            code_version=version("llm4cdsr"),
            created=datetime.now(UTC),
            counts=draft.counts,
            notes=draft.notes,
            files=_describe_files(draft.path),
        )
        document = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False)
        write_atomically(draft.path / MANIFEST, document.encode())
        if self._remote:
            self._upload(identity.ref, draft.path)
        if place.exists() and self.find(identity) is None:
            # Only what a crash or a hand has damaged is replaced, never a whole artifact.
            shutil.rmtree(place, ignore_errors=True)
        _settle(draft.path, place)

    def _folder(self, ref: ArtifactRef) -> Path:
        return self.local / ref.kind / ref.fingerprint

    def _pointer(self, name: str) -> Path:
        return self.local / "pointers" / f"{name}.json"

    def _is_whole(self, manifest: Manifest) -> bool:
        folder = self.local / manifest.kind / manifest.fingerprint
        return all(
            (folder / name).exists() and (folder / name).stat().st_size == stored.size
            for name, stored in manifest.files.items()
        )

    def _remote_path(self, *parts: str) -> str:
        return str(PurePosixPath(self._remote_root, *parts))

    def _upload(self, ref: ArtifactRef, folder: Path) -> None:
        assert self._remote is not None
        files = [folder / name for name in _describe_files(folder) if name != MANIFEST]
        for path in [*files, folder / MANIFEST]:
            name = path.relative_to(folder).as_posix()
            target = self._remote_path(ref.kind, ref.fingerprint, name)
            self._remote.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
            self._remote.put_file(str(path), target)

    def _fetch(self, ref: ArtifactRef) -> None:
        if not self._remote:
            return
        source = self._remote_path(ref.kind, ref.fingerprint)
        if not self._remote.exists(f"{source}/{MANIFEST}"):
            return
        place = self._folder(ref)
        partial = place.parent / f".{place.name}.{uuid.uuid4().hex[:8]}.tmp"
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._remote.get(source, str(partial), recursive=True)
            if not (place / MANIFEST).exists():
                shutil.rmtree(place, ignore_errors=True)
            _settle(partial, place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file so that a reader, or a crash, sees the old content or the new."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _read_manifest(path: Path) -> Manifest:
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ArtifactCorrupt(f"{path} cannot be read: {error}; delete its folder") from error


def _settle(partial: Path, place: Path) -> None:
    """Gives a finished folder its name, unless another run was first: both hold the same."""
    try:
        partial.rename(place)
    except OSError:
        if not (place / MANIFEST).exists():
            raise


def _describe_files(folder: Path) -> dict[str, StoredFile]:
    return {
        path.relative_to(folder).as_posix(): StoredFile(
            size=path.stat().st_size, sha256=sha256_of_file(path)
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
