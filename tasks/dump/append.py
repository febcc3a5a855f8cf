"""Merge of a dump with the dataset of the last refresh; common events count once.

Events with equal user, item and second are equal. The earlier dataset has a resolution of seconds,
so its events precede new ones of the same second.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts import columns as col
from artifacts.bundles import REFRESHED, parts_of
from artifacts.kinds.dataset import Dataset, Split
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from tasks.dump.dump_config import ITEM_KEY
from tasks.dump.events.event_numbers import RawEvents
from tasks.dump.fields.time_units import SECOND
from tasks.dump.items.item_reader import ITEM_SCHEMA, index_of, item_rows

ALREADY_THERE = "already in the dataset"


class NothingNewError(Exception):
    """The dump has no new data."""


@dataclass(frozen=True)
class Histories:
    """Kept events by user, with users and items.

    Attributes:
        users: ``user_index, user_id, events``. items: as `Dataset.items`.
        offsets: int64 (users + 1,). item_indices: int32 (events,). splits: int8 (events,).
        times: int64 (events,), microseconds.
    """

    users: pl.DataFrame
    items: pl.DataFrame
    offsets: NDArray[np.int64]
    item_indices: NDArray[np.int32]
    times: NDArray[np.int64]
    splits: NDArray[np.int8]


def event_domains(items: pl.DataFrame, indices: NDArray[np.int32]) -> NDArray[np.int64]:
    """Returns the domain number of each event."""
    sizes = items.group_by(col.DOMAIN, maintain_order=True).len()["len"].to_numpy()
    return np.searchsorted(np.cumsum(sizes), indices, side="left")


def previous_dataset(store: Store) -> ArtifactRef | None:
    """Returns the dataset of the last refresh, None before the first."""
    refreshed = store.pointed(REFRESHED)
    return None if refreshed is None else parts_of(store, refreshed)["dataset"]


def append_to(previous: Dataset, events: RawEvents) -> tuple[RawEvents, int]:
    """Returns the previous events followed by new ones of the dump, and the number of repeated
    ones, which are counted in the files' accounts."""
    user_ids = pl.concat([previous.users[col.USER_ID], events.user_ids]).unique().sort()
    earlier_keys = previous.items.select(ITEM_KEY)
    keys = pl.concat([earlier_keys, events.item_keys]).unique().sort(ITEM_KEY)
    earlier = pl.DataFrame(
        {
            "user": _places(previous.users[col.USER_ID], user_ids)[previous.user_of_event],
            "item": _key_places(earlier_keys, keys)[previous.item_indices - 1],
            "time": previous.timestamps * SECOND,
        }
    )
    file_of_event = np.searchsorted(events.ends, np.arange(len(events.times)), side="right")
    added = pl.DataFrame(
        {
            "file": file_of_event.astype(np.uint16),
            "user": _places(events.user_ids, user_ids)[events.users],
            "item": _key_places(events.item_keys, keys)[events.items],
            "time": events.times,
        }
    )
    same = ["user", "item", pl.col("time") // SECOND]
    new = added.join(earlier, on=same, how="anti", maintain_order="left")
    every = pl.concat([earlier, new.select(earlier.columns)])
    met, kept = (
        np.bincount(rows["file"].to_numpy(), minlength=len(events.sources)) for rows in (added, new)
    )
    ends = len(previous.item_indices) + np.cumsum(kept)
    for (account, _), known in zip(events.sources, (met - kept).tolist(), strict=True):
        if account is not None:
            account.drop(ALREADY_THERE, known)
    accounts = [account for account, _ in events.sources]
    merged = RawEvents(
        users=every["user"].to_numpy(),
        items=every["item"].to_numpy(),
        times=every["time"].to_numpy(),
        user_ids=user_ids,
        item_keys=keys,
        sources=(
            (None, len(previous.item_indices)),
            *zip(accounts, ends.tolist(), strict=True),
        ),
    )
    return merged, added.height - new.height


def described_by_both(previous: Dataset, described: pl.DataFrame) -> pl.DataFrame:
    """Returns the metadata of all items; new metadata take precedence, and fields that they lack
    keep their earlier values."""
    known = item_rows(previous.items).select(list(ITEM_SCHEMA))
    now = described.select(list(ITEM_SCHEMA))
    fields = [name for name in ITEM_SCHEMA if name not in ITEM_KEY]
    completed = now.join(known, on=ITEM_KEY, how="left", maintain_order="left").select(
        *ITEM_KEY, *(pl.coalesce(name, f"{name}_right") for name in fields)
    )
    earlier = known.join(now, on=ITEM_KEY, how="anti")
    return pl.concat([completed.select(list(ITEM_SCHEMA)), earlier])


def changes(previous: Dataset, now: Histories, is_new: NDArray[np.bool_]) -> dict[str, int]:
    """Returns the counts of changes. ``profiles_to_change``: users with changed training events,
    whose profiles are requested again if items keep their clusters."""
    return {
        "events_before": len(previous.item_indices),
        "new_events": int(np.count_nonzero(is_new)),
        "new_users": now.users.join(previous.users, on=col.USER_ID, how="anti").height,
        "new_items": now.items.join(previous.items, on=ITEM_KEY, how="anti").height,
        "profiles_to_change": int(np.count_nonzero(users_training_on_others(previous, now))),
    }


def users_training_on_others(previous: Dataset, now: Histories) -> NDArray[np.bool_]:
    """Returns the mask of users (users,) with changed training events."""
    count = now.users.height
    train = now.splits == Split.TRAIN
    users = np.repeat(np.arange(count), np.diff(now.offsets))[train]
    items = now.item_indices[train]

    trained = previous.splits == Split.TRAIN
    place = _places(previous.users[col.USER_ID], now.users[col.USER_ID], absent=count)
    earlier_users = place[previous.user_of_event[trained]]
    index = index_of(previous.items.select(ITEM_KEY), now.items)
    earlier_items = index[previous.item_indices[trained] - 1]

    lengths = np.bincount(users, minlength=count)
    changed = lengths != np.bincount(earlier_users, minlength=count + 1)[:count]
    as_long = np.append(~changed, False)
    mine, theirs = as_long[users], as_long[earlier_users]
    changed[users[mine][items[mine] != earlier_items[theirs]]] = True
    return changed


def _places(texts: pl.Series, among: pl.Series, absent: int = 0) -> NDArray[np.uint32]:
    """Returns the index of every text in a series of distinct ones."""
    order = pl.DataFrame({"text": among}).with_row_index("place")
    found = pl.DataFrame({"text": texts}).join(order, "text", "left", maintain_order="left")
    return found["place"].fill_null(absent).cast(pl.UInt32).to_numpy()


def _key_places(keys: pl.DataFrame, among: pl.DataFrame) -> NDArray[np.uint32]:
    order = among.with_row_index("place")
    found = keys.join(order, ITEM_KEY, "left", maintain_order="left")
    return found["place"].cast(pl.UInt32).to_numpy()
