"""Copies of a remote store on this machine, after users were removed from the store.

Before a machine uses its copies again, it deletes those that differ from the store, the answers
about removed users in its ledger, and temporary files.
"""

import hmac
import logging
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from artifacts.files.durable import write_atomically
from artifacts.files.leftovers import APPLIED, clear_leftovers, delete_tree
from artifacts.files.ownership import locked
from artifacts.files.private_files import keep_private
from artifacts.forgotten import forgettings
from artifacts.ledger.answers import Role
from artifacts.ledger.claims import recover_claims
from artifacts.ledger.ledger import Ledger
from artifacts.ledger.removal import all_keys, remove
from artifacts.manifest import MANIFEST, ArtifactRef, Kind
from artifacts.shown_users import made_user_key, user_key
from artifacts.store import Store
from artifacts.store_notes import read_note, write_note

_KEYS_NOTE = "forgotten/ledger-keys.txt"
"""Keyed hashes of the ledger's keys of removed prompts: a key is a hash of a person's titles."""

logger = logging.getLogger("llm4cdsr")


def catch_up(store: Store) -> None:
    """Applies removals of users by other machines to this machine's copies; no effect on a local
    store. Runs of this machine must not have begun before the removal."""
    if store.remote is None:
        return
    keep_private(store.local)
    (store.local / "work").mkdir(parents=True, exist_ok=True)
    count = len(forgettings(store))
    with locked(store.local / "work" / f".{APPLIED}.lock"):
        applied = store.local / "work" / APPLIED
        if count == _number_in(applied):
            return
        files = drop_outdated(store)
        if count:
            rows = remove_noted(store)
            files += clear_leftovers(store.local) + _empty_logs(store)
            logger.info(
                "users were removed from %s; %d copies and %d rows of the ledger of this machine "
                "are deleted",
                store.root,
                files,
                rows,
            )
        mark_applied(store)


def mark_applied(store: Store) -> None:
    """Notes that all finished removals are applied to this machine's copies."""
    content = str(len(forgettings(store))).encode()
    write_atomically(store.local / "work" / APPLIED, content)


def drop_outdated(store: Store) -> int:
    """Deletes copies of artifacts that the remote store does not have in this version; returns
    their number."""
    assert store.remote is not None
    dropped = 0
    for kind in Kind:
        for folder in (store.local / kind).glob("[!.]*"):
            manifest = folder / MANIFEST
            here = manifest.read_bytes() if manifest.is_file() else None
            there = store.remote.manifest(ArtifactRef(kind=kind, fingerprint=folder.name))
            if here is None or here != there:
                delete_tree(folder)
                dropped += 1
    return dropped


def note_removed(store: Store, keys: Iterable[str]) -> None:
    """Notes the ledger's keys of removed prompts for other machines."""
    secret = made_user_key(store)
    known = _noted(store) | {_hash(secret, key) for key in keys}
    write_note(store, _KEYS_NOTE, "\n".join(sorted(known)).encode())


def remove_noted(store: Store) -> int:
    """Deletes the noted prompts from this machine's ledger; returns the number of rows."""
    noted, secret = _noted(store), user_key(store)
    gone = 0
    for role in Role:
        ledger = Ledger(store.local, role)
        ledger.recover()
        recover_claims(ledger)
        if noted and secret is not None:
            keys = all_keys(ledger)
            found = pl.Series([_hash(secret, key) in noted for key in keys], dtype=pl.Boolean)
            gone += remove(ledger, keys.filter(found))
    return gone


def _number_in(applied: Path) -> int:
    """Returns a noted count, 0 where the file is damaged: removals may be applied twice."""
    try:
        return int(applied.read_bytes())
    except (FileNotFoundError, ValueError):
        return 0


def _noted(store: Store) -> set[str]:
    return set((read_note(store, _KEYS_NOTE) or b"").decode().split())


def _hash(secret: bytes, key: str) -> str:
    return hmac.digest(secret, b"ledger:" + key.encode(), "sha256").hex()[:32]


def _empty_logs(store: Store) -> int:
    """Empties this machine's logs, in place, because a server may have one open."""
    logs = [path for path in (store.local / "work" / "logs").rglob("*") if path.is_file()]
    for path in logs:
        path.write_bytes(b"")
    return len(logs)
