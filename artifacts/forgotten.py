"""Forgotten users: recognition of their ids in later dumps without storing the ids.

``operation/forgotten/`` of a store has a secret key, the list of keyed hashes (HMAC-SHA256) of ids,
and a log of removals. Without the key, ids cannot be recovered from the list, even by enumeration.
"""

import hmac
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from pydantic import Field, ValidationError

from artifacts.shown_users import (
    HASHES_NOTE,
    KEY_NOTE,
    UserKeyError,
    hide_user_key,
    made_user_key,
    user_key,
)
from artifacts.store import Store
from artifacts.store_notes import (
    FOLDER,
    NoteDamagedError,
    delete_note,
    read_note,
    write_note,
)
from artifacts.strict import Strict

FORGOTTEN_RULE = "forgotten user"
"""Reason of dropped events in the accounts of ingest."""

LIST = "forgotten"
"""Folder of the list among the notes of a store."""

_LOG, _PENDING = f"{LIST}/log.jsonl", f"{LIST}/pending"


logger = logging.getLogger("llm4cdsr")


class Forgetting(Strict):
    """One removal: end time (UTC), number of requested ids, and counts of removed data."""

    at: datetime
    people: int
    removed: dict[str, int] = Field(default_factory=dict)


class Forgotten:
    """The list of forgotten users of a store; raises `UserKeyError`, `NoteDamagedError`.

    ``any`` is False without forgotten users; ``hashes`` are the keyed hashes of their ids."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.hashes = _listed(store)
        self._key = (user_key(store) if self.hashes else None) or b""

    @property
    def any(self) -> bool:
        return bool(self.hashes)

    def holds(self, user_ids: pl.Series) -> pl.Series:
        """Returns booleans: whether each id belongs to a forgotten user; False for nulls."""
        distinct = user_ids.drop_nulls().unique()
        found = [user for user in distinct if self._hash(user) in self.hashes] if self.any else []
        return user_ids.is_in(found).fill_null(value=False)

    def add(self, user_ids: Iterable[str]) -> None:
        """Adds ids to the list; ingest drops their events from then on."""
        self._key = made_user_key(self._store)
        self.hashes |= {self._hash(user) for user in user_ids}
        write_note(self._store, _PENDING, b"")
        _write_list(self._store, self.hashes)

    def _hash(self, user_id: str) -> str:
        return hmac.digest(self._key, user_id.encode(), "sha256").hex()


def forgettings(store: Store) -> list[Forgetting]:
    """Returns the finished removals, oldest first; services reload the store when their number
    changes."""
    return [_entry(line) for line in (read_note(store, _LOG) or b"").splitlines()]


def is_interrupted(store: Store) -> bool:
    """Returns whether a removal has begun and not ended: artifacts do not fit together then."""
    return read_note(store, _PENDING) is not None


def log_forgetting(
    store: Store, people: int, removed: dict[str, int], *, is_complete: bool = True
) -> None:
    """Logs a removal, without ids, and ends it if it is complete. Services and other machines apply
    logged removals."""
    entry = Forgetting(at=datetime.now(UTC), people=people, removed=removed)
    before = read_note(store, _LOG) or b""
    write_note(store, _LOG, before + entry.model_dump_json().encode() + b"\n")
    if is_complete:
        delete_note(store, _PENDING)


def join_list(store: Store, notes: Path) -> bool:
    """Adds the list of a backup (its folder of notes) to the list of a local store; returns whether
    the backup's artifacts may contain users on the list. If so, the store is in the state of an
    interrupted removal.

    Raises:
        UserKeyError: hashes of both lists exist, of different keys.
        ValidationError: a list is unreadable. Nothing is changed on an error.
    """
    here, theirs = Forgotten(store), _parsed(_content(notes / HASHES_NOTE))
    key, its_key = user_key(store), _content(notes / KEY_NOTE)
    known, other = read_note(store, _LOG) or b"", _content(notes / _LOG) or b""
    lines = sorted(
        {*known.splitlines(), *other.splitlines()},
        key=lambda line: Forgetting.model_validate_json(line).at,
    )
    if its_key and key != its_key:
        if here.any and theirs:
            raise UserKeyError(
                f"the users forgotten in {store.root} cannot be looked for in the backup, because "
                "it is of a store with another key; restore it into another folder"
            )
        if not here.any:
            write_note(store, KEY_NOTE, its_key)
            hide_user_key(store)
    is_due = bool(here.hashes - theirs) or is_interrupted(store) or (notes / _PENDING).exists()
    if is_due:
        write_note(store, _PENDING, b"")
    if hashes := here.hashes | theirs:
        _write_list(store, hashes)
    if lines:
        write_note(store, _LOG, b"".join(line + b"\n" for line in lines))
    return is_due


def _entry(line: bytes) -> Forgetting:
    """Returns a line of the log; a damaged line counts as a removal of unknown time and counts."""
    try:
        return Forgetting.model_validate_json(line)
    except ValidationError:
        logger.warning("a line of the log of removals is damaged (%.60r)", line)
        return Forgetting(at=datetime.fromtimestamp(0, UTC), people=0)


def _listed(store: Store) -> frozenset[str]:
    try:
        return _parsed(read_note(store, HASHES_NOTE))
    except ValidationError as error:
        raise NoteDamagedError(
            f"{store.root}/{FOLDER}/{HASHES_NOTE}, the list of forgotten users, is damaged or of a "
            f"later version ({error.errors()[0]['msg']}); restore it from a backup (`tar -xf "
            f"BACKUP -C STORE {FOLDER}/{HASHES_NOTE}`). Without it, dumps would add forgotten "
            "users again"
        ) from None


def _parsed(content: bytes | None) -> frozenset[str]:
    return frozenset(_Hashes.model_validate_json(content).hashes if content else ())


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _write_list(store: Store, hashes: frozenset[str]) -> None:
    document = _Hashes(hashes=tuple(sorted(hashes)))
    write_note(store, HASHES_NOTE, document.model_dump_json(indent=1).encode())


class _Hashes(Strict):
    hashes: tuple[str, ...] = ()
