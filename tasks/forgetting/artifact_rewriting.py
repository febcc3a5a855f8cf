"""Rewriting of artifacts without the rows of removed users, under the same names.

Users keep their order and are renumbered. Artifacts with user indices are rewritten before their
dataset, whose order they need.
"""

import html
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.drafts import Draft
from artifacts.forgotten import Forgotten
from artifacts.integrity import ArtifactCorruptError, ArtifactError
from artifacts.kinds.arrays import read_arrays, write_arrays
from artifacts.kinds.dataset import (
    EVENT_SCHEMA,
    ITEMS,
    USERS,
    Dataset,
    read_dataset,
    write_dataset,
)
from artifacts.kinds.user_profiles import VECTORS_FILE
from artifacts.manifest import ArtifactRef, Kind, Manifest
from artifacts.rewriting import drop, rewrite
from artifacts.store import Store
from tasks.forgetting.inventory import Inventory

OPERATION = "forgettings"
"""Count of an artifact with the number of the last applied removal."""

REMOVED_PAGE = (
    "<!DOCTYPE html><html lang='en'><meta charset='utf-8'><title>Removed</title>"
    "<p>This page showed people who were forgotten. <code>llm4cdsr retrain</code> makes it again "
    "without them.</p></html>\n"
)
PAGES = frozenset({".html", ".md", ".txt"})


@dataclass
class Removed:
    """Counts of removed data by category, the found users, and what remains, with reasons."""

    counts: dict[str, int] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)
    left: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, count: int = 1) -> None:
        if count:
            self.counts[what] = self.counts.get(what, 0) + count

    def include(self, other: "Removed") -> None:
        """Adds the result of a later removal."""
        self.users |= other.users
        self.left = other.left
        for what, count in other.counts.items():
            self.add(what, count)


