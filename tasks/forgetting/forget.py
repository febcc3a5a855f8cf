"""Removal of users: ids are listed first, then all their data are deleted from the store.

An interrupted removal is completed by the next one, from the list. No run may write to the store.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from artifacts.drafts import DRAFT_LOCK
from artifacts.files.ownership import if_abandoned
from artifacts.forgotten import Forgotten, forgettings, log_forgetting
from artifacts.leases import cleaning, used_now
from artifacts.ledger.answers import Role
from artifacts.ledger.ledger import Ledger
from artifacts.ledger.removal import remove
from artifacts.manifest import Kind
from artifacts.remote.remote_side import SET_ASIDE
from artifacts.shown_users import hashed_users
from artifacts.store import Store
from artifacts.user_error import UserError
from tasks.forgetting.artifact_rewriting import (
    Removed,
    gone_from,
    names_in_text,
    people_of,
    rewrite_all,
)
from tasks.forgetting.person_prompts import keys_about

TRASH = ".trash"
"""Folder of artifacts before their deletion."""

KEPT_IN_WORK = frozenset({"leases", "logs", "machine"})

NOT_REMOVED = (
    "the weights of models that were fitted to their events: `llm4cdsr refresh`, then `retrain`, "
    "then delete the old releases",
    "metrics over everybody, and counts",
    "the files of your dumps: remove their rows there; until then ingest drops them",
    "copies elsewhere: backups, exports, reports and summaries that were written to other places",
    "what LLM providers have kept, and Prefect's database",
)
"""Data that cannot be removed, with remedies."""


class StoreInUseError(UserError, RuntimeError):
    """A run is writing to the store."""


class RemoteForgettingError(UserError):
    """The store is remote, and other machines have copies."""


def forget(store: Store, user_ids: list[str]) -> Removed:
    """Removes users from a store, and stores keyed hashes of their ids, including unknown ones, for
    later dumps; returns the removed data.

    Raises:
        StoreInUseError, RemoteForgettingError.
    """
    if store.remote is not None:
        raise RemoteForgettingError(
            f"{store.root} is a remote store, whose copies on other machines cannot be changed "
            "from here; forget in a store that is a folder"
        )
    with cleaning(store.local):  # Blocks new runs.
        _refuse_in_use(store)
        return _forget(store, user_ids)


def _forget(store: Store, user_ids: list[str]) -> Removed:
    store.finish_rewrites()
    forgotten = Forgotten(store)
    if forgotten.any and (late := _apply(store, forgotten, set())).users:
        log_forgetting(store, 0, late.counts)  # Completes an interrupted removal.
    forgotten.add(user_ids)
    removed = _apply(store, forgotten, set(user_ids))
    log_forgetting(store, len(set(user_ids)), removed.counts)
    return removed


def _apply(store: Store, forgotten: Forgotten, asked_for: set[str]) -> Removed:
    """Applies the list; datasets are rewritten last, because they identify the users' data."""
    people = people_of(store, forgotten)
    hashed = hashed_users(store)
    users = gone_from(people) | asked_for
    named = names_in_text(users | {hashed.name(user) for user in users})
    lines = _without_names(store.local / "work" / "logs", named)
    answers = {role: 0 for role in Role}
    keys = keys_about(store, people) if people else {}
    for role in Role:
        ledger = Ledger(store.local, role)
        ledger.recover()
        if role in keys:
            answers[role] = remove(ledger, keys[role])
    operation = len(forgettings(store)) + 1
    removed = rewrite_all(store, forgotten, people, named, operation)
    for role, count in answers.items():
        removed.add(f"ledger rows ({role})", count)
    removed.add("copies and half-made things", _clear(store))
    removed.add("log lines", lines)
    return removed


def _refuse_in_use(store: Store) -> None:
    if runs := used_now(store.local)[0]:
        raise StoreInUseError(
            f"{runs:,} run(s) use {store.root} now; wait until they have ended, then forget"
        )
    for path in _locks(store):
        with if_abandoned(path) as is_free:
            if not is_free and path.exists():
                raise StoreInUseError(
                    f"a run is writing to {store.root} ({path.name}); wait until it has ended, "
                    "then forget"
                )


def _locks(store: Store) -> Iterator[Path]:
    """Returns the lock files of processes that make artifacts or send prompts."""
    for kind in Kind:
        yield from (store.local / kind).glob(f".*{DRAFT_LOCK}")
    for pattern in ("journal-*.jsonl", "claim-*.parquet"):
        yield from (store.local / "ledger").glob(f"*/{pattern}")


def _clear(store: Store) -> int:
    """Deletes copies of dumps, checkpoints, spooled rows, abandoned drafts and quarantined files;
    returns their number."""
    work = store.local / "work"
    places = [path for path in work.glob("*") if path.name not in KEPT_IN_WORK]
    places += [path for kind in Kind for path in (store.local / kind).glob(".*")]
    places += [store.local / SET_ASIDE, store.local / TRASH]
    files = 0
    for place in places:
        if place.is_dir() and not place.is_symlink():
            files += sum(path.is_file() for path in place.rglob("*"))
            shutil.rmtree(place)
        elif place.exists():
            files += 1
            place.unlink()
    return files


def _without_names(logs: Path, named: re.Pattern[str] | None) -> int:
    """Removes log lines with removed ids; returns their number."""
    if named is None:
        return 0
    gone = 0
    for path in sorted(logs.rglob("*")):
        if not path.is_file():
            continue
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not named.search(line.decode("utf-8", "replace"))]
        if len(kept) < len(lines):
            with path.open("r+b") as file:  # Rewritten in place, because a server may have it open.
                file.write(b"".join(kept))
                file.truncate()
            gone += len(lines) - len(kept)
    return gone
