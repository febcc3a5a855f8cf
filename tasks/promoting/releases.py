"""Which releases were served, held back or rolled back, and when: the history of one pointer.

``serving`` names the release in use. Every decision about it is a line of
``operation/releases.jsonl`` in the store, so that `rollback` knows where to go back to.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum

from artifacts.bundles import SERVING
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import ArtifactMissing, Store
from artifacts.store_notes import read_note, write_note
from artifacts.strict import Strict

HISTORY = "releases.jsonl"
FIRST_RUN = "there are none yet: `llm4cdsr run` makes the first"


class NoSuchRelease(LookupError):
    """There is no release to serve: none by that name, or none before the one in use."""


class Decision(StrEnum):
    """What was done with a release."""

    PROMOTED = "promoted"
    HELD = "held"
    ROLLED_BACK_TO = "rolled back to"


class Entry(Strict):
    """One decision; ``at`` is UTC, ``reason`` a sentence."""

    at: datetime
    release: ArtifactRef
    decision: Decision
    reason: str


def history(store: Store) -> tuple[Entry, ...]:
    """Returns every decision, oldest first."""
    lines = (read_note(store, HISTORY) or b"").splitlines()
    return tuple(Entry.model_validate_json(line) for line in lines)


def promote(store: Store, release: ArtifactRef, reason: str) -> None:
    """Serves a release from now on.

    Raises:
        ArtifactMissing: it is not in the store.
    """
    store.manifest(release)
    _first_entry(store)
    store.point(SERVING, release)
    _record(store, release, Decision.PROMOTED, reason)


def hold(store: Store, release: ArtifactRef, reason: str) -> None:
    """Notes that a release was made and is not served."""
    _first_entry(store)
    _record(store, release, Decision.HELD, reason)


def roll_back(store: Store, reason: str = "by hand") -> ArtifactRef:
    """Serves the release before the one in use, and returns it.

    Raises:
        NoSuchRelease: there was none before.
    """
    _first_entry(store)
    served = served_in_turn(history(store))
    if len(served) < 2:
        ways = "`llm4cdsr releases` lists them; `llm4cdsr promote RELEASE` serves any of them"
        raise NoSuchRelease(
            f"{store.root} has served {len(served)} release(s): there is none to go back to. "
            + (ways if served else FIRST_RUN)
        )
    previous = served[-2]
    store.manifest(previous)
    store.point(SERVING, previous)
    _record(store, previous, Decision.ROLLED_BACK_TO, reason)
    return previous


def served_in_turn(entries: Iterable[Entry]) -> list[ArtifactRef]:
    """Returns the releases that a roll-back can walk down, the one in use last."""
    stack: list[ArtifactRef] = []
    for entry in entries:
        if entry.decision is Decision.ROLLED_BACK_TO and entry.release in stack:
            while stack[-1] != entry.release:
                stack.pop()
        elif entry.decision is Decision.PROMOTED and stack[-1:] != [entry.release]:
            stack.append(entry.release)
    return stack


def release_named(store: Store, name: str) -> ArtifactRef:
    """Returns the release whose fingerprint begins with ``name``; raises `NoSuchRelease`."""
    prefix = name.removeprefix(f"{Kind.RELEASE}/")
    known = {entry.release.fingerprint for entry in history(store)}
    known |= {manifest.fingerprint for manifest in store.artifacts(Kind.RELEASE)}
    found = sorted(fingerprint for fingerprint in known if fingerprint.startswith(prefix))
    if len(found) != 1:
        listed = ", ".join(found or sorted(known))
        there = f"known: {listed}" if known else FIRST_RUN
        raise NoSuchRelease(f"{name} names {len(found)} releases of {store.root}; {there}")
    return ArtifactRef(kind=Kind.RELEASE, fingerprint=found[0])


def was_decided(store: Store, parts: dict[str, ArtifactRef]) -> bool:
    """Returns whether a release made from all of ``parts`` was ever promoted or held."""
    for fingerprint in {entry.release.fingerprint for entry in history(store)}:
        release = ArtifactRef(kind=Kind.RELEASE, fingerprint=fingerprint)
        try:
            made_from = store.manifest(release).parents
        except ArtifactMissing:  # Deleted since: it says nothing any more.
            continue
        if parts.items() <= made_from.items():
            return True
    return False


def _first_entry(store: Store) -> None:
    """A store from before the history serves a release that no line tells of."""
    serving = store.pointed(SERVING)
    if serving is not None and read_note(store, HISTORY) is None:
        _record(store, serving, Decision.PROMOTED, "served when this history began")


def _record(store: Store, release: ArtifactRef, decision: Decision, reason: str) -> None:
    entry = Entry(at=datetime.now(UTC), release=release, decision=decision, reason=reason)
    before = read_note(store, HISTORY) or b""
    write_note(store, HISTORY, before + entry.model_dump_json().encode() + b"\n")