@dataclass(frozen=True)
class People:
    """A dataset before rewriting, and the mask of remaining users (users,)."""

    data: Dataset
    stays: np.ndarray

    @property
    def gone(self) -> list[str]:
        return self.data.users[col.USER_ID].filter(pl.Series(~self.stays)).to_list()

    def renumbered(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Returns a table without removed users, with renumbered ``user_index``."""
        index = rows[col.USER_INDEX].to_numpy()
        kept = rows.filter(pl.Series(self.stays[index]))
        place = np.cumsum(self.stays) - 1
        numbers = pl.Series(place[kept[col.USER_INDEX].to_numpy()])
        return kept.with_columns(numbers.cast(rows.schema[col.USER_INDEX]).alias(col.USER_INDEX))


def people_of(
    store: Store, inventory: Inventory, forgotten: Forgotten
) -> dict[ArtifactRef, People]:
    """Returns the datasets with forgotten users."""
    found = {}
    for manifest in inventory.manifests[Kind.DATASET]:
        try:
            data = read_dataset(store, manifest.ref)
        except ArtifactError:
            continue  # Quarantined artifacts are deleted.
        stays = ~forgotten.holds(data.users[col.USER_ID]).to_numpy()
        if not stays.all():
            found[manifest.ref] = People(data, stays)
    return found


def rewrite_all(
    store: Store,
    inventory: Inventory,
    forgotten: Forgotten,
    people: dict[ArtifactRef, People],
    named: re.Pattern[str] | None,
    operation: int,
) -> Removed:
    """Rewrites every artifact with forgotten users; returns the removed data.

    ``named`` finds their ids and hashed names in notes and pages. A dataset with forgotten users
    that an unreadable artifact names stays, with all that has its indices: the indices would no
    longer fit together.
    """
    removed = Removed(users=gone_from(people), left=dict(inventory.left))
    held = inventory.held & people.keys()
    kinds = sorted(Kind, key=lambda kind: kind is Kind.DATASET)  # Datasets last.
    for manifest in (manifest for kind in kinds for manifest in inventory.manifests[kind]):
        if manifest.counts.get(OPERATION) == operation:
            continue  # By an interrupted removal.
        dataset = manifest.parents.get("dataset", manifest.ref)
        if dataset in held:
            removed.left[str(manifest.ref)] = f"it has the user indices of {dataset}"
            continue
        parent = people.get(dataset)
        work = _Rewriting(store, manifest, forgotten, parent, named)
        try:
            if not work.is_needed():
                continue
            if manifest.kind is Kind.CANDIDATES:  # Sampled again with the same seed.
                drop(store, manifest.ref)
            else:
                work.rewrite(operation)
        except ArtifactCorruptError:
            continue  # Quarantined on opening; deleted with the quarantine.
        removed.add(manifest.kind.value)
    return removed


def gone_from(people: dict[ArtifactRef, People]) -> set[str]:
    """Returns the removed ids."""
    return {user for each in people.values() for user in each.gone}


def names_in_text(users: set[str]) -> re.Pattern[str] | None:
    """Returns a pattern that matches the ids as words."""
    if not users:
        return None
    written = {form for user in users for form in (user, html.escape(user), json.dumps(user)[1:-1])}
    listed = "|".join(re.escape(form) for form in sorted(written, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])(?:{listed})(?![\w-])")


@dataclass(frozen=True)
class _Rewriting:
    """Rewriting of one artifact; ``people``: the changed dataset of its user indices, if any."""

    store: Store
    manifest: Manifest
    forgotten: Forgotten
    people: People | None
    named: re.Pattern[str] | None

    def is_needed(self) -> bool:
        if self._notes() != self.manifest.notes:
            return True
        if self.people is not None and self.manifest.kind in (Kind.DATASET, Kind.CANDIDATES):
            return True
        return any(True for _ in self._changed())

    def rewrite(self, operation: int) -> None:
        folder = self.store.path(self.manifest.ref)
        with rewrite(self.store, self.manifest.ref) as draft:
            changed = {path.name: content for path, content in self._changed()}
            for name in self.manifest.files:
                target = draft.path / name
                target.parent.mkdir(parents=True, exist_ok=True)
                match changed.get(name):
                    case None:
                        shutil.copyfile(folder / name, target)
                    case pl.DataFrame() as rows:
                        rows.write_parquet(target)
                    case str() as text:
                        target.write_text(text, "utf-8")
            if self.people is not None:
                self._renumber_arrays(draft)
            draft.notes = self._notes()
            draft.counts[OPERATION] = operation

    def _notes(self) -> list[str]:
        named = self.named
        return [note for note in self.manifest.notes if not (named and named.search(note))]

    def _changed(self) -> Iterator[tuple[Path, pl.DataFrame | str]]:
        """Yields changed tables and pages."""
        folder = self.store.path(self.manifest.ref)
        for name in self.manifest.files:
            path = folder / name
            if path.suffix == ".parquet":
                rows = pl.read_parquet(path, glob=False)
                left = self._without(name, rows)
                if left is not rows:
                    yield path.relative_to(folder), left
            elif path.suffix in PAGES and self.named and self.named.search(_text(path)):
                yield path.relative_to(folder), REMOVED_PAGE

    def _without(self, name: str, rows: pl.DataFrame) -> pl.DataFrame:
        """Returns the table without removed users, or the table itself if unchanged."""
        is_own = self.manifest.kind is Kind.DATASET and name in (USERS, ITEMS)
        if is_own:
            return rows
        if col.USER_INDEX in rows.columns and self.people is not None:
            return self.people.renumbered(rows)
        if col.USER_ID in rows.columns and (gone := self.forgotten.holds(rows[col.USER_ID])).any():
            return rows.filter(~gone)
        return rows

    def _renumber_arrays(self, draft: Draft) -> None:
        assert self.people is not None
        stays = self.people.stays
        if self.manifest.kind is Kind.USER_PROFILES:
            arrays = read_arrays(self.store.path(self.manifest.ref) / VECTORS_FILE)
            kept = {name: array[stays] for name, array in arrays.items()}
            write_arrays(draft.path / VECTORS_FILE, kept)
            draft.counts["users"] = int(stays.sum())
            draft.counts["with_profile"] = int(kept["has_profile"].sum())
        elif self.manifest.kind is Kind.DATASET:
            data = self.people.data
            users = data.users.filter(pl.Series(stays)).drop(col.USER_INDEX)
            users = users.with_row_index(col.USER_INDEX)
            of_who_stays = stays[data.user_of_event]
            columns = zip(
                EVENT_SCHEMA, (data.item_indices, data.timestamps, data.splits), strict=True
            )
            events = pl.DataFrame({name: array[of_who_stays] for name, array in columns})
            write_dataset(draft.path, users, data.items, events)
            draft.counts["users"] = users.height
            draft.counts["events"] = events.height


def _text(path: Path) -> str:
    return path.read_text("utf-8", errors="replace")
