"""The artifact store: ``root/<kind>/<fingerprint>/`` with data files and a manifest.

Artifacts are immutable. Each is written to a temporary folder, manifest last, then renamed, so
readers never see a partial artifact (DESIGN, decision 1). Only the pointers
(``root/pointers/<name>.json``) change, by atomic replacement. An artifact that does not match its
manifest is moved to ``root/set-aside`` and treated as missing, so its stage makes it again.

A root with a protocol (``s3://bucket/prefix``) uses fsspec: artifacts are made in a local cache and
uploaded, manifest last; reads download missing artifacts to the cache.
"""

import logging
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from artifacts.drafts import Draft, draft_beside, give_name
from artifacts.files.durable import sync_tree, write_atomically
from artifacts.files.leftovers import SET_ASIDE
from artifacts.files.private_files import keep_private, settle
from artifacts.fingerprint import fingerprint_of
from artifacts.integrity import (
    ArtifactCorruptError,
    ArtifactMissingError,
    ArtifactNewerError,
    absent,
    describe_files,
    fault_of,
    parse_manifest,
    way_out,
)
from artifacts.leases import cleaning, note_use, used_now
from artifacts.manifest import (
    MANIFEST,
    SCHEMA_VERSIONS,
    ArtifactRef,
    Identity,
    Kind,
    Manifest,
    document_of,
)
from artifacts.remote.remote_side import RemoteStore
from artifacts.remote.url_credentials import hide_credentials

POINTERS = "pointers"

_NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)

_first_uses = threading.Lock()

logger = logging.getLogger("llm4cdsr")


