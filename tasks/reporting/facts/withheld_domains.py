"""Evaluation of withheld domains (METHOD 9): one rank per withheld item, one row per metric and
direction."""

import numpy as np
import polars as pl

from artifacts.kinds.results import ALL, COLD_DOMAIN, METRIC_SCHEMA
from model.data.sequences import COLD_TEST, IntArray, Prefixes, Sequences
from model.scoring.cold_domain_metrics import ColdGains, cold_gains
from model.scoring.model_scorer import Scorer
from model.scoring.ranking import rank_all
from tasks.promoting.stored_ranks import rank_rows, ranks_of

MetricRow = tuple[str, str, str, str, str, float, int]
"""A row of `METRIC_SCHEMA`."""


def withheld_items(sequences: Sequences, users: IntArray | None = None) -> Prefixes:
    """Returns the withheld test items of all users, or of some."""
    prefixes = sequences.prefixes_of_withheld(COLD_TEST)
    if users is None:
        return prefixes
    return prefixes.select(np.flatnonzero(np.isin(prefixes.users, users)))


def sampled_users(
    sequences: Sequences, most: int | None, seed: int, among: IntArray | None = None
) -> IntArray:
    """Returns the users with a withheld test domain, or those ``among`` them, ascending; at most a
    seeded sample."""
    users = np.unique(sequences.prefixes_of_withheld(COLD_TEST).users) if among is None else among
    if most is None or len(users) <= most:
        return users
    return np.sort(np.random.default_rng(seed).choice(users, most, replace=False))


def ranked(scorer: Scorer, withheld: Prefixes) -> pl.DataFrame:
    """Returns ``user_index, item_index, greater, equal, candidates`` in the order of `withheld`."""
    return rank_rows(rank_all(scorer, withheld), withheld.targets)


def gains_of(ranks: pl.DataFrame, withheld: Prefixes) -> ColdGains:
    """Returns each user's values from the result of `ranked`, in the order of `withheld`."""
    domains = withheld.sequences.domain_of(withheld.targets)
    return cold_gains(ranks_of(ranks, domains), withheld)


def groups_of(gains: ColdGains, domain_names: tuple[str, ...]) -> dict[tuple[str, str], np.ndarray]:
    """Returns the users (U,) of all directions, of each withheld domain, and of each direction, by
    the domain and the group of their rows."""
    directions = np.array(gains.directions(domain_names))
    found = {(ALL, ALL): np.ones(len(gains.users), bool)}
    for number, name in enumerate(domain_names):
        found[name, ALL] = gains.targets == number
    for direction in np.unique(directions).tolist():
        chosen = directions == direction
        found[domain_names[int(gains.targets[chosen][0])], direction] = chosen
    return {key: chosen for key, chosen in found.items() if chosen.any()}


def cold_metrics(gains: dict[str, ColdGains], domain_names: tuple[str, ...]) -> pl.DataFrame:
    """Returns the metrics of several models, rows of `METRIC_SCHEMA`: ``domain`` is the withheld
    one, ``group`` the direction, ``targets`` the number of users."""
    rows: list[MetricRow] = []
    for name, of_model in gains.items():
        for (domain, group), chosen in groups_of(of_model, domain_names).items():
            for metric, values in of_model.values.items():
                value, users = float(values[chosen].mean()), int(chosen.sum())
                rows.append((name, COLD_DOMAIN, domain, group, metric, value, users))
    return pl.DataFrame(rows, schema=METRIC_SCHEMA, orient="row")
