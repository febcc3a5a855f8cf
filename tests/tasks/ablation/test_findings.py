"""The sentences of an ablation."""

import polars as pl

from artifacts.kinds.ablation import ABLATION_SCHEMA
from tasks.ablation.findings import findings


def found(*rows: tuple[object, ...]) -> list[str]:
    return findings(pl.DataFrame(rows, schema=ABLATION_SCHEMA, orient="row"))


def test_an_interval_above_zero_is_a_gain_and_stronger_groups_are_named() -> None:
    (sentence,) = found(
        ("item texts", "all events", 900, 0.05, 0.04, 0.01, 0.002, 0.018),
        ("item texts", "tail items", 90, 0.05, 0.01, 0.04, 0.02, 0.06),
        ("item texts", "short histories", 90, 0.05, 0.04, 0.01, -0.01, 0.03),
    )
    assert sentence.startswith("Item texts raise quality here: NDCG@10 +0.010")
    assert sentence.endswith("A larger gain on: tail items +0.040.")


def test_an_interval_around_zero_is_no_effect_whatever_the_mean() -> None:
    (sentence,) = found(("user profiles", "all events", 900, 0.06, 0.04, 0.02, -0.001, 0.04))
    assert sentence.startswith("User profiles: no significant effect")


def test_a_loss_is_said() -> None:
    (sentence,) = found(("item texts", "all events", 900, 0.04, 0.06, -0.02, -0.04, -0.001))
    assert sentence.startswith("Item texts lower quality here: NDCG@10 -0.020")


def test_too_few_events_have_no_figure() -> None:
    (sentence,) = found(("user profiles", "all events", 12, None, None, None, None, None))
    assert sentence == (
        "User profiles: not measured, 12 held-out events of the sample concern them, 30 are needed."
    )
