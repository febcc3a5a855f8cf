"""Checks of the store: disk space, permissions, served release, leftovers."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from artifacts.bundles import parts_of
from artifacts.files.leftovers import BEFORE_RESTORE, SET_ASIDE
from artifacts.integrity import ArtifactError, shape_fault_of
from artifacts.ledger.answers import Role
from artifacts.machines.store_in_use import interruption
from artifacts.manifest import SCHEMA_VERSIONS, ArtifactRef, Kind
from artifacts.store import Store
from flows.cli.diagnosis.finding import Finding, error, ok, warning
from flows.cli.errors.machine_faults import ADVICE
from tasks.promoting.release_history import HistoryDamagedError, serving_release
from tasks.upkeep.cleaning import clean
from tasks.upkeep.needed import Keep

LEAST_FREE = 2 << 30
FULL = 100 << 20
"""With fewer free bytes a run fails, and Prefect's database records nothing."""

LARGE_WASTE = 1 << 30
RENEW = "`llm4cdsr retrain` makes it with this version"
VERIFY = "`llm4cdsr store verify` reads everything"

_MADE_OF_ANSWERS = {
    Role.CHAT: (Kind.USER_PROFILES, "with_profile"),
    Role.EMBEDDING: (Kind.ITEM_EMBEDDINGS, "items"),
}
"""What is made of the answers of a role, and its count in manifests."""


def readable(check: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yields the findings of a check; a file that it cannot read is one of them, so that the checks
    after it run too."""
    try:
        yield from findings
    except OSError as fault:
        yield error(check, str(fault), remedy_of(fault))


def remedy_of(fault: OSError) -> str:
    """Returns the remedy of an error of the operating system."""
    return ADVICE.get(fault.errno or 0, "check the path and the disk")


def place(store: Store) -> Iterator[Finding]:
    """Yields findings about write access and free space."""
    folder = _existing(store.local)
    if (fault := write_fault(store)) is not None:
        found = f"{folder} cannot be written ({fault.strerror})"
        yield error("store", found, remedy_of(fault))
        return
    free = free_bytes(store)
    room = f"{store.root}: {free / 1e9:,.1f} GB free"
    remedy = "`llm4cdsr store usage` shows its use, `llm4cdsr store gc` frees space"
    yield warning("store", room, remedy) if free < LEAST_FREE else ok("store", room)
    yield from _foreign_files(store)


def write_fault(store: Store) -> OSError | None:
    """Returns the error of writing to the store's folder, None if it can be written."""
    try:
        with tempfile.TemporaryFile(dir=_existing(store.local)) as file:
            file.write(b"x")
    except OSError as fault:
        return fault
    return None


def free_bytes(store: Store) -> int:
    """Returns the free bytes of the store's file system."""
    return shutil.disk_usage(_existing(store.local)).free


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.absolute().parents) if each.exists())


def served(store: Store) -> Iterator[Finding]:
    """Yields a finding about the served release; contents of files are not read."""
    if (cut := interruption(store)) is not None:
        yield error("served", cut, "until then runs are refused, and the release may not open")
        return
    try:
        release = serving_release(store)
        fault = None if release is None else fault_of_release(store, release)
    except HistoryDamagedError as damage:
        yield error("served", str(damage), VERIFY)
        return
    if release is None:
        yield ok("served", "nothing yet; `llm4cdsr run` makes the first release")
    elif fault is not None:
        yield error("served", fault, f"`llm4cdsr rollback`, or retrain; {VERIFY}")
    elif earlier := earlier_schemas(store, release):
        yield warning("served", f"{release} is {earlier}", RENEW)
    else:
        yield ok("served", f"{release}; {VERIFY}")


def fault_of_release(store: Store, release: ArtifactRef) -> str | None:
    """Returns a sentence about a part of a release that is missing or has another size than was
    written, None if there is none. Those of a remote store are looked up by their manifests."""
    try:
        for part in (release, *parts_of(store, release).values()):
            manifest = store.manifest(part)
            folder = store.local / part.kind / part.fingerprint
            if store.remote is None and (fault := shape_fault_of(folder, manifest)):
                return f"{part}: {fault}"
    except ArtifactError as fault:
        return str(fault.args[0])
    return None


def earlier_schemas(store: Store, release: ArtifactRef) -> str:
    """Returns the kinds of a sound release that this version makes otherwise, "" if there are
    none. They are read as they are; no run makes them again while the data stay the same."""
    found = {
        f"{part.kind} {manifest.schema_version}, now {SCHEMA_VERSIONS[part.kind]}"
        for part in (release, *parts_of(store, release).values())
        if (manifest := store.manifest(part)).schema_version < SCHEMA_VERSIONS[part.kind]
    }
    return f"of an earlier version (schema of {'; '.join(sorted(found))})" if found else ""


def leftovers(store: Store) -> Iterator[Finding]:
    """Yields findings about leftovers in the store."""
    if not store.local.is_dir() or not os.access(store.local, os.W_OK):
        return
    aside = (store.local / SET_ASIDE).glob("*")
    damaged = [path for path in aside if not path.name.startswith(BEFORE_RESTORE)]
    if damaged:
        found = f"{len(damaged):,} damaged artifact(s) were moved to {store.local / SET_ASIDE}"
        yield warning("store", found, "check the disk; the next run makes them again")
    try:
        waste = clean(store, Keep(), dry_run=True)
    except (HistoryDamagedError, ArtifactError) as fault:
        yield error("store", str(fault.args[0]), "repair it: until then nothing is cleaned")
        return
    kinds = ", ".join(f"{places:,} {kind}" for kind, (places, _, _) in waste.by_kind().items())
    found = f"{waste.bytes / 1e6:,.1f} MB that nothing needs" + (f" ({kinds})" if kinds else "")
    remedy = "`llm4cdsr store gc --dry-run` names it, `llm4cdsr store gc` deletes it"
    has_dead = "draft" in waste.by_kind() or waste.bytes > LARGE_WASTE
    yield warning("leftovers", found, remedy) if has_dead else ok("leftovers", found)


def ledger(store: Store) -> Iterator[Finding]:
    """Yields a finding for each role of which a local store has what answers were made into, and no
    answer."""
    for role, (kind, count) in _MADE_OF_ANSWERS.items():
        folder = store.local / "ledger" / role
        if store.remote is not None or any(folder.glob("part-*")) or any(folder.glob("journal-*")):
            continue
        made = sum(manifest.counts.get(count, 0) for manifest in store.artifacts(kind))
        if made:
            yield warning(
                "ledger",
                f"{folder} has no answers, but the store has {made:,} {kind} made of them: it was "
                "copied without its ledger, or the ledger was deleted",
                "copy it from the other store, or `llm4cdsr restore` a backup; without it a run "
                "with changed data or settings pays for every prompt again",
            )


def _foreign_files(store: Store) -> Iterator[Finding]:
    """Returns files of other users, which may be unreadable and make a run fail."""
    unreadable: list[Path] = []
    for folder, _, names in os.walk(store.local):
        unreadable += [
            Path(folder, name) for name in names if not os.access(Path(folder, name), os.R_OK)
        ]
    if unreadable:
        found = f"{len(unreadable):,} files cannot be read, such as {unreadable[0]}"
        yield error("store", found, "run as the user who made them, or change their owner")
