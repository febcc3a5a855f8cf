"""Selection of example users, items and pairs of items."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.kinds.dataset import Dataset, Split
from artifacts.kinds.user_profiles import INTEREST, PROFILE, UserProfiles
from artifacts.shown_users import ShownUsers
from tasks.promoting.quality_guards import (
    INDEX_RECALL,
    POPULAR_EVENT_SHARE,
    POPULAR_FRACTION,
    POPULAR_SHARE,
    USERS_WITHOUT,
)
from tasks.reporting.facts.content import (
    Bridge,
    ColdItemAudience,
    ColdItemExample,
    CrossDomainExample,
    DomainCoverage,
    Guards,
    HistoryEvent,
    PartialPreference,
    ProfileExample,
)

EXAMPLES = 4
SHOWN_HISTORY = 12
SHOWN_ITEMS = 5
TYPICAL_HISTORY = (6, 20)
"""Range of lengths of example histories."""


def profile_examples(
    data: Dataset,
    profiles: UserProfiles,
    recommended: pl.LazyFrame,
    labels: Mapping[int, str],
    shown: ShownUsers,
) -> tuple[ProfileExample, ...]:
    """Returns users with a profile, those in several domains first; `labels` name the clusters."""
    readable = profiles.profiles.join(data.users.select(col.USER_ID, "events"), on=col.USER_ID)
    readable = readable.filter(pl.col("events").is_between(*TYPICAL_HISTORY))
    spread = data.in_domain().sum(axis=1)[readable[col.USER_INDEX].to_numpy()]
    chosen = (
        readable.with_columns(pl.Series("spread", spread, pl.Int64))
        .sort("spread", col.USER_INDEX, descending=[True, False])
        .head(EXAMPLES)
    )
    interests = profiles.interests.sort(col.CLUSTER)
    examples = []
    for user, user_id, text in chosen.select(col.USER_INDEX, col.USER_ID, PROFILE).iter_rows():
        history = _history(data, user, seen_by_profile=True)
        own = interests.filter(pl.col(col.USER_INDEX) == user).select(col.CLUSTER, INTEREST)
        examples.append(
            ProfileExample(
                user_id=shown.name(user_id),
                domains=tuple(sorted({event.domain for event in history})),
                history=history,
                partial=tuple(
                    PartialPreference(labels[cluster], interest)
                    for cluster, interest in own.iter_rows()
                ),
                profile=text,
                recommended=_titles_by_domain(recommended, user_id),
            )
        )
    return tuple(examples)


def cross_domain(
    data: Dataset, recommended: pl.LazyFrame, shown: ShownUsers
) -> tuple[CrossDomainExample, ...]:
    """Returns users of one domain, with their recommendations in another."""
    in_domain = data.in_domain()
    lengths = np.diff(data.offsets)
    eligible = (in_domain.sum(axis=1) == 1) & (lengths >= TYPICAL_HISTORY[0])
    examples = []
    for user in np.flatnonzero(eligible)[:EXAMPLES].tolist():
        user_id, domain = data.users[col.USER_ID][user], data.domains[in_domain[user].argmin()]
        titles = _titles_by_domain(recommended, user_id).get(domain, ())
        history = _history(data, user)
        examples.append(CrossDomainExample(shown.name(user_id), history, domain, titles))
    return tuple(examples)


def cold_items(
    data: Dataset, recommended: pl.LazyFrame, shown: ShownUsers
) -> tuple[ColdItemExample, ...]:
    """Returns items without purchases, with users to whom they are recommended."""
    bought = np.zeros(data.items.height + 1, bool)
    bought[data.item_indices] = True
    cold = data.items.filter(pl.Series(~bought[1:]) & pl.col(col.TITLE).is_not_null())
    item, place = [col.DOMAIN, col.ITEM_ID], [col.RANK, col.USER_ID]
    titles = cold.select(pl.col(item).cast(pl.String), col.TITLE)
    placed = recommended.select(*item, *place).join(titles.lazy(), on=item, how="semi")
    best_ranks = placed.group_by(item).agg(pl.col(col.RANK).min())
    first = placed.join(best_ranks, on=[*item, col.RANK], how="semi")
    first = first.group_by(item).agg(pl.col(place).min()).sort(*place, *item).head(EXAMPLES)
    index_of = dict(data.users.select(col.USER_ID, col.USER_INDEX).iter_rows())
    found = first.collect(engine="streaming").join(titles, on=item, maintain_order="left")
    examples = []
    for domain, item_id, title in found.select(*item, col.TITLE).iter_rows():
        ours = (pl.col(col.DOMAIN) == domain) & (pl.col(col.ITEM_ID) == item_id)
        best = recommended.filter(ours).select(place).bottom_k(2, by=place)
        audience = tuple(
            ColdItemAudience(shown.name(user_id), rank, _history(data, index_of[user_id]))
            for rank, user_id in best.collect(engine="streaming").sort(place).iter_rows()
        )
        examples.append(ColdItemExample(title=title, domain=domain, audience=audience))
    return tuple(examples)


def guards(data: Dataset, recommended: pl.LazyFrame, counts: Mapping[str, int | float]) -> Guards:
    """Returns catalogue coverage and the share of popular items; `counts` are those stored with the
    recommendations."""
    sizes = dict(data.items.group_by(col.DOMAIN).len().iter_rows())
    covered = recommended.group_by(col.DOMAIN).agg(
        pl.col(col.ITEM_ID).n_unique(), pl.col(col.RANK).max()
    )
    covered = covered.sort(col.DOMAIN).collect(engine="streaming")
    return Guards(
        list_length=int(covered[col.RANK].max() or 0),  # pyright: ignore[reportArgumentType]
        coverage=tuple(
            DomainCoverage(domain, items, sizes[domain]) for domain, items, _ in covered.iter_rows()
        ),
        popular_slot_share=float(counts[POPULAR_SHARE]),
        popular_event_share=float(counts[POPULAR_EVENT_SHARE]),
        users=data.users.height,
        users_without_recommendations=int(counts[USERS_WITHOUT]),
        popular_fraction=POPULAR_FRACTION,
        index_recall=counts.get(INDEX_RECALL),
    )


def _history(
    data: Dataset, user: int, *, seen_by_profile: bool = False
) -> tuple[HistoryEvent, ...]:
    """Returns the latest events, oldest first; training events only beside a profile."""
    events = slice(int(data.offsets[user]), int(data.offsets[user + 1]))
    items = data.item_indices[events]
    if seen_by_profile:
        items = items[data.splits[events] == Split.TRAIN]
    rows = data.items[(items[-SHOWN_HISTORY:] - 1).tolist()]
    return tuple(
        HistoryEvent(domain, title or f"(no title: {item_id})")
        for domain, title, item_id in rows.select(col.DOMAIN, col.TITLE, col.ITEM_ID).iter_rows()
    )


def _titles_by_domain(recommended: pl.LazyFrame, user_id: str) -> dict[str, tuple[str, ...]]:
    ours = (pl.col(col.USER_ID) == user_id) & (pl.col(col.RANK) <= SHOWN_ITEMS)
    title = pl.coalesce(col.TITLE, col.ITEM_ID).alias(col.TITLE)
    rows = recommended.filter(ours).select(col.DOMAIN, title).collect()
    return {
        str(domain): tuple(part[col.TITLE].to_list())
        for (domain,), part in rows.group_by(col.DOMAIN, maintain_order=True)
    }


BRIDGE_SAMPLE = 3_000
"""Seeded sample of items, of which the closest pairs are shown."""
BRIDGES = 8


def bridges(data: Dataset, vectors: np.ndarray) -> tuple[Bridge, ...]:
    """Returns the closest pairs across domains, with each item in at most one pair."""
    titled = data.items.filter(pl.col(col.TITLE).is_not_null())
    drawn = titled.sample(min(BRIDGE_SAMPLE, titled.height), seed=0).sort(col.ITEM_INDEX)
    chosen = vectors[drawn[col.ITEM_INDEX].to_numpy()]
    unit = chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-12)
    domains = drawn[col.DOMAIN].to_numpy()
    cosines = np.where(domains[:, None] < domains[None, :], unit @ unit.T, -np.inf)
    shown: list[Bridge] = []
    used: set[int] = set()
    best = np.argsort(-cosines, axis=None)[: 50 * BRIDGES]
    titles = drawn[col.TITLE].to_list()
    for left, right in np.stack(np.unravel_index(best, cosines.shape), axis=1).tolist():
        if used & {left, right} or not np.isfinite(cosines[left, right]) or len(shown) == BRIDGES:
            continue
        used |= {left, right}
        shown.append(
            Bridge(
                domains=(str(domains[left]), str(domains[right])),
                titles=(titles[left], titles[right]),
                similarity=float(cosines[left, right]),
            )
        )
    return tuple(shown)
