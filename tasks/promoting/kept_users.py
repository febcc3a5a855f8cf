"""Users of the served release who would lose their recommendations.

An incomplete dump has fewer users or domains, but its model may still rank the others well.
"""

import polars as pl

from artifacts import columns as col
from artifacts.bundles import parts_of
from artifacts.integrity import ArtifactError
from artifacts.kinds.dataset import read_dataset
from artifacts.kinds.results import scan_recommendations
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from tasks.promoting.rematch import LEAST_KNOWN_SHARE, Parts, previous_items


def lost_users(
    store: Store, serving: ArtifactRef, candidate: Parts, least: float
) -> tuple[str, ...]:
    """Returns one sentence per domain of the served release in which less than the share ``least``
    of its users have recommendations in the candidate.

    None for data of another shop: fewer than half of its items are known. None if the served
    release cannot be read.
    """
    try:
        served = parts_of(store, serving)
        now, before = (read_dataset(store, parts["dataset"]) for parts in (candidate, served))
        known = (previous_items(now, before) > 0).mean()
        if known < LEAST_KNOWN_SHARE:
            return ()
        old, new = (_listed(store, parts["recommendations"]) for parts in (served, candidate))
    except ArtifactError:
        return ()
    kept = old.join(new, on=[col.USER_ID, col.DOMAIN], how="semi").group_by(col.DOMAIN).len("kept")
    shares = (
        old.group_by(col.DOMAIN)
        .len("all")
        .join(kept, on=col.DOMAIN, how="left")
        .select(col.DOMAIN, share=pl.col("kept").fill_null(0) / pl.col("all"))
        .filter(pl.col("share") < least)
        .sort(col.DOMAIN)
    )
    return tuple(
        f"of the served release's users in {domain}, {share:.1%} have recommendations, less than "
        f"{least:.1%}; is the dump complete?"
        if domain in now.domains
        else f"the domain {domain} of the served release is not in the data, which have "
        f"{', '.join(now.domains)}; is the dump complete, or was the domain renamed?"
        for domain, share in shares.iter_rows()
    )


def _listed(store: Store, recommendations: ArtifactRef) -> pl.DataFrame:
    """Returns the users with recommendations by domain: ``user_id, domain``."""
    table = scan_recommendations(store, recommendations)
    pairs = table.select(col.USER_ID, pl.col(col.DOMAIN).cast(pl.String)).unique()
    return pairs.collect(engine="streaming")
