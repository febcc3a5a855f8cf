"""Removal of users: ids are listed first, then all their data are deleted from the store.

An interrupted removal is completed by the next one, from the list. No run may write to the store.
"""

import re
from contextlib import ExitStack
from pathlib import Path

import polars as pl

from artifacts.files.leftovers import ALERTS, clear_leftovers
from artifacts.forgotten import Forgotten, forgettings, is_interrupted, log_forgetting
from artifacts.leases import cleaning
from artifacts.ledger.answers import Role
from artifacts.ledger.check import verify
from artifacts.ledger.claims import recover_claims
from artifacts.ledger.ledger import open_ledger
from artifacts.ledger.removal import remove
from artifacts.machines.cached_copies import catch_up, drop_outdated, mark_applied, note_removed
from artifacts.machines.store_in_use import refuse_in_use
from artifacts.manifest import ArtifactRef
from artifacts.remote.remote_runs import without_runs
from artifacts.rewriting import finish_rewrites
from artifacts.shown_users import hashed_users
from artifacts.store import Store
from artifacts.store_notes import NoteDamagedError
from tasks.forgetting.artifact_rewriting import (
    People,
    Removed,
    gone_from,
    names_in_text,
    people_of,
    rewrite_all,
)
from tasks.forgetting.inventory import Inventory, take_inventory
from tasks.forgetting.person_prompts import keys_about

NOT_REMOVED = (
    "the weights of models that were fitted to their events: `llm4cdsr refresh`, then `retrain`, "
    "then delete the old releases",
    "metrics over all users, and counts",
    "the files of your dumps: remove their rows there; until then ingest drops them",
    "copies elsewhere: backups, exports, reports and summaries that were written to other places",
    "copies of a remote store on other machines, until each machine's next run or service reload; "
    "earlier versions of objects, if the bucket keeps them",
    "prompts from data sets that were deleted before (`store gc`)",
    "data kept by LLM providers, and Prefect's database",
)
"""Data that cannot be removed, with remedies."""


class IncompleteRemovalError(Exception):
    """Artifacts remain that this version, or this machine, cannot read. ``removed`` is the rest."""

    def __init__(self, removed: Removed) -> None:
        count = len(removed.left)
        place, reason = next(iter(removed.left.items()))
        super().__init__(
            f"{count:,} artifact{'' if count == 1 else 's'} may still have data of these users: "
            f"{place} ({reason}){'' if count == 1 else ', and others'}. Then repeat `llm4cdsr "
            "forget`; until it is complete, runs are refused"
        )
        self.removed = removed


class UnsearchedLedgerError(Exception):
    """Files of the ledger are damaged, so answers about the users may be in them. Nothing is
    removed: the datasets identify these answers."""

    def __init__(self, trouble: list[str]) -> None:
        count = len(trouble)
        super().__init__(
            f"{count:,} file{'' if count == 1 else 's'} of the ledger cannot be searched for "
            f"answers about these users, so nothing is removed yet: {trouble[0]}"
            f"{'' if count == 1 else ', and so on'}. Then repeat `llm4cdsr forget`; until it is "
            "complete, runs are refused"
        )


def forget(store: Store, user_ids: list[str]) -> Removed:
    """Removes users from a store, and stores keyed hashes of their ids, including unknown ones, for
    later dumps; returns the removed data. Without ids, completes an interrupted removal only.

    Other machines' copies of a remote store are changed at their next use (`catch_up`).

    Raises:
        StoreInUseError: a run of this or another machine uses the store.
        IncompleteRemovalError: everything else is removed; runs wait for the rest.
        NoteDamagedError, UnsearchedLedgerError: nothing is removed; the ids are listed, and runs
            wait for the removal.
    """
    catch_up(store)
    with ExitStack() as alone:
        alone.enter_context(cleaning(store.local))  # Blocks new runs.
        refuse_in_use(store, "forget")
        if store.remote is not None:
            alone.enter_context(without_runs(store.remote))
        removed = _forget(store, user_ids)
    if removed.left and is_interrupted(store):
        raise IncompleteRemovalError(removed)
    return removed


