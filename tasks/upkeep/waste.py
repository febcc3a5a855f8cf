"""Unneeded files of a store: artifacts, and leftovers of killed runs and old inputs."""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from artifacts.drafts import DRAFT_LOCK
from artifacts.files.leftovers import SET_ASIDE, TRASH, UNPACKED
from artifacts.files.ownership import if_abandoned
from artifacts.integrity import ArtifactError, ArtifactNewerError
from artifacts.manifest import MANIFEST, ArtifactRef, Kind
from artifacts.store import Store
from tasks.frame.training_sources import SOURCES, TRAININGS, is_replaced
from tasks.upkeep.needed import Keep
from tasks.upkeep.usage import size_of

_DAY = 86_400.0
_LOG_DAYS = 30.0


@dataclass(frozen=True)
class Waste:
    """An unneeded file or folder; ``kind``: of the artifact or leftover."""

    kind: str
    path: Path
    files: int
    bytes: int
    why: str


def wasted_artifacts(store: Store, needed: Iterable[ArtifactRef]) -> list[Waste]:
    """Returns the unneeded local artifacts, youngest first, so that children precede parents."""
    kept = set(needed)
    found: list[tuple[float, Waste]] = []
    for kind in Kind:
        for folder in (store.local / kind).glob("[!.]*"):
            ref = ArtifactRef(kind=kind, fingerprint=folder.name)
            if ref not in kept and (why := _why_wasted(store, folder, ref)):
                found.append((folder.stat().st_mtime, _waste(kind, folder, why)))
    return [waste for _, waste in sorted(found, key=lambda each: each[0], reverse=True)]


def _why_wasted(store: Store, folder: Path, ref: ArtifactRef) -> str | None:
    if not (folder / MANIFEST).exists():  # Unless it is being downloaded.
        return "it has no manifest" if _is_older(folder, 1) else None
    try:
        store.manifest(ref)
    except ArtifactNewerError:
        return None
    except ArtifactError:
        return "its manifest is damaged"
    return "no release or run needs it"


def leftovers(store: Store, keep: Keep, *, runs: int) -> Iterator[Waste]:
    """Yields other unneeded files, given the number of active ``runs``."""
    local, work = store.local, store.local / "work"
    dead = "its process is dead"
    for path in (local / TRASH).glob("*"):
        yield _waste("trash", path, "a cleaning was killed")
    for lock in _of_every_kind(local, f".*.tmp{DRAFT_LOCK}"):
        with if_abandoned(lock) as is_dead:
            if is_dead:
                draft = lock.with_name(lock.name.removesuffix(DRAFT_LOCK))
                yield from (_waste("draft", path, dead) for path in (draft, lock) if path.exists())
    for draft in _of_every_kind(local, ".*.tmp"):
        if not draft.with_name(f"{draft.name}{DRAFT_LOCK}").exists() and _is_older(draft, 1):
            yield _waste("draft", draft, dead)
    for spool in [*work.glob("spool/*.parquet"), *work.glob("spool/*.new")]:
        with if_abandoned(spool) as is_dead:
            if is_dead and (spool.suffix == ".parquet" or _is_older(spool, 1)):
                yield _waste("spool", spool, dead)
    for path in (local / SET_ASIDE).glob("*"):
        if _is_older(path, keep.days):
            yield _waste("set aside", path, f"quarantined for over {keep.days:g} days")
    for path in work.glob("logs/*.log"):
        if _is_older(path, _LOG_DAYS):
            yield _waste("log", path, f"nothing was written to it for {_LOG_DAYS:g} days")
    if not runs:
        yield from _trainings(store, keep)
        for path in work.glob("tune-*"):
            if _is_older(path, keep.days):
                yield _waste("search", path, f"not continued for {keep.days:g} days")
        for path in work.glob(f"{UNPACKED}*"):
            yield _waste("unpacked backup", path, "its restore was interrupted")
        for path in work.glob("dumps/*"):
            if _is_older(path, keep.days):
                yield _waste("copy of a dump", path, f"it is older than {keep.days:g} days")


def _trainings(store: Store, keep: Keep) -> Iterator[Waste]:
    """Yields leftovers of trainings and cells without an active run."""
    work, going_on = store.local / "work", set[str]()
    for prefix, kind in (("train-", Kind.MODEL), ("cell-", Kind.CELL)):
        for path in work.glob(f"{prefix}*"):
            fingerprint = path.name.removeprefix(prefix)
            if (store.local / kind / fingerprint / MANIFEST).exists():
                yield _waste("checkpoint", path, "its model is made")
            elif is_replaced(store, fingerprint):
                yield _waste("checkpoint", path, "a later refresh has replaced its inputs")
            elif _is_older(path, keep.days):
                yield _waste("checkpoint", path, f"not resumed for {keep.days:g} days")
            else:
                going_on.add(fingerprint)
    for path in [*work.glob(f"{TRAININGS}/*"), *work.glob("cells/*.lock")]:
        if path.name.removesuffix(SOURCES).removesuffix(".lock") not in going_on:
            yield _waste("lock", path, "nobody holds it")


def _of_every_kind(local: Path, pattern: str) -> Iterator[Path]:
    for kind in Kind:
        yield from (local / kind).glob(pattern)


def _is_older(path: Path, days: float) -> bool:
    """Returns whether neither it nor its content was written for the given time."""
    newest = 0.0
    for each in (path, *path.rglob("*")) if path.is_dir() else (path,):
        with suppress(FileNotFoundError):
            newest = max(newest, each.lstat().st_mtime)
    return 0.0 < newest < time.time() - days * _DAY


def _waste(kind: str, path: Path, why: str) -> Waste:
    return Waste(kind, path, *size_of(path), why)
