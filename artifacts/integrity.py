"""Integrity checks of artifacts against their manifests: names, links, sizes, digests, fingerprint.

Each file has two digests: xxh3, checked on the first open by a process (gigabytes per second), and
SHA-256, checked before promotion and serving and by `llm4cdsr store verify`.
"""

import hashlib
import json
import stat
from pathlib import Path

import xxhash
from pydantic import JsonValue, ValidationError
from pydantic_core import from_json

from artifacts.manifest import (
    SCHEMA_VERSIONS,
    ArtifactRef,
    Identity,
    Kind,
    Manifest,
    StoredFile,
    digest_of,
)

_READ_BYTES = 1 << 20

_MADE_BY = {
    Kind.CELL: "llm4cdsr experiment",
    **dict.fromkeys(
        (
            Kind.TRAINING_CHOICE,
            Kind.MODEL,
            Kind.CANDIDATES,
            Kind.METRICS,
            Kind.ABLATION,
            Kind.RECOMMENDATIONS,
            Kind.REPORT,
            Kind.RELEASE,
        ),
        "llm4cdsr retrain",
    ),
}

_Signature = tuple[int, int, int, int, int]
_checked: dict[str, tuple[_Signature, str]] = {}
"""State and digest of the files that this process has checked."""


class ArtifactError(Exception):
    """An artifact cannot be read; the message has cause and remedy."""


class ArtifactMissingError(ArtifactError, LookupError):
    """A requested artifact is not in the store."""


class ArtifactCorruptError(ArtifactError, RuntimeError):
    """An artifact's files do not match its manifest."""


class ArtifactNewerError(ArtifactCorruptError):
    """An artifact of a newer version of the product; it is not damaged. ``content``: its
    manifest."""

    def __init__(self, message: str, content: bytes) -> None:
        super().__init__(message)
        self.content = content


def way_out(kind: Kind) -> str:
    """Returns the remedy for a damaged artifact, as the end of a sentence."""
    return f"run `{_MADE_BY.get(kind, 'llm4cdsr refresh')}`, which makes it again"


def parse_manifest(content: bytes, ref: ArtifactRef, place: str) -> Manifest:
    """Returns the manifest of ``ref``; ``place`` is its origin.

    Raises:
        ArtifactCorruptError: it is unreadable, of another artifact, or changed.
        ArtifactNewerError: it is of a newer version.

    The messages name the fault; callers add the remedy.
    """
    newest, version = SCHEMA_VERSIONS[ref.kind], _schema_version(content)
    if version is not None and version > newest:  # Its other fields may be unknown.
        raise ArtifactNewerError(
            f"{place} has schema {version} of {ref.kind}, and this version of llm4cdsr knows "
            f"{newest} at most: install the newer version, or {way_out(ref.kind)}",
            content,
        )
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        said = f"{where}: {first['msg']}" if where else first["msg"]
        raise ArtifactCorruptError(
            f"{place} is not a manifest ({said.removesuffix('.')})"
        ) from error
    if fault := _manifest_fault(manifest, ref, json.loads(content)):
        raise ArtifactCorruptError(f"{place} {fault}")
    return manifest


def sums_of(path: Path) -> StoredFile:
    """Returns size and digests of a file in one pass."""
    sha256, xxh3, size = hashlib.sha256(), xxhash.xxh3_128(), 0
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            sha256.update(block)
            xxh3.update(block)
            size += len(block)
    return StoredFile(size=size, sha256=sha256.hexdigest(), xxh3=xxh3.hexdigest())


def describe_files(folder: Path) -> dict[str, StoredFile]:
    """Returns size and digests of every file below a folder, by relative name."""
    return {
        path.relative_to(folder).as_posix(): sums_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def shape_fault_of(folder: Path, manifest: Manifest) -> str | None:
    """Returns a sentence about a missing file, or one of another size; contents are not read."""
    for name, stored in manifest.files.items():
        if fault := _shape_fault(folder, name, stored):
            return f"{name} {fault}"
    return None


def absent(folder: Path, manifest: Manifest) -> list[str]:
    """Returns the names of a manifest's missing files."""
    return [name for name in manifest.files if not (folder / name).exists()]


def fault_of(folder: Path, manifest: Manifest, *, full: bool = False) -> str | None:
    """Returns a sentence about the first fault of an artifact's files, None if they are sound.

    ``full`` compares the SHA-256 of every file; otherwise xxh3 (if the manifest has it) is compared
    once per process, and again for changed files.
    """
    if folder.is_symlink():
        return f"{folder} is a link"
    for name, stored in manifest.files.items():
        if fault := _file_fault(folder, name, stored, full):
            return f"{folder / name} {fault}"
    return None


def _schema_version(content: bytes) -> int | None:
    try:
        document = from_json(content)
    except ValueError:
        return None
    version = document.get("schema_version") if isinstance(document, dict) else None
    return version if isinstance(version, int) else None


def _manifest_fault(
    manifest: Manifest, ref: ArtifactRef, document: dict[str, JsonValue]
) -> str | None:
    identity = Identity(
        kind=manifest.kind,
        parameters=manifest.parameters,
        parents=manifest.parents,
        outcome=manifest.outcome,
    )
    if manifest.ref != ref:
        return f"is that of {manifest.kind}/{manifest.fingerprint}"
    if identity.fingerprint_at(manifest.schema_version) != ref.fingerprint:
        return "does not have the content that its fingerprint names"
    if manifest.digest not in (None, digest_of(document)):
        return "was changed after it was written"
    return None


def _shape_fault(folder: Path, name: str, stored: StoredFile) -> str | None:
    path = folder / name
    if any(parent.is_symlink() for parent in path.parents if folder in parent.parents):
        return "is behind a link"
    try:
        found = path.lstat()
    except FileNotFoundError:
        return "is gone"
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if found.st_size != stored.size:
        return f"has {found.st_size:,} bytes, not {stored.size:,}"
    return None


def _file_fault(folder: Path, name: str, stored: StoredFile, full: bool) -> str | None:
    if fault := _shape_fault(folder, name, stored):
        return fault
    path = folder / name
    key, checked = str(path.absolute()), (_signature(path), stored.sha256)
    if not full and _checked.get(key) == checked:
        return None
    if full or stored.xxh3 is None:
        sums = sums_of(path)
        is_same = sums.sha256 == stored.sha256 and stored.xxh3 in (None, sums.xxh3)
    else:
        is_same = _xxh3_of(path) == stored.xxh3
    if not is_same:
        return "has other content than was written"
    _checked[key] = checked
    return None


def _xxh3_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def _signature(path: Path) -> _Signature:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