def _forget(store: Store, user_ids: list[str]) -> Removed:
    forgotten = Forgotten(store)
    try:
        _refuse_unreadable(store)
    except (NoteDamagedError, UnsearchedLedgerError):
        if user_ids:
            forgotten.add(user_ids)  # The removal is pending.
        raise
    _take_stock(store)
    late = Removed()
    if forgotten.any:
        late = _apply(store, forgotten, set())
        if late.users or is_interrupted(store):
            # Completes an interrupted removal.
            log_forgetting(store, 0, late.counts, is_complete=not late.left)
    if user_ids:
        forgotten.add(user_ids)
        removed = _apply(store, forgotten, set(user_ids))
        log_forgetting(store, len(set(user_ids)), removed.counts, is_complete=not removed.left)
        late.include(removed)
    if store.remote is not None:
        mark_applied(store)
    return late


def _refuse_unreadable(store: Store) -> None:
    """Raises NoteDamagedError or UnsearchedLedgerError before anything changes."""
    forgettings(store)
    if trouble := [each for role in Role for each in verify(open_ledger(store, role)).trouble]:
        raise UnsearchedLedgerError(trouble)


def _take_stock(store: Store) -> None:
    """Completes what killed processes have left, and gets what other machines have made."""
    finish_rewrites(store)
    if store.remote is not None:
        drop_outdated(store)
        store.remote.relist_all()
    for role in Role:
        ledger = open_ledger(store, role)
        ledger.recover()
        recover_claims(ledger)
        if ledger.shared is not None:
            ledger.shared.push()
            ledger.shared.pull()


def _apply(store: Store, forgotten: Forgotten, asked_for: set[str]) -> Removed:
    """Applies the list; datasets are rewritten last, because they identify the users' data."""
    inventory = take_inventory(store)
    people = people_of(store, inventory, forgotten)
    hashed = hashed_users(store)
    users = gone_from(people) | asked_for
    named = names_in_text(users | {hashed.name(user) for user in users})
    lines = _without_names(store.local / "work" / "logs", named)
    answers = _remove_prompts(store, inventory, people) if people else dict.fromkeys(Role, 0)
    operation = len(forgettings(store)) + 1
    removed = rewrite_all(store, inventory, forgotten, people, named, operation)
    for role, count in answers.items():
        removed.add(f"ledger rows ({role})", count)
    alerts = _drop_naming(store.local / "work" / ALERTS, named)
    files = clear_leftovers(store.local, kept=[ALERTS])
    if store.remote is not None:
        files += store.remote.clear_leftovers() + drop_outdated(store)
    removed.add("copies and partial files", files)
    removed.add("log lines", lines)
    removed.add("waiting alerts", alerts)
    return removed


def _remove_prompts(
    store: Store, inventory: Inventory, people: dict[ArtifactRef, People]
) -> dict[Role, int]:
    """Deletes prompts about users from the ledger, answers and vectors included."""
    keys = keys_about(store, inventory, people)
    if store.remote is not None:
        note_removed(store, pl.concat(keys.values()))  # First, so that all machines delete them.
    removed = {}
    for role in Role:
        ledger = open_ledger(store, role)
        removed[role] = remove(ledger, keys[role])
        if ledger.shared is not None:
            removed[role] = max(removed[role], ledger.shared.remove(keys[role]))
    return removed


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


def _drop_naming(folder: Path, named: re.Pattern[str] | None) -> int:
    """Deletes the files of a folder that have removed ids; returns their number."""
    gone = 0
    for path in folder.glob("*"):
        if (
            named is not None
            and path.is_file()
            and named.search(path.read_bytes().decode("utf-8", "replace"))
        ):
            path.unlink()
            gone += 1
    return gone
