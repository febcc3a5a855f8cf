"""Comparison of the model on a sample with variants without item texts or user profiles.

All variants are trained on the same events with the same seed and rank the same held-out events.

Dimensions: M measured events or users, V items, k and h widths of the item tables.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts.kinds.ablation import ABLATION_SCHEMA, ALL_EVENTS, FEWEST
from model.config import TriThreadConfig
from model.data.sequences import COLD_TEST, TEST
from model.data.tables import ItemTables, ProfileVectors
from model.network.tri_thread import TriThread
from model.scoring.bootstrap import paired_bootstrap
from model.scoring.cold_domain_metrics import ALL_NDCG, measure_cold
from model.scoring.groups import SHORT_HISTORY, metric_groups
from model.scoring.model_scorer import ModelScorer
from model.scoring.ranking import expected_gains, rank_all
from model.training.processes import alone
from model.training.trainer import fit
from tasks.ablation.sample import Sample

CUTOFF = 10
TEXTS, PROFILES = "item texts", "user profiles"

NEW_TO_DOMAIN = "users new to a domain"
"""Group of users with a withheld domain: NDCG@10 over all their items in it (METHOD 9)."""

GROUPS = {
    "all": ALL_EVENTS,
    "tail items": "tail items",
    "items unseen in training": "items unseen in training",
    f"short histories (up to {SHORT_HISTORY})": "short histories",
}
"""Reported groups of `metric_groups`."""


@dataclass(frozen=True)
class Inputs:
    """Training inputs of one variant."""

    tables: ItemTables
    profiles: ProfileVectors | None
    config: TriThreadConfig


Gains = dict[str, NDArray[np.float64]]
"""(M,) NDCG@10 of each measured event, or user new to a domain, by group."""


@dataclass(frozen=True)
class PairedGains:
    """NDCG@10 of the same events, or users new to a domain, with and without one part."""

    part: str
    group: str
    reference: NDArray[np.float64]  # (M,)
    without: NDArray[np.float64]  # (M,)


def differences(
    sample: Sample,
    whole: Inputs,
    seed: int,
    device: str,
    on_fitted: Callable[[str], None] | None = None,
) -> pl.DataFrame:
    """Returns one row of `ABLATION_SCHEMA` a part and group.

    ``on_fitted`` is called with the name of each variant.

    Raises:
        NothingToLearnError, DivergedError, NanScoreError.
    """
    return table_of(paired_gains(sample, whole, seed, device, on_fitted))


def paired_gains(
    sample: Sample,
    whole: Inputs,
    seed: int,
    device: str,
    on_fitted: Callable[[str], None] | None = None,
) -> list[PairedGains]:
    """Fits the whole model and each variant; returns their gains by part and group.

    The effect of profiles is measured on users with a profile only.
    """
    told = on_fitted or (lambda _: None)
    reference = gains(sample, whole, device)
    told("the whole model")
    found = []
    for part, inputs in ablated(whole, seed).items():
        without = gains(sample, inputs, device)
        told(f"without {part}")
        chosen = _measured_rows(sample, whole.profiles if part == PROFILES else None)
        for group in (*GROUPS.values(), NEW_TO_DOMAIN):
            rows = chosen[group == NEW_TO_DOMAIN] & ~np.isnan(reference[group])
            found.append(PairedGains(part, group, reference[group][rows], without[group][rows]))
    return found


def table_of(paired: list[PairedGains]) -> pl.DataFrame:
    """Returns one row of `ABLATION_SCHEMA` each."""
    return pl.DataFrame([_row(each) for each in paired], schema=ABLATION_SCHEMA, orient="row")


def ablated(whole: Inputs, seed: int) -> dict[str, Inputs]:
    """Returns the variants by removed part; without the profile variant if there are no profiles.

    Without texts every item has a trainable vector, and noise replaces its text in the domain
    bridge and for cold items.
    """
    by_id = {"global_items": "ids", "local_start": "random", "global_correction": False}
    model = whole.config.model.model_copy(update=by_id)
    train = whole.config.train.model_copy(update={"alpha": 0.0})
    config = whole.config.model_copy(update={"model": model, "train": train})
    found = {TEXTS: Inputs(_noise_like(whole.tables, seed), whole.profiles, config)}
    if whole.profiles is not None:
        found[PROFILES] = Inputs(whole.tables, None, whole.config)
    return found


def gains(sample: Sample, inputs: Inputs, device: str) -> Gains:
    """Fits one variant; returns its NDCG@10, NaN for rows outside of the group."""
    process_group = alone(device)
    fitted = fit(
        sample.sequences, inputs.tables, inputs.config, inputs.profiles, process_group=process_group
    )
    return gains_of_model(fitted.model, sample)


def gains_of_model(model: TriThread, sample: Sample) -> Gains:
    """Returns a fitted model's NDCG@10, NaN where a row is not of the group."""
    scorer = ModelScorer(model)
    asked = sample.sequences.prefixes_of_split(TEST)
    values = expected_gains(rank_all(scorer, asked), (CUTOFF,))["NDCG"][CUTOFF]
    masks = metric_groups(asked)
    found = {name: np.where(masks[group], values, np.nan) for group, name in GROUPS.items()}
    withheld = sample.sequences.prefixes_of_withheld(COLD_TEST)
    found[NEW_TO_DOMAIN] = (
        measure_cold(scorer, withheld).values[ALL_NDCG] if len(withheld) else np.zeros(0)
    )
    return found


def _measured_rows(
    sample: Sample, profiles: ProfileVectors | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns masks over held-out events and over users new to a domain."""
    asked = sample.sequences.prefixes_of_split(TEST).users
    new = np.unique(sample.sequences.prefixes_of_withheld(COLD_TEST).users)
    if profiles is None:
        return np.ones(len(asked), bool), np.ones(len(new), bool)
    return profiles.has_profile[asked], profiles.has_profile[new]


def _row(paired: PairedGains) -> tuple[object, ...]:
    count = len(paired.reference)
    if count < FEWEST:
        return (paired.part, paired.group, count, None, None, None, None, None)
    (compared,) = paired_bootstrap(paired.reference, paired.without[:, None])
    means = float(paired.reference.mean()), float(paired.without.mean())
    interval = compared.difference, compared.low, compared.high
    return (paired.part, paired.group, count, *means, *interval)


def _noise_like(tables: ItemTables, seed: int) -> ItemTables:
    """Returns random rows with the mean norm of the texts."""
    rng = np.random.default_rng(seed)
    return ItemTables(_noise(tables.global_table, rng), _noise(tables.local_table, rng))


def _noise(table: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    drawn = rng.standard_normal(table.shape, np.float32)
    length = float(np.linalg.norm(table[1:], axis=1).mean())
    drawn *= length / np.linalg.norm(drawn, axis=1, keepdims=True)
    drawn[0] = 0
    return drawn
