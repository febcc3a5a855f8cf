"""The preset that data and time decide: the best that ends in time, never none."""

import pytest

from model.automatic import (
    LARGE,
    MANY_ITEMS,
    SMALL,
    Candidate,
    candidates_for,
    expected_seconds,
    with_changes,
)
from model.config import load_preset

MEASURED = {  # users, batch size -> steps of a whole training (docs/log.md)
    (1_431, 64): 1_000,
    (7_144, 128): 2_000,
    (53_061, 128): 4_000,
}


@pytest.mark.parametrize(("measured", "steps"), MEASURED.items())
def test_whole_trainings_take_about_as_many_steps_as_measured_ones(
    measured: tuple[int, int], steps: int
) -> None:
    assert expected_seconds(*measured, 1, 1 / 1.2) == pytest.approx(steps, rel=0.15)


def test_a_shop_of_millions_has_at_least_a_search_and_a_refit() -> None:
    assert expected_seconds(50_000_000, 128, 1, 1.0) > 4 * 50_000_000 / 128


def test_catalogues_are_divided_where_large_begins() -> None:
    assert candidates_for(MANY_ITEMS - 1) is SMALL
    assert candidates_for(MANY_ITEMS) is LARGE


@pytest.mark.parametrize("candidate", SMALL + LARGE, ids=lambda each: each.label)
def test_candidates_are_presets_that_a_users_own_fields_win_over(candidate: Candidate) -> None:
    own = {"model": {"ensemble_size": 7}, "train": {"alpha": 0.5}}
    made = load_preset(candidate.preset, with_changes(candidate, own))
    assert (made.model.ensemble_size, made.train.alpha) == (7, 0.5)
    plain = load_preset(candidate.preset, with_changes(candidate, {}))
    for section, fields in candidate.overrides.items():
        for name, value in fields.items():
            assert getattr(getattr(plain, section), name) == value
    assert (plain.train.r_drop_weight > 0) == (candidate.passes > 1)
