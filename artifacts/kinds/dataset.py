"""The dataset artifact: users, items, and every user's time-ordered sequence.

Sequences are in CSR form: the events of user ``u`` are rows ``offsets[u]:offsets[u + 1]`` of
``events.arrow``, which is memory-mapped without copying (DESIGN, decision 5).
"""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from artifacts import columns as col
from artifacts.manifest import ArtifactRef
from artifacts.store import Store

USERS = "users.parquet"
ITEMS = "items.parquet"
EVENTS = "events.arrow"
DROPPED = "dropped.parquet"
QUARANTINE = "quarantine.parquet"
ACCOUNTS = "accounts.parquet"
"""Counts of kept, dropped and quarantined rows per input file."""

EVENT_SCHEMA = {col.ITEM_INDEX: pl.Int32, col.TIMESTAMP: pl.Int64, col.SPLIT: pl.Int8}


class Split(IntEnum):
    """Split of an event (METHOD 6).

    COLD marks are all events of a user's withheld domain (METHOD 9).
    """

    TRAIN = 0
    VALIDATION = 1
    TEST = 2
    COLD_VALIDATION = 3
    COLD_TEST = 4


@dataclass(frozen=True)
class Dataset:
    """A dataset as read from the store.

    Attributes:
        users: ``user_index, user_id, events``; row ``u`` is user ``u``.
        items: ``item_index, item_id, domain, title, brand, categories, price, description``;
            row ``i`` is item ``i + 1``, grouped by domain.
        domain_starts: int64 (domains + 1,); domain ``d`` holds the item indices
            ``domain_starts[d] + 1 .. domain_starts[d + 1]``.
        offsets: int64 (users + 1,).
        item_indices: int32 (events,). timestamps: int64 (events,), seconds since 1970 UTC.
        splits: int8 (events,), values of `Split`.
    """

    users: pl.DataFrame
    items: pl.DataFrame
    domains: tuple[str, ...]
    domain_starts: np.ndarray
    offsets: np.ndarray
    item_indices: np.ndarray
    timestamps: np.ndarray
    splits: np.ndarray

    @property
    def user_of_event(self) -> np.ndarray:
        """Returns the user index of every event, int64 (events,)."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    @property
    def domain_of_event(self) -> np.ndarray:
        """Returns the domain number of every event, int64 (events,)."""
        return np.searchsorted(self.domain_starts, self.item_indices, side="left") - 1

    def in_domain(self) -> np.ndarray:
        """Returns whether each user has an event in each domain, bool (users, domains)."""
        active = np.zeros((len(self.offsets) - 1, len(self.domains)), bool)
        active[self.user_of_event, self.domain_of_event] = True
        return active

    def train_events(self, first: int = 0, end: int | None = None) -> pl.DataFrame:
        """Returns the training events, the only ones for prompts, clusters and training (METHOD 3).

        Columns ``user_index, item_index, timestamp``, in time order per user; of users ``first ..
        end - 1``, of all without ``end``.
        """
        offsets = self.offsets[first : None if end is None else end + 1]
        rows = slice(offsets[0], offsets[-1])
        events = pl.DataFrame(
            {
                col.USER_INDEX: np.repeat(
                    np.arange(first, first + len(offsets) - 1), np.diff(offsets)
                ),
                col.ITEM_INDEX: self.item_indices[rows],
                col.TIMESTAMP: self.timestamps[rows],
            }
        )
        return events.filter(pl.Series(self.splits[rows] == Split.TRAIN))

    def times_bought(self) -> np.ndarray:
        """Returns the number of training events of each item, int64 (items + 1,)."""
        events = self.item_indices[self.splits == Split.TRAIN]
        return np.bincount(events, minlength=self.items.height + 1)


def write_dataset(
    folder: Path, users: pl.DataFrame, items: pl.DataFrame, events: pl.DataFrame
) -> None:
    """Writes the three tables of a dataset; ``events`` must be sorted by user and time."""
    users.write_parquet(folder / USERS)
    items.write_parquet(folder / ITEMS)
    table = events.select(list(EVENT_SCHEMA)).cast(pl.Schema(EVENT_SCHEMA)).rechunk()
    table.write_ipc(folder / EVENTS, compression="uncompressed")


def read_dataset(store: Store, ref: ArtifactRef) -> Dataset:
    """Opens a dataset; raises `ArtifactMissingError`."""
    folder = store.path(ref)
    users = pl.read_parquet(folder / USERS, glob=False)
    items = pl.read_parquet(folder / ITEMS, glob=False)
    sizes = items.group_by(col.DOMAIN, maintain_order=True).len()
    events = _map_columns(folder / EVENTS)
    return Dataset(
        users=users,
        items=items,
        domains=tuple(sizes[col.DOMAIN].to_list()),
        domain_starts=np.concatenate([[0], sizes["len"].cum_sum().to_numpy()]).astype(np.int64),
        offsets=np.concatenate([[0], users["events"].cum_sum().to_numpy()]).astype(np.int64),
        item_indices=events[col.ITEM_INDEX],
        timestamps=events[col.TIMESTAMP],
        splits=events[col.SPLIT],
    )


def _map_columns(path: Path) -> dict[str, np.ndarray]:
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
    return {
        name: table.column(name).chunk(0).to_numpy(zero_copy_only=True)
        if table.num_rows
        else np.empty(0, table.schema.field(name).type.to_pandas_dtype())
        for name in EVENT_SCHEMA
    }
