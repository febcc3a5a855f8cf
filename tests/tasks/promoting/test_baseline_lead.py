"""The lead over the strongest baseline: worked out by hand, named, and what it decides."""

import numpy as np
import polars as pl
import pytest

from artifacts.kinds.results import OUR_MODEL
from artifacts.manifest import ArtifactRef, Kind
from flows.cli.output.console import verdict_line
from tasks.judge_release import GateComparison, PromotionConfig, judge
from tasks.promoting.baseline_lead import FEWEST, BaselineLead, baseline_lead
from tasks.promoting.verdict import Verdict

FIRST = GateComparison(None, None, "nothing was served before")


def ranks(events: int = 2 * FEWEST, users: int | None = None, **greater: int) -> pl.DataFrame:
    """Every model places its target behind so many others, in every second event behind all."""
    number = np.arange(events)
    parts = [
        pl.DataFrame(
            {
                "user_index": number % (users or events),
                "model": model,
                "ranking": "full",
                "domain": "food",
                "greater": np.where(number % 4 == 0, 50, above),
                "equal": 0,
                "candidates": 60,
            }
        )
        for model, above in greater.items()
    ]
    return pl.concat(parts)


def test_the_strongest_baseline_is_the_one_that_is_compared() -> None:
    lead = baseline_lead(ranks(**{OUR_MODEL: 0, "weak": 9, "strong": 2}))
    assert lead is not None
    assert lead.baseline == "strong"
    assert lead.ours == pytest.approx(0.75)
    assert lead.theirs == pytest.approx(0.75 / 2)
    assert lead.low < 0.75 / 2 < lead.high
    assert lead.is_ahead
    assert not lead.is_behind


def test_a_model_that_a_baseline_beats_beyond_chance_is_behind() -> None:
    lead = baseline_lead(ranks(**{OUR_MODEL: 2, "rules": 0}))
    assert lead is not None
    assert lead.is_behind
    assert "the baseline rules is significantly better than the model" in lead.sentence
    assert "0.375 against 0.750" in lead.sentence


def test_like_models_are_not_told_apart() -> None:
    lead = baseline_lead(ranks(**{OUR_MODEL: 2, "rules": 2}))
    assert lead is not None
    assert (lead.is_ahead, lead.is_behind) == (False, False)
    assert "no significant difference" in lead.sentence


def test_few_events_are_not_judged_whatever_they_say() -> None:
    lead = baseline_lead(ranks(FEWEST - 1, **{OUR_MODEL: 9, "rules": 0}))
    assert lead is not None
    assert (lead.is_judged, lead.is_behind) == (False, False)
    assert lead.sentence.startswith("too few held-out events to judge")
    assert "0." not in lead.sentence


def test_events_of_one_user_count_as_one_draw() -> None:
    """Many events of few users leave a wider interval than as many users would."""
    found = {OUR_MODEL: 0, "rules": 2}
    alone = baseline_lead(ranks(**found))
    together = baseline_lead(ranks(users=4, **found))
    assert alone is not None
    assert together is not None
    assert together.ours == pytest.approx(alone.ours)
    assert together.high - together.low != pytest.approx(alone.high - alone.low)


def test_without_a_baseline_or_a_full_ranking_there_is_no_lead() -> None:
    assert baseline_lead(ranks(**{OUR_MODEL: 0})) is None
    sampled = ranks(**{OUR_MODEL: 0, "rules": 1}).with_columns(ranking=pl.lit("sampled"))
    assert baseline_lead(sampled) is None
    assert baseline_lead(sampled.head(0)) is None


def behind() -> BaselineLead:
    lead = baseline_lead(ranks(**{OUR_MODEL: 2, "rules": 0}))
    assert lead is not None
    return lead


def test_a_first_model_behind_a_baseline_is_held_and_says_so() -> None:
    verdict = judge(FIRST, 1.0, PromotionConfig(), (), behind())
    assert not verdict.promoted
    assert "significantly better" in verdict.summary
    level = baseline_lead(ranks(**{OUR_MODEL: 2, "rules": 2}))
    assert judge(FIRST, 1.0, PromotionConfig(), (), level).promoted


RELEASE = ArtifactRef(kind=Kind.RELEASE, fingerprint="0123456789abcdef")


@pytest.mark.parametrize("promoted", [True, False])
def test_the_last_line_of_a_run_names_the_baseline_once(promoted: bool) -> None:
    lead = behind()
    verdict = Verdict(
        promoted=promoted,
        reasons=() if promoted else (lead.sentence,),
        basis="nothing was served before",
        served_ndcg=None,
        candidate_ndcg=None,
        user_coverage=1.0,
        lead=lead,
    )
    line = str(verdict_line(RELEASE, verdict))
    assert line.lower().count("rules is significantly better than the model") == 1
    assert ("promote 0123456789abcdef" in line) == (not promoted)
