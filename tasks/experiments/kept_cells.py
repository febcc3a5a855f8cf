"""Finished cells in a folder beside their grid, so that hours of work outlive a store.

A cell costs hours and is a small table of ranks. Kept with the pin that says what it was made from,
it is found again on any machine: a report needs the dumps then, but no language model, no
embeddings and no training. Only a cell that is still missing needs those.
"""

from artifacts.bundles import parts_of
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from tasks.experiments.cell import CellData


def take(store: Store, kept: Store, pointer: str) -> None:
    """Brings what is kept of one dataset into the store: the pin and the facts that reports tell.

    A pin that the store has by itself stays.
    """
    pinned = kept.pointed(pointer)
    if pinned is None or store.pointed(pointer) is not None:
        return
    store.adopt(kept, pinned)
    for part in parts_of(kept, pinned).values():
        store.adopt(kept, part, manifest_only=True)
    store.point(pointer, pinned)


def take_cell(store: Store, kept: Store, cell: ArtifactRef) -> None:
    """Brings one finished cell into the store, where it is kept."""
    if kept.holds(cell):
        store.adopt(kept, cell)


def keep(store: Store, kept: Store, pointer: str, cells: list[ArtifactRef]) -> None:
    """Adds finished cells of one dataset to what is kept."""
    pinned = store.pointed(pointer)
    if pinned is None or not cells:
        return
    kept.adopt(store, pinned)
    for part in parts_of(store, pinned).values():
        kept.adopt(store, part, manifest_only=True)
    for cell in cells:
        kept.adopt(store, cell)
    kept.point(pointer, pinned)


def lacking(store: Store, data: CellData) -> list[ArtifactRef]:
    """Returns what training on a dataset reads and the store does not hold."""
    return [
        ref for ref in (data.dataset, data.tables, *data.profiles.values()) if not store.holds(ref)
    ]