class Store:
    """Finds, makes and opens artifacts under one root: a local folder or an fsspec URL."""

    def __init__(self, root: str | Path) -> None:
        self.root = hide_credentials(str(root))
        self.remote: RemoteStore | None = None
        if "://" in self.root:
            self.remote = RemoteStore(self.root)
            cache = Path(os.environ.get("LLM4CDSR_CACHE", Path.home() / ".cache" / "llm4cdsr"))
            self.local = cache / fingerprint_of(self.root)
        else:
            self.local = Path(self.root)

    def find(self, identity: Identity) -> ArtifactRef | None:
        """Returns the artifact of this identity, None if it does not exist.

        An artifact with missing or damaged files is treated as missing.
        """
        return identity.ref if self.holds(identity.ref) else None

    @contextmanager
    def create(self, identity: Identity) -> Iterator[Draft]:
        """Yields a draft; committed at the end of the block, discarded on an error."""
        keep_private(self.local)
        place = self._folder(identity.ref)
        note_use(self.local, str(identity.ref))
        with draft_beside(place) as draft:
            yield draft
            self._commit(identity, draft, place)

    def manifest(self, ref: ArtifactRef, *, also_unlisted: bool = False) -> Manifest:
        """Returns an artifact's manifest, without downloading its files.

        ``also_unlisted``: also that of an artifact that cleaning has unlisted, which stays so.

        Raises:
            ArtifactMissingError: there is none.
            ArtifactCorruptError: it is unreadable, or not that of this artifact.
        """
        try:
            return self._manifest(ref)
        except ArtifactNewerError:
            raise
        except ArtifactMissingError:
            content = self.remote.unlisted(ref) if also_unlisted and self.remote else None
            if content is None:
                raise
            return parse_manifest(content, ref, f"the unlisted manifest of {ref}")
        except ArtifactCorruptError as error:
            raise ArtifactCorruptError(
                f"{error}; delete its folder, then {way_out(ref.kind)}"
            ) from error

    def path(self, ref: ArtifactRef) -> Path:
        """Returns the local folder of an artifact; files are checked on the first open.

        Raises:
            ArtifactMissingError: there is none.
            ArtifactCorruptError: it is damaged; it is quarantined, and the message has the remedy.
        """
        return self._opened(ref, full=False)

    def verify(self, ref: ArtifactRef) -> None:
        """Checks the SHA-256 of every file of an artifact; raises as `path`."""
        self._opened(ref, full=True)

    def holds(self, ref: ArtifactRef) -> bool:
        """Returns whether an artifact exists and is sound. A damaged one is quarantined.

        For remote artifacts outside of the cache, sizes are checked; contents are checked on
        download.
        """
        self._note_use(ref)
        try:
            manifest = self._manifest(ref, relist=True)
        except ArtifactMissingError:
            return False
        except ArtifactNewerError as error:
            logger.warning("%s", error)
            return False
        except ArtifactCorruptError as error:
            logger.warning("%s%s", error, self.set_aside(ref))
            return False
        gone = absent(self._folder(ref), manifest)
        fault = None if gone else fault_of(self._folder(ref), manifest)
        if not gone and fault is None:
            return True
        if fault is not None:
            logger.warning("%s%s", fault, self.set_aside(ref))
        elif len(gone) < len(manifest.files):
            logger.warning(
                "%s of %s is missing, so the artifact counts as missing", ", ".join(gone), ref
            )
        return self.remote is not None and self.remote.is_whole(ref, self.remote.manifest(ref))

    def set_aside(self, ref: ArtifactRef) -> str:
        """Quarantines a damaged artifact; returns its new path, as the end of a sentence."""
        place = self.local / SET_ASIDE / f"{ref.kind}-{ref.fingerprint}-{uuid.uuid4().hex[:8]}"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            self._folder(ref).rename(place)
        except OSError as error:
            return f"; it could not be moved ({error})"
        os.utime(place, follow_symlinks=False)  # The retention period starts now.
        return f"; it was moved to {place}"

    def adopt(self, other: "Store", ref: ArtifactRef, manifest_only: bool = False) -> None:
        """Copies an artifact of another store; an existing sound one is kept.

        With ``manifest_only`` its metadata can be read here, but it is treated as missing. Raises
        `ArtifactMissingError` if the other store does not have it, `ArtifactCorruptError` as
        `path`.
        """
        place = self._folder(ref)
        manifest = other.manifest(ref)
        if self.holds(ref) or (manifest_only and (place / MANIFEST).exists()):
            return
        with draft_beside(place) as draft:
            if not manifest_only:
                source = other.path(ref)
                for name in manifest.files:
                    (draft.path / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source / name, draft.path / name)
            self._publish(manifest.model_copy(update={"upload": ""}), draft.path, manifest_only)

    def artifacts(self, kind: Kind) -> list[Manifest]:
        """Returns the manifests of one kind, oldest first; damaged ones are logged.

        Includes those of other machines in a remote store.
        """
        names = {path.parent.name for path in (self.local / kind).glob(f"[!.]*/{MANIFEST}")}
        if self.remote is not None:
            names.update(self.remote.fingerprints(kind))
        found = []
        for name in names:
            try:
                found.append(self.manifest(ArtifactRef(kind=kind, fingerprint=name)))
            except ArtifactMissingError:  # Deleted in the meantime, or an incomplete upload.
                continue
            except ArtifactCorruptError as error:
                logger.warning("%s", error)
        return sorted(found, key=lambda manifest: manifest.created)

    def point(self, name: str, ref: ArtifactRef) -> None:
        """Sets the pointer ``name`` (for example "refreshed") to this artifact, atomically."""
        path = self._pointer(name)
        content = ref.model_dump_json().encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
        if self.remote is not None:
            self.remote.write(content, POINTERS, path.name)

    def pointed(self, name: str) -> ArtifactRef | None:
        """Returns the target of the pointer ``name``, None if it is not set.

        Raises:
            ArtifactCorruptError: it is unreadable.
        """
        path = self._pointer(name)
        content = self.remote.read(POINTERS, path.name) if self.remote is not None else None
        if content is None:
            if not path.exists():
                return None
            content = path.read_bytes()
        try:
            return ArtifactRef.model_validate_json(content)
        except ValidationError as error:
            raise ArtifactCorruptError(
                f"the pointer {path} cannot be read ({content[:60]!r}); delete it, then run "
                "`llm4cdsr refresh`, or for the served release `llm4cdsr promote RELEASE`"
            ) from error

    def workspace(self, name: str) -> Path:
        """Returns the work folder of a stage, for checkpoints and spooled requests."""
        keep_private(self.local)
        path = self.local / "work" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def drop_workspace(self, name: str) -> None:
        """Deletes the work folder of a finished stage."""
        shutil.rmtree(self.local / "work" / name, ignore_errors=True)

    def _commit(self, identity: Identity, draft: Draft, place: Path) -> None:
        sync_tree(draft.path)
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
            files=describe_files(draft.path),
        )
        self._publish(manifest, draft.path)

    def _publish(self, manifest: Manifest, draft: Path, manifest_only: bool = False) -> None:
        """Writes the manifest of a draft and publishes it, locally and in the remote store.

        An existing sound artifact of another process is kept, so that all readers see the same one.
        """
        ref = manifest.ref
        place = self._folder(ref)
        settle(draft)
        published: Manifest | None = manifest
        if self.remote is not None and not manifest_only:
            published = self.remote.offer(manifest, draft)
        if place.exists() and not self._is_whole_here(ref):
            # Only damaged artifacts are replaced.
            shutil.rmtree(place, ignore_errors=True)
        if published is not None:
            write_atomically(draft / MANIFEST, document_of(published))
            give_name(draft, place)

    def _note_use(self, ref: ArtifactRef) -> None:
        """Records that a run uses an artifact. The first use in a run replaces an outdated copy of
        the remote artifact; later uses keep the copy."""
        if self.remote is None:
            note_use(self.local, str(ref))
            return
        with _first_uses:
            if note_use(self.local, str(ref)):
                self._bring_in_line(self.remote, ref)

    def _bring_in_line(self, remote: RemoteStore, ref: ArtifactRef) -> None:
        """Publishes a sound copy again if the store lacks the artifact or has a damaged one, so
        that artifacts can refer to it; deletes the copy if the store has another version."""
        folder = self._folder(ref)
        try:
            here = (folder / MANIFEST).read_bytes()
        except _NO_FILE:
            return
        there = remote.relisted_manifest(ref)
        if there == here or not self._is_whole_here(ref):
            return
        published = remote.offer(parse_manifest(here, ref, str(folder)), folder)
        if published is not None:
            write_atomically(folder / MANIFEST, document_of(published))
            return
        with cleaning(self.local):
            if str(ref) not in used_now(self.local, elsewhere=True)[1]:
                logger.info("%s was made again in %s; its copy here is deleted", ref, self.root)
                shutil.rmtree(folder)

    def _opened(self, ref: ArtifactRef, *, full: bool) -> Path:
        folder = self._folder(ref)
        self._note_use(ref)
        try:
            manifest = self._manifest(ref, relist=True)
        except ArtifactNewerError:
            raise
        except ArtifactCorruptError as error:
            raise ArtifactCorruptError(
                f"{error}{self.set_aside(ref)}: {way_out(ref.kind)}"
            ) from error
        gone = absent(folder, manifest)
        fault = None if gone else fault_of(folder, manifest, full=full)
        aside = self.set_aside(ref) if fault else ""
        if self.remote is not None and (gone or fault):
            if fault:
                logger.warning("%s%s, and is downloaded again", fault, aside)
            manifest, aside = self._fetch(self.remote, ref), ""
            gone, fault = [], fault_of(folder, manifest, full=full)
        if gone:
            fault = f"{folder / gone[0]} is missing"
        if fault:
            raise ArtifactCorruptError(f"{fault}{aside}: {way_out(ref.kind)}")
        return folder

    def _folder(self, ref: ArtifactRef) -> Path:
        return self.local / ref.kind / ref.fingerprint

    def _pointer(self, name: str) -> Path:
        return self.local / POINTERS / f"{name}.json"

    def _is_whole_here(self, ref: ArtifactRef) -> bool:
        folder = self._folder(ref)
        try:
            manifest = parse_manifest((folder / MANIFEST).read_bytes(), ref, str(folder))
        except (*_NO_FILE, ArtifactCorruptError):
            return False
        return fault_of(folder, manifest) is None

    def _manifest(self, ref: ArtifactRef, *, relist: bool = False) -> Manifest:
        """``relist``: restores the manifest if another machine unlisted the artifact."""
        path = self._folder(ref) / MANIFEST
        try:
            content = path.read_bytes()
        except _NO_FILE as error:
            if not isinstance(error, FileNotFoundError):
                raise ArtifactCorruptError(f"{path} is not a file") from error
            if (remote := self.remote) is None:
                raise self._missing(ref) from None
            content = remote.relisted_manifest(ref) if relist else remote.manifest(ref)
            if content is None:
                raise self._missing(ref) from None
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        return parse_manifest(content, ref, str(path))

    def _fetch(self, remote: RemoteStore, ref: ArtifactRef) -> Manifest:
        """Downloads the files of an artifact; returns their manifest."""
        folder = self._folder(ref)
        while True:
            content = remote.relisted_manifest(ref)
            if content is None:
                raise self._missing(ref)
            manifest = parse_manifest(content, ref, f"{self.root}/{ref}/{MANIFEST}")
            try:
                remote.fetch(manifest, folder)
            except ArtifactCorruptError as error:
                if not remote.set_aside(ref, content):
                    continue  # Made again in the meantime.
                raise ArtifactCorruptError(
                    f"{error}; it was quarantined: {way_out(ref.kind)}"
                ) from error
            write_atomically(folder / MANIFEST, content)
            return manifest

    def _missing(self, ref: ArtifactRef) -> ArtifactMissingError:
        return ArtifactMissingError(f"{ref} is not in {self.root}; run the stage that makes it")
