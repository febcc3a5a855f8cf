"""Notes on the histories of a dataset: users of one domain only, of several domains by chance, and
users without an order."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts import columns as col
from tasks.dump.append import Histories, event_domains
from tasks.dump.items.item_match import likely_change

ONE_TIME_SHARE = 0.9
"""Minimum share of users whose events all have one time that is reported."""

DENSE = 2
"""Maximum ratio of the largest number to the count of numbered users."""

TRIED = 10_000
"""Users of a domain whose ids are compared with those of another."""


def history_notes(made: Histories, users_in_several_domains: int, exports: int) -> list[str]:
    """Returns all notes; ``exports``: number of exports of one source."""
    if not users_in_several_domains:
        of_users = _lonely_domains(made)
    else:
        of_users = _numbered_users(made.users[col.USER_ID]) if exports > 1 else []
    return [*of_users, *_one_time_per_user(made)]


def _numbered_users(ids: pl.Series) -> list[str]:
    """Returns a note if ids are numbers without large gaps, which other systems use as well."""
    numbers = ids.cast(pl.Int64, strict=False)
    if numbers.null_count() or numbers.is_between(0, DENSE * len(ids)).not_().any():
        return []
    return [
        "user_ids are numbers from 1 on, which users of different systems have in common by "
        "chance: if equal numbers are not the same user in all domains, write a different prefix "
        "before those of each"
    ]


def _lonely_domains(made: Histories) -> list[str]:
    """Returns a note that no user has events in two domains, with the change of ids that would make
    users match."""
    users_of = _users_by_domain(made)
    if len(users_of) < 2:
        return []
    names = made.items[col.DOMAIN].unique(maintain_order=True)
    ids = [_keys(made.users[col.USER_ID].gather(found)) for found in users_of]
    best, place = max(
        (likely_change(ids[0].head(TRIED), other), place) for place, other in enumerate(ids[1:], 1)
    )
    way = "is user_id written alike in all domains?"
    if best.matches:
        way = (
            f"{best.matches:,} of {min(TRIED, ids[0].height):,} users of {names[0]} would be users "
            f"of {names[place]} without {best.what}: use the same user_id in all domains"
        )
    return [
        f"no user has events in more than one domain, so only the items' texts bridge them; {way}"
    ]


def _one_time_per_user(made: Histories) -> list[str]:
    """Returns a note if times do not order the events of most users."""
    lengths = np.diff(made.offsets)
    several = np.flatnonzero(lengths > 1)
    if not len(several) or made.times.min() == made.times.max():  # Reported for the column.
        return []
    first, last = made.offsets[several], made.offsets[several + 1] - 1
    one_time = int((made.times[first] == made.times[last]).sum())  # In order of time.
    if one_time < ONE_TIME_SHARE * len(several):
        return []
    return [
        f"{one_time:,} of {len(several):,} users with several events have them all at one time, so "
        "the order of their events is not known: is timestamp the time of each event?"
    ]


def _users_by_domain(made: Histories) -> list[NDArray[np.int64]]:
    """Returns the users with an event in each domain that has one."""
    domains = event_domains(made.items, made.item_indices)
    users = np.repeat(np.arange(made.users.height), np.diff(made.offsets))
    count = made.items[col.DOMAIN].n_unique()
    return [np.unique(users[domains == domain]) for domain in range(count)]


def _keys(ids: pl.Series) -> pl.DataFrame:
    """Returns ids as `likely_change` compares them."""
    return pl.DataFrame({col.DOMAIN: "", col.ITEM_ID: ids})
