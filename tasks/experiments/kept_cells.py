"""Finished cells in a folder beside their grid, independent of a store.

A cell takes hours to make but is a small table of ranks. With the pin of its inputs it can be used
on any machine: reports need the dumps, but no LLM, embeddings or training. Pins are stored as in a
store, ranks in `RankTables`, whose cells share the ranked events.
"""

from pathlib import Path

import polars as pl

from artifacts.bundles import parts_of
from artifacts.kinds.results import RANKS, read_table
from artifacts.manifest import SCHEMA_VERSIONS, ArtifactRef, Identity, Kind
from artifacts.store import Store
from tasks.experiments.cell import CellData, write_ranks
from tasks.experiments.rank_tables import DEEPEST, KeptCell, RankTables

CUT_SHORT = f"taken from kept cells: ranks beyond place {DEEPEST} are not known"


class KeptCells:
    """A folder of finished cells, created on first use."""

    def __init__(self, folder: Path) -> None:
        self._pins = Store(folder)
        self._tables = RankTables(folder)

    def take(self, store: Store, pointer: str) -> None:
        """Copies the pin and report facts of one dataset into the store.

        An existing pin of the store is kept.
        """
        pinned = self._pins.pointed(pointer)
        if pinned is None or store.pointed(pointer) is not None:
            return
        store.adopt(self._pins, pinned)
        for part in parts_of(self._pins, pinned).values():
            store.adopt(self._pins, part, manifest_only=True)
        store.point(pointer, pinned)

    def take_cell(self, store: Store, wanted: Identity) -> None:
        """Copies one kept cell into the store, if missing there.

        Raises:
            DamagedTableError: the kept table cannot be read.
        """
        if store.find(wanted) is not None:
            return
        if self._pins.holds(wanted.ref):  # Older versions kept single cells.
            store.adopt(self._pins, wanted.ref)
            return
        cell = self._tables.find(wanted.fingerprint)
        if cell is None or not _is_of(cell, wanted):
            return
        with store.create(wanted) as draft:
            write_ranks(self._tables.ranks(wanted.fingerprint), draft.path / RANKS)
            draft.counts.update(cell.counts)
            draft.notes.extend((*cell.notes, CUT_SHORT))

    def keep(self, store: Store, pointer: str, cells: list[ArtifactRef]) -> None:
        """Adds finished cells of one dataset.

        Raises:
            DamagedTableError: a kept table cannot be read; it is not changed.
        """
        pinned = store.pointed(pointer)
        if pinned is None or not cells:
            return
        self._pins.adopt(store, pinned)
        for part in parts_of(store, pinned).values():
            self._pins.adopt(store, part, manifest_only=True)
        self._tables.add({ref.fingerprint: ref for ref in cells}, lambda ref: _kept(store, ref))
        self._pins.point(pointer, pinned)


def lacking(store: Store, data: CellData) -> list[ArtifactRef]:
    """Returns the training inputs of a dataset that are missing in the store."""
    return [
        ref for ref in (data.dataset, data.tables, *data.profiles.values()) if not store.holds(ref)
    ]


def _kept(store: Store, ref: ArtifactRef) -> tuple[KeptCell, pl.DataFrame]:
    manifest = store.manifest(ref)
    cell = KeptCell(
        schema_version=manifest.schema_version,
        parameters=manifest.parameters,
        parents=manifest.parents,
        counts=manifest.counts,
        notes=[note for note in manifest.notes if note != CUT_SHORT],
    )
    return cell, read_table(store, ref, RANKS)


def _is_of(cell: KeptCell, wanted: Identity) -> bool:
    """Returns whether the complete key matches, because names may be ambiguous."""
    key = Identity(kind=Kind.CELL, parameters=cell.parameters, parents=cell.parents)
    return key == wanted and cell.schema_version == SCHEMA_VERSIONS[Kind.CELL]
