"""History of promotion decisions, from which the served release follows.

``operation/decisions/<number>.json`` in the store. A decision is created conditionally under the
next number: of concurrent writers on any machine, one succeeds and the other retries with the next
number. The pointer ``serving`` follows from the decisions, and is read only in a store without
decisions; `archive` merges old decisions into one file.
"""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import StrEnum

from pydantic import Field, ValidationError

from artifacts.bundles import SERVING
from artifacts.files.durable import write_atomically
from artifacts.manifest import ArtifactRef, digest_of
from artifacts.store import Store
from artifacts.store_notes import (
    FOLDER,
    create_note,
    delete_note,
    note_names,
    read_note,
)
from artifacts.strict import Strict

DECISIONS = "decisions"
BEFORE = "releases.jsonl"
"""File of unnumbered decisions of old stores."""

_UNTIL = "until-"
"""Prefix of archives, followed by the number of the last decision."""


class HistoryDamagedError(RuntimeError):
    """A decision cannot be read or does not match its digest."""


class _ArchivedMeanwhileError(Exception):
    """A listed decision was moved to a newer archive."""


class Decision(StrEnum):
    """Kind of a decision."""

    PROMOTED = "promoted"
    HELD = "held"
    ROLLED_BACK_TO = "rolled back to"


class Entry(Strict):
    """One decision; ``at`` is UTC, ``reason`` a sentence, ``parts`` the artifacts of the release.

    In unnumbered decisions ``number`` is 0, ``digest`` None and ``parts`` empty.
    """

    at: datetime
    release: ArtifactRef
    decision: Decision
    reason: str
    parts: dict[str, ArtifactRef] = Field(default_factory=dict)
    number: int = 0
    digest: str | None = None

    @property
    def serves(self) -> bool:
        return self.decision is not Decision.HELD


def history(store: Store) -> tuple[Entry, ...]:
    """Returns every decision, oldest first.

    Raises:
        HistoryDamagedError: a decision cannot be read; the message has file and remedy.
    """
    while True:
        try:
            archived, names = _archived(store)
            return (*archived, *(_read(store, name) for name in names))
        except _ArchivedMeanwhileError:
            continue


def serving_release(store: Store) -> ArtifactRef | None:
    """Returns the served release, None before the first.

    Raises:
        HistoryDamagedError, ArtifactCorruptError: decisions, or the pointer of an old store, cannot
            be read.
    """
    while True:
        try:
            return _serving(store)
        except _ArchivedMeanwhileError:
            continue


def record_decision(
    store: Store,
    decision: Decision,
    reason: str,
    choose: Callable[[], tuple[ArtifactRef, dict[str, ArtifactRef]]],
) -> ArtifactRef:
    """Writes a decision on the release that ``choose`` returns; returns that release.

    ``choose`` is called again if another decision was written first.
    """
    _begin(store)
    while True:
        number = _last_number(store) + 1
        release, parts = choose()
        entry = Entry(
            at=datetime.now(UTC),
            release=release,
            decision=decision,
            reason=reason,
            parts=parts,
            number=number,
        )
        try:
            create_note(store, f"{DECISIONS}/{number:08d}.json", _document(entry))
        except FileExistsError:
            continue
        if entry.serves:
            _derive_pointer(store)
        return release


def served_in_turn(entries: Iterable[Entry]) -> list[ArtifactRef]:
    """Returns the releases for rollback, the served one last."""
    return [entry.release for entry in _replayed(entries)[0]]


def withdrawn_models(entries: Iterable[Entry]) -> dict[ArtifactRef, Entry]:
    """Returns the models whose releases were rolled back and not promoted afterwards, with the
    decision to roll back."""
    return _replayed(entries)[1]


def _replayed(entries: Iterable[Entry]) -> tuple[list[Entry], dict[ArtifactRef, Entry]]:
    """Returns the promotions for rollback, the served one last, and the withdrawn models."""
    stack: list[Entry] = []
    withdrawn: dict[ArtifactRef, Entry] = {}
    for entry in filter(lambda each: each.serves, entries):
        served = [each.release for each in stack]
        if entry.decision is Decision.PROMOTED and served[-1:] != [entry.release]:
            stack.append(entry)
        elif entry.release in served:
            while stack[-1].release != entry.release:
                if model := stack.pop().parts.get("model"):
                    withdrawn[model] = entry
        if model := entry.parts.get("model"):
            withdrawn.pop(model, None)
    return stack, withdrawn


