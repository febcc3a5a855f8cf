"""Names of users in what people see: ids, or keyed hashes (``LLM4CDSR_SHOWN_USERS``).

The secret key of a store (``operation/forgotten/secret.key``) makes the hashes: a user has the same
name in everything of one store, and ids cannot be recovered without the key, even by enumeration.
Data for machines (artifacts, exports, requests by id) keep the ids.
"""

import hmac
import os
import secrets
from dataclasses import dataclass
from enum import StrEnum

from artifacts.files.private_files import SECRET
from artifacts.store import Store
from artifacts.store_notes import FOLDER, create_note, read_note
from artifacts.user_error import InvalidSettingError, UserError

SHOWN_VARIABLE = "LLM4CDSR_SHOWN_USERS"
PREFIX = "hashed-"
"""Start of hashed names; 16 hexadecimal digits follow."""

SHOWN_PARAMETER = "shown_users"
"""Parameter of a report with hashed names; reports with ids do not have it."""

HASHES_NOTE = "forgotten/hashes.json"
KEY_NOTE = f"forgotten/{SECRET}"
_DIGITS = 16


class ShownAs(StrEnum):
    """Values of `SHOWN_VARIABLE`."""

    PLAIN = "plain"
    HASHED = "hashed"


class UserKeyError(UserError, RuntimeError):
    """The key of a store's user hashes is missing or unreadable."""


@dataclass(frozen=True)
class ShownUsers:
    """Names of users; ``key``: of the hashes, None for ids."""

    key: bytes | None = None

    @property
    def are_hashed(self) -> bool:
        return self.key is not None

    def name(self, user_id: str) -> str:
        """Returns the name under which a user is shown."""
        return user_id if self.key is None else f"{PREFIX}{self.digest(user_id).hex()}"

    def digest(self, user_id: str) -> bytes:
        """Returns the 8 bytes of a hashed name."""
        # Differs from the hash in the list of forgotten users, so that the two cannot be matched.
        assert self.key is not None
        return hmac.digest(self.key, b"shown:" + user_id.encode(), "sha256")[: _DIGITS // 2]


BY_ID = ShownUsers()
"""Users are shown by their ids."""


def shown_as() -> ShownAs:
    """Returns the setting of this machine; raises `InvalidSettingError`."""
    given = os.environ.get(SHOWN_VARIABLE, "").strip() or ShownAs.PLAIN
    try:
        return ShownAs(given)
    except ValueError:
        raise InvalidSettingError(
            f"{SHOWN_VARIABLE}={given} is unknown; set {' or '.join(ShownAs)}"
        ) from None


def shown_users(store: Store) -> ShownUsers:
    """Returns the users' names in a store; raises `InvalidSettingError`, `UserKeyError`."""
    return BY_ID if shown_as() is ShownAs.PLAIN else hashed_users(store)


def hashed_users(store: Store) -> ShownUsers:
    """Returns the users' hashed names, also where ids are shown; raises `UserKeyError`."""
    return ShownUsers(made_user_key(store))


def quoted(passage: str) -> str:
    """Returns a passage of an input file for messages; "(hidden)" if users are shown hashed, as it
    may contain an id."""
    return repr(passage) if shown_as() is ShownAs.PLAIN else "(hidden)"


def shown_cause(error: Exception) -> Exception | None:
    """Returns a library's error about an input file; None if users are shown hashed, because it may
    quote a row."""
    return error if shown_as() is ShownAs.PLAIN else None


def user_key(store: Store) -> bytes | None:
    """Returns the key of a store's user hashes, None before its first use.

    Raises:
        UserKeyError: it is missing though there are hashes of forgotten users, or unreadable.
    """
    try:
        key = read_note(store, KEY_NOTE)
    except PermissionError:
        raise UserKeyError(
            f"{_place(store)} belongs to another user; run this as the owner of the store, or set "
            f"{SHOWN_VARIABLE}={ShownAs.PLAIN}"
        ) from None
    if key is None and read_note(store, HASHES_NOTE) is not None:
        raise UserKeyError(
            f"{_place(store)} is missing: unpack it from a backup (`tar -xf BACKUP -C STORE "
            f"{FOLDER}/{KEY_NOTE}`). Without it, dumps would add forgotten users again"
        )
    return key


def made_user_key(store: Store) -> bytes:
    """Returns the key of a store's user hashes, created on first use; raises `UserKeyError`."""
    key = user_key(store)
    while key is None:
        try:
            create_note(store, KEY_NOTE, secrets.token_bytes(32))
            hide_user_key(store)
        except FileExistsError:
            """Created by another process."""
        key = user_key(store)
    return key


def hide_user_key(store: Store) -> None:
    """Denies a reading group access to the key of a local store."""
    if store.remote is None:
        (store.local / FOLDER / KEY_NOTE).chmod(0o600)


def _place(store: Store) -> str:
    return f"{store.root}/{FOLDER}/{KEY_NOTE}"
