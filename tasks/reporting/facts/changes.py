"""Changes since the served release: data, metrics, recommendations."""

import polars as pl

from artifacts import columns as col
from artifacts.bundles import parts_of
from artifacts.integrity import ArtifactError
from artifacts.kinds.results import scan_recommendations
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from tasks.promoting.release_history import serving_release
from tasks.reporting.facts.content import Change, Changes

_DATASET = ("users", "items", "events")
_METRICS = ("NDCG@10 llm4cdsr", "HR@10 llm4cdsr", "NDCG@10 popularity")
_LISTS = ("coverage", "popular_share", "users_without")
SHOWN_RANK = 10

FIRST = "This is the first release: there is no earlier one to compare with."
EQUAL = "The lists are equal to those of the served release."
LOST = "Not compared with the served release, because one of its artifacts is missing or damaged."
"""Sentences in place of a comparison."""

SHARES = 16
"""Number of groups of users whose lists are compared sequentially, to bound memory."""


def changes_since_served(
    store: Store, dataset: ArtifactRef, metrics: ArtifactRef, recommendations: ArtifactRef
) -> Changes | str:
    """Returns the comparison with the served release, or the reason why there is none."""
    served = serving_release(store)
    if served is None:
        return FIRST
    try:
        before = parts_of(store, served)
        if before["recommendations"] == recommendations:
            return EQUAL
        rows: list[Change] = []
        for names, role, ref in (
            (_DATASET, "dataset", dataset),
            (_METRICS, "metrics", metrics),
            (_LISTS, "recommendations", recommendations),
        ):
            old, new = store.manifest(before[role]).counts, store.manifest(ref).counts
            rows += [Change(name, old.get(name), new.get(name)) for name in names if name in new]
        kept, users = kept_lists(store, before["recommendations"], recommendations)
        return Changes(
            since=store.manifest(served).created,
            same_data=before["dataset"] == dataset,
            rows=tuple(rows),
            kept_share=kept,
            common_users=users,
        )
    except (ArtifactError, FileNotFoundError):
        return LOST


def kept_lists(store: Store, before: ArtifactRef, now: ArtifactRef) -> tuple[float | None, int]:
    """Returns the share of unchanged recommendations of common users, None without such users, and
    their number."""
    key = [col.USER_ID, col.DOMAIN, col.ITEM_ID]
    old, new = (
        scan_recommendations(store, ref).filter(pl.col(col.RANK) <= SHOWN_RANK).select(key)
        for ref in (before, now)
    )
    kept = rows = users = 0
    for share in range(SHARES):
        # A share of the users at a time, to bound the memory of the joins.
        ours = pl.col(col.USER_ID).hash() % SHARES == share
        then, today = (table.filter(ours).collect(engine="streaming") for table in (old, new))
        common = today.join(then, on=col.USER_ID, how="semi")
        rows += common.height
        users += common[col.USER_ID].n_unique()
        kept += common.join(then, on=key, how="semi").height
    return (kept / rows if rows else None), users
