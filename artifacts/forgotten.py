"""Forgotten users: recognition of their ids in later dumps without storing the ids.

``operation/forgotten/`` of a store has a secret key, the list of keyed hashes (HMAC-SHA256) of ids,
and a log of removals. Without the key, ids cannot be recovered from the list, even by enumeration.
"""

import hmac
from collections.abc import Iterable
from datetime import UTC, datetime

import polars as pl
from pydantic import Field

from artifacts.shown_users import HASHES_NOTE, made_user_key, user_key
from artifacts.store import Store
from artifacts.store_notes import delete_note, read_note, write_note
from artifacts.strict import Strict

FORGOTTEN_RULE = "forgotten user"
"""Reason of dropped events in the accounts of ingest."""

_LOG, _PENDING = "forgotten/log.jsonl", "forgotten/pending"


class Forgetting(Strict):
    """One removal: end time (UTC), number of requested ids, and counts of removed data."""

    at: datetime
    people: int
    removed: dict[str, int] = Field(default_factory=dict)


class Forgotten:
    """The list of a store; raises `UserKeyError`. ``any`` is False without forgotten users."""

    def __init__(self, store: Store) -> None:
        self._store = store
        content = read_note(store, HASHES_NOTE)
        self._hashes = frozenset(_Hashes.model_validate_json(content).hashes if content else ())
        self._key = (user_key(store) if self._hashes else None) or b""

    @property
    def any(self) -> bool:
        return bool(self._hashes)

    def holds(self, user_ids: pl.Series) -> pl.Series:
        """Returns booleans: whether each id belongs to a forgotten user; False for nulls."""
        distinct = user_ids.drop_nulls().unique()
        found = [user for user in distinct if self._hash(user) in self._hashes] if self.any else []
        return user_ids.is_in(found).fill_null(value=False)

    def add(self, user_ids: Iterable[str]) -> None:
        """Adds ids to the list; ingest drops their events from then on."""
        self._key = made_user_key(self._store)
        self._hashes |= {self._hash(user) for user in user_ids}
        write_note(self._store, _PENDING, b"")
        document = _Hashes(hashes=tuple(sorted(self._hashes)))
        write_note(self._store, HASHES_NOTE, document.model_dump_json(indent=1).encode())

    def _hash(self, user_id: str) -> str:
        return hmac.digest(self._key, user_id.encode(), "sha256").hex()


def forgettings(store: Store) -> list[Forgetting]:
    """Returns the finished removals, oldest first; services reload the store when their number
    changes."""
    lines = (read_note(store, _LOG) or b"").splitlines()
    return [Forgetting.model_validate_json(line) for line in lines]


def is_interrupted(store: Store) -> bool:
    """Returns whether a removal has begun and not ended: artifacts do not fit together then."""
    return read_note(store, _PENDING) is not None


def log_forgetting(store: Store, people: int, removed: dict[str, int]) -> None:
    """Logs a finished removal, without ids, and ends it."""
    entry = Forgetting(at=datetime.now(UTC), people=people, removed=removed)
    before = read_note(store, _LOG) or b""
    write_note(store, _LOG, before + entry.model_dump_json().encode() + b"\n")
    delete_note(store, _PENDING)


class _Hashes(Strict):
    hashes: tuple[str, ...] = ()
