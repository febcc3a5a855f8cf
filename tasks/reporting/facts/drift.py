"""Data drift since the served release: added events by domain, user and item."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.bundles import parts_of
from artifacts.integrity import ArtifactError
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from tasks.promoting.release_history import serving_release

MOST_EVENTS = 5_000_000
"""Maximum events of a dataset; of larger ones a sample of users is compared."""
BINS = 24
HEAD = 0.2
_EVENT = (col.USER_ID, col.ITEM_ID, col.TIMESTAMP)


@dataclass(frozen=True)
class DomainDrift:
    """Added events of one domain, with its earlier events.

    Shares are None of no events: `share_before` and `share_added` of the events of all domains,
    `by_new_users` and `on_new_items` of the added events, `head_before` and `head_added` those of
    the items that were the most bought fifth before.
    """

    name: str
    before: int
    added: int
    gone: int
    share_before: float | None
    share_added: float | None
    by_new_users: float | None
    on_new_items: float | None
    head_before: float | None
    head_added: float | None


@dataclass(frozen=True)
class DomainVolume:
    """Events of one domain by time, in the earlier data and in these."""

    name: str
    before: tuple[int, ...]
    now: tuple[int, ...]


@dataclass(frozen=True)
class Drift:
    """`moments` are the beginnings of the volumes' spans of time; `one_of` users was compared."""

    since: datetime
    domains: tuple[DomainDrift, ...]
    moments: tuple[datetime, ...]
    volumes: tuple[DomainVolume, ...]
    one_of: int


def drift_since_served(store: Store, dataset: ArtifactRef, data: Dataset) -> Drift | None:
    """Returns the drift since the served release; None for equal data, a first release, or missing
    earlier data."""
    served = serving_release(store)
    if served is None:
        return None
    try:
        before = parts_of(store, served)["dataset"]
        if before == dataset:
            return None
        earlier, since = read_dataset(store, before), store.manifest(before).created
    except (ArtifactError, FileNotFoundError):
        return None
    return drift_between(earlier, data, since)


def drift_between(earlier: Dataset, data: Dataset, since: datetime) -> Drift:
    """Returns the differences by domain; events are the same with the same user, item and time."""
    most = max(len(earlier.timestamps), len(data.timestamps))
    one_of = -(-most // MOST_EVENTS) or 1
    old, new = _events(earlier, one_of), _events(data, one_of)
    added = new.join(old, on=_EVENT, how="anti")
    gone = old.join(new, on=_EVENT, how="anti")
    names = tuple(dict.fromkeys((*data.domains, *earlier.domains)))
    moments, volumes = _volumes(old, new, names)
    return Drift(
        since=since,
        domains=tuple(_of_domain(name, old, added, gone) for name in names),
        moments=moments,
        volumes=volumes,
        one_of=one_of,
    )


def _events(data: Dataset, one_of: int) -> pl.DataFrame:
    """Returns users and items as 64-bit digests of their ids, comparable across datasets."""
    users = data.users[col.USER_ID].hash(0).to_numpy()
    items = data.items.select(pl.struct(col.DOMAIN, col.ITEM_ID).hash(0)).to_series().to_numpy()
    frame = pl.DataFrame(
        {
            col.USER_ID: users[data.user_of_event],
            col.ITEM_ID: items[data.item_indices - 1],
            col.TIMESTAMP: data.timestamps,
            col.DOMAIN: pl.Series(data.domains, dtype=pl.String)[data.domain_of_event.tolist()],
        }
    )
    return frame.filter(pl.col(col.USER_ID) % one_of == 0)


def _of_domain(
    name: str, old: pl.DataFrame, added: pl.DataFrame, gone: pl.DataFrame
) -> DomainDrift:
    before, here = old.filter(domain=name), added.filter(domain=name)
    items = before[col.ITEM_ID].value_counts().sort("count", col.ITEM_ID, descending=True)
    head = items[col.ITEM_ID].head(int(np.ceil(HEAD * items.height)))
    return DomainDrift(
        name=name,
        before=before.height,
        added=here.height,
        gone=gone.filter(domain=name).height,
        share_before=_share(before.height, old.height),
        share_added=_share(here.height, added.height),
        by_new_users=_mean(~here[col.USER_ID].is_in(old[col.USER_ID].unique().implode())),
        on_new_items=_mean(~here[col.ITEM_ID].is_in(items[col.ITEM_ID].implode())),
        head_before=_mean(before[col.ITEM_ID].is_in(head.implode())),
        head_added=_mean(here[col.ITEM_ID].is_in(head.implode())),
    )


def _volumes(
    old: pl.DataFrame, new: pl.DataFrame, names: Sequence[str]
) -> tuple[tuple[datetime, ...], tuple[DomainVolume, ...]]:
    times = pl.concat([old[col.TIMESTAMP], new[col.TIMESTAMP]]).to_numpy()
    if not len(times):
        return (), ()
    edges = np.linspace(times.min(), times.max() + 1, BINS + 1)
    moments = pl.Series(edges[:-1]).cast(pl.Int64)
    shown = pl.from_epoch(moments, time_unit="s").dt.replace_time_zone("UTC").to_list()

    def counted(events: pl.DataFrame, name: str) -> tuple[int, ...]:
        found = np.histogram(events.filter(domain=name)[col.TIMESTAMP].to_numpy(), edges)[0]
        return tuple(found.tolist())

    volumes = tuple(DomainVolume(name, counted(old, name), counted(new, name)) for name in names)
    return tuple(shown), volumes


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(holds: pl.Series) -> float | None:
    return float(holds.mean()) if len(holds) else None  # pyright: ignore[reportArgumentType]
