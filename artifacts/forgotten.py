"""People who were forgotten: their ids are known again, and kept by nobody.

``operation/forgotten/`` of a store holds a secret key, the list of keyed hashes (HMAC-SHA256) of
ids, and a line for each forgetting. From the list alone no id can be found, not even by trying all
ids that there are; whoever also has the key can try.
"""

import hmac
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime

import polars as pl
from pydantic import Field

from artifacts.files.private_files import SECRET
from artifacts.store import Store
from artifacts.store_notes import FOLDER, create_note, read_note, write_note
from artifacts.strict import Strict

FORGOTTEN_RULE = "forgotten user"
"""Why ingest drops an event."""

_KEY, _LIST, _LOG = f"forgotten/{SECRET}", "forgotten/hashes.json", "forgotten/log.jsonl"


class Forgetting(Strict):
    """One forgetting: when it ended (UTC), how many ids were asked for, and what was removed."""

    at: datetime
    people: int
    removed: dict[str, int] = Field(default_factory=dict)


class Forgotten:
    """The list of a store. ``any`` is False in a store that never forgot anybody."""

    def __init__(self, store: Store) -> None:
        self._store = store
        content = read_note(store, _LIST)
        self._hashes = frozenset(_Hashes.model_validate_json(content).hashes if content else ())
        key = read_note(store, _KEY)
        if self._hashes and key is None:
            raise ForgottenKeyError(
                f"{store.root}/{FOLDER}/{_KEY} is gone, and with it who was forgotten: restore it "
                "from a backup. Without it, dumps would bring these people back"
            )
        self._key = key or b""

    @property
    def any(self) -> bool:
        return bool(self._hashes)

    def holds(self, user_ids: pl.Series) -> pl.Series:
        """Returns whether each id (nulls are no one) is of somebody forgotten, as booleans."""
        distinct = user_ids.drop_nulls().unique()
        found = [user for user in distinct if self._hash(user) in self._hashes] if self.any else []
        return user_ids.is_in(found).fill_null(value=False)

    def add(self, user_ids: Iterable[str]) -> None:
        """Puts ids on the list; from then on no dump brings them."""
        if not self._key:
            try:
                create_note(self._store, _KEY, secrets.token_bytes(32))
                if self._store.remote is None:
                    (self._store.local / FOLDER / _KEY).chmod(0o600)
            except FileExistsError:
                """Another machine has made it."""
            self._key = read_note(self._store, _KEY) or b""
        self._hashes |= {self._hash(user) for user in user_ids}
        document = _Hashes(hashes=tuple(sorted(self._hashes)))
        write_note(self._store, _LIST, document.model_dump_json(indent=1).encode())

    def _hash(self, user_id: str) -> str:
        return hmac.digest(self._key, user_id.encode(), "sha256").hex()


class ForgottenKeyError(RuntimeError):
    """The list of the forgotten cannot be read, because its key is gone."""


def forgettings(store: Store) -> list[Forgetting]:
    """Returns those that ended, oldest first: who has read the store at another number reads it
    again."""
    lines = (read_note(store, _LOG) or b"").splitlines()
    return [Forgetting.model_validate_json(line) for line in lines]


def log_forgetting(store: Store, people: int, removed: dict[str, int]) -> None:
    """Notes that a forgetting has ended, without an id."""
    entry = Forgetting(at=datetime.now(UTC), people=people, removed=removed)
    before = read_note(store, _LOG) or b""
    write_note(store, _LOG, before + entry.model_dump_json().encode() + b"\n")


class _Hashes(Strict):
    hashes: tuple[str, ...] = ()