def archive(store: Store, keep: int) -> int:
    """Merges all but ``keep`` newest decisions into one file; returns how many it added.

    Safe beside writers, readers and concurrent archiving, and under kill: an archive is written
    atomically, and readers skip decisions in it.
    """
    entries = history(store)
    archives, names = _names(store)
    old = names[: max(0, len(names) - keep)]
    if not old:
        return 0
    last = _number(old[-1])
    lines = [_document(entry) + b"\n" for entry in entries if entry.number <= last]
    try:
        create_note(store, f"{DECISIONS}/{_UNTIL}{last:08d}.jsonl", b"".join(lines))
    except FileExistsError:
        return 0
    for name in (*archives, *old):
        delete_note(store, f"{DECISIONS}/{name}")
    return len(old)


def _serving(store: Store) -> ArtifactRef | None:
    archives, names = _names(store)
    for name in reversed(names):
        entry = _read(store, name)
        if entry.serves:
            return entry.release
    if archives:
        for entry in reversed(_archived(store)[0]):
            if entry.serves:
                return entry.release
    return store.pointed(SERVING)


def _begin(store: Store) -> None:
    """Writes the pointer's release of an old store as the first decision."""
    if _last_number(store):
        return
    served = store.pointed(SERVING)
    if served is None or served_in_turn(history(store))[-1:] == [served]:
        return
    first = Entry(
        at=datetime.now(UTC),
        release=served,
        decision=Decision.PROMOTED,
        reason="served when this history began",
        number=1,
    )
    try:
        create_note(store, f"{DECISIONS}/{1:08d}.json", _document(first))
    except FileExistsError:
        return  # Written by another process.


def _derive_pointer(store: Store) -> None:
    """Updates the pointer; rereads decisions, so that the last of concurrent writers sets the
    newest."""
    while (serving := serving_release(store)) is not None:
        store.point(SERVING, serving)
        if serving_release(store) == serving:
            return


def _names(store: Store) -> tuple[list[str], list[str]]:
    """Returns the names of archives, and of decisions after the newest one, by age."""
    names = [name for name in note_names(store, DECISIONS) if _number(name)]
    archives = [name for name in names if name.startswith(_UNTIL)]
    last = _number(archives[-1]) if archives else 0
    single = [name for name in names if not name.startswith(_UNTIL)]
    return archives, [name for name in single if _number(name) > last]


def _last_number(store: Store) -> int:
    archives, names = _names(store)
    return max((_number(name) for name in (*archives, *names)), default=0)


def _number(name: str) -> int:
    """Returns the number of a decision, or the last one of an archive, else 0."""
    stem = name.removeprefix(_UNTIL).partition(".")[0]
    return int(stem) if stem.isdigit() else 0


def _document(entry: Entry) -> bytes:
    facts = entry.model_dump(mode="json", exclude={"digest"})
    return json.dumps(facts | {"digest": digest_of(facts)}, ensure_ascii=False).encode()


def _archived(store: Store) -> tuple[list[Entry], list[str]]:
    """Returns the decisions of the newest archive, and the names of those after it."""
    archives, names = _names(store)
    place = f"{DECISIONS}/{archives[-1]}" if archives else BEFORE
    content = read_note(store, place)
    if archives and content is None:
        raise _ArchivedMeanwhileError
    lines = (content or b"").splitlines()
    where = f"{store.root}/{FOLDER}/{place}"
    return [_parsed(line, f"line {n} of {where}") for n, line in enumerate(lines, 1)], names


def _read(store: Store, name: str) -> Entry:
    """Returns a decision; remote ones are downloaded once."""
    path = store.local / FOLDER / DECISIONS / name
    if store.remote is not None and path.exists():
        try:
            return _parsed(path.read_bytes(), str(path))
        except HistoryDamagedError:
            path.unlink()
    content = read_note(store, f"{DECISIONS}/{name}")
    if content is None:
        raise _ArchivedMeanwhileError
    entry = _parsed(content, f"{store.root}/{FOLDER}/{DECISIONS}/{name}")
    if store.remote is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    return entry


def _parsed(content: bytes, place: str) -> Entry:
    way_out = "delete it, then select the served release by `llm4cdsr promote RELEASE`"
    try:
        entry = Entry.model_validate_json(content)
    except ValidationError as error:
        raise HistoryDamagedError(
            f"{place} is not a decision about a release ({error.errors()[0]['msg']}); {way_out}"
        ) from error
    if entry.digest not in (None, digest_of(json.loads(content))):
        raise HistoryDamagedError(f"{place} was changed after it was written; {way_out}")
    return entry
