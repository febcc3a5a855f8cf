"""Which preset a catalogue is trained with where none is named: measured rules, and the time.

`docs/quality.md` and `docs/log.md` have the figures behind the rules. Small catalogues: `best`
(NDCG@10 .240) before `best` with one pass (.239) before `single` (.233), each a fraction of the
time of the one before; `paper` (.198) is behind all of them. From `MANY_ITEMS` items on:
`large` with two members or one; a second pass does not help there. The first that is likely to end
within the budget is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MANY_ITEMS = 10_000
"""Catalogues from here on are trained as `large`: measured at 28,000 and 36,000 items."""

STEPS, GROWTH = 80, 0.36
"""A whole training, refit included, took about STEPS * users ** GROWTH steps: 1,000 of 1,431 users,
2,000 of 7,144, 4,000 of 53,061."""

SECOND_PASS = 1.5
"""Factor on the epochs of a model whose two passes of a batch are to agree."""

FEWEST_EPOCHS = 4
"""A search of three epochs, which is the least that patience allows, and a refit of one."""

BESIDE_STEPS = 1.2
"""Factor for validation, the transition memory and the bridge."""

Overrides = dict[str, dict[str, int | float]]


@dataclass(frozen=True)
class Candidate:
    """A preset, what is changed in it, and what to call the two together."""

    preset: str
    label: str
    overrides: Overrides = field(default_factory=dict)
    passes: int = 1


SMALL = (
    Candidate("best", "`best`", passes=2),
    Candidate("best", "`best` with one pass of a batch", {"train": {"agreement": 0.0}}),
    Candidate("single", "`single`"),
)
LARGE = (
    Candidate("large", "`large`"),
    Candidate("large", "`large` with one member", {"model": {"members": 1}}),
)


@dataclass(frozen=True)
class Estimate:
    """A candidate, and the seconds that a whole training is likely to take here."""

    candidate: Candidate
    seconds: float


def candidates_for(items: int) -> tuple[Candidate, ...]:
    """What a catalogue may be trained with, the best and slowest first."""
    return SMALL if items < MANY_ITEMS else LARGE


def expected_seconds(users: int, batch_size: int, passes: int, seconds_a_step: float) -> float:
    """What search, validation and refit together are likely to take."""
    steps = STEPS * users**GROWTH * (SECOND_PASS if passes > 1 else 1)
    least = FEWEST_EPOCHS * -(-users // batch_size)
    return max(steps, least) * seconds_a_step * BESIDE_STEPS


def chosen_of(estimates: Sequence[Estimate], budget_seconds: float) -> Estimate:
    """The first that is likely to end within the budget; else the quickest, which its end cuts."""
    fits = (each for each in estimates if each.seconds <= budget_seconds)
    return next(fits, estimates[-1])


def with_changes(
    candidate: Candidate, overrides: Mapping[str, Mapping[str, object]]
) -> dict[str, dict[str, object]]:
    """The candidate's changes, and over them those of a user."""
    sections = {*candidate.overrides, *overrides}
    return {
        name: {**candidate.overrides.get(name, {}), **overrides.get(name, {})}
        for name in sorted(sections)
    }
