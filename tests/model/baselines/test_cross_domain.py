"""Two tastes that run through two shops: who has one of them in one shop has it in the other."""

from dataclasses import replace

import numpy as np
import pytest

from model.baselines.cross_domain import Emcdr, EmcdrConfig, JointFactors
from model.baselines.simple import Popularity, item_neighbours
from model.baselines.text_bridge import TextBridge
from model.data.factors import AlsConfig
from model.data.sequences import COLD_TEST, COLD_VALIDATION, TRAIN, Sequences
from model.scoring.cold_domain_metrics import ALL_NDCG, ANY_HIT, measure_cold
from model.scoring.model_scorer import Scorer

ITEMS, TASTES, USERS = 40, 2, 160
"""Items of each shop; an even item is of the one taste, an odd one of the other."""

ALS = AlsConfig(factors=8)


def shops(seed: int = 4) -> Sequences:
    rng = np.random.default_rng(seed)
    items, marks, offsets = [], [], [0]
    for user in range(USERS):
        taste, withheld = user % TASTES, user % 2 if user < 40 else -1
        for domain in rng.permutation(np.repeat([0, 1], 5)).tolist():
            items.append(domain * ITEMS + int(rng.integers(ITEMS // 2)) * 2 + taste + 1)
            role = COLD_VALIDATION if user < 12 else COLD_TEST
            marks.append(role if domain == withheld else TRAIN)
        offsets.append(len(items))
    return Sequences(
        np.array(offsets), np.array(items), np.array(marks), np.array([0, 40, 80]), ("a", "b")
    )


def with_other_withheld(sequences: Sequences) -> Sequences:
    withheld = sequences.split >= COLD_VALIDATION
    items = sequences.items.copy()
    starts = sequences.domain_of(items) * ITEMS
    items[withheld] = (starts + (items - starts) % ITEMS + 1)[withheld]
    return Sequences(sequences.offsets, items, sequences.split, sequences.domain_starts, ("a", "b"))


def texts(seed: int = 2) -> np.ndarray:
    """Two directions a shop, one a taste: what they have in common is to be learnt."""
    rng = np.random.default_rng(seed)
    found = rng.normal(scale=0.2, size=(2 * ITEMS + 1, 9)).astype(np.float32)
    places = np.arange(2 * ITEMS)
    found[places + 1, places // ITEMS * 2 + places % 2] += 1
    return found


def scorers(sequences: Sequences) -> dict[str, Scorer]:
    return {
        "joint": JointFactors.fit(sequences, ALS),
        "emcdr": Emcdr.fit(sequences, EmcdrConfig(als=ALS, ridge=1.0)),
        "neighbours": item_neighbours(sequences),
        "bridge": TextBridge.fit(sequences, texts()),
    }


@pytest.mark.parametrize("name", ["joint", "emcdr", "neighbours", "bridge"])
def test_a_taste_carries_over_to_a_shop_that_was_never_entered(name: str) -> None:
    sequences = shops()
    withheld = sequences.prefixes_of_withheld(COLD_TEST)
    chance = measure_cold(Popularity.fit(sequences), withheld).values[ANY_HIT].mean()
    carried = measure_cold(scorers(sequences)[name], withheld).values[ANY_HIT].mean()
    assert carried > chance + 0.1


@pytest.mark.parametrize("name", ["joint", "emcdr", "neighbours"])
def test_no_withheld_event_changes_a_score(name: str) -> None:
    sequences = shops()
    changed = with_other_withheld(sequences)
    assert not np.array_equal(sequences.items, changed.items)
    users = np.arange(40)
    before = scorers(sequences)[name].score(
        sequences.without_withheld().prefixes_of_users(users), 1
    )
    after = scorers(changed)[name].score(changed.without_withheld().prefixes_of_users(users), 1)
    assert before.equal(after)


@pytest.mark.parametrize("name", ["emcdr", "bridge"])
def test_what_maps_from_other_domains_does_not_look_at_the_asked_one(name: str) -> None:
    sequences = shops()
    fitted = scorers(sequences)[name]
    own = Sequences(
        np.array([0, 3, 5]),
        np.array([2, 45, 4, 2, 4]),
        np.zeros(5, np.int8),
        sequences.domain_starts,
        ("a", "b"),
    )
    scores = fitted.score(own.prefixes_of_users(np.array([0, 1])), 1)
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)


def test_cold_validation_users_choose_the_epoch_of_the_bridge_and_test_users_nothing() -> None:
    sequences = shops()
    test = sequences.split == COLD_TEST
    other = replace(sequences, items=np.where(test, sequences.items % 2 + 1, sequences.items))
    users = np.arange(40)
    asked = sequences.without_withheld().prefixes_of_users(users)
    before = TextBridge.fit(sequences, texts()).score(asked, 1)
    after = TextBridge.fit(other, texts()).score(asked, 1)
    assert before.equal(after)


def test_emcdrs_width_is_chosen_by_cold_validation_users_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("model.baselines.cross_domain.WIDTHS", (2, 5))
    sequences = shops()
    asked = sequences.prefixes_of_withheld(COLD_VALIDATION)
    fitted = [
        Emcdr.fit(sequences, replace(config, als=replace(config.als, factors=width)))
        for config in [EmcdrConfig()]
        for width in (2, 5)
    ]
    quality = [measure_cold(each, asked).values[ALL_NDCG].mean() for each in fitted]
    chosen = Emcdr.tuned(sequences)
    assert chosen.config == fitted[int(np.argmax(quality))].config
    test = sequences.split == COLD_TEST
    other = replace(sequences, items=np.where(test, sequences.items % 2 + 1, sequences.items))
    assert Emcdr.tuned(other).config == chosen.config


def test_without_cold_validation_users_emcdr_has_its_defaults() -> None:
    sequences = shops()
    split = np.where(sequences.split == COLD_VALIDATION, TRAIN, sequences.split)
    assert Emcdr.tuned(replace(sequences, split=split)).config == EmcdrConfig()
