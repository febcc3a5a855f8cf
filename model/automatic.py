"""Choice of the preset for `--preset auto`: measured rules and the time budget.

`docs/quality.md` and `docs/log.md` have the figures behind the rules. Small catalogues: `best`
(NDCG@10 .248) before `single` (.244) before `single` with one pass (.242), each a fraction of the
time of the one before; `paper` (.198) is behind all of them. Catalogues of `MANY_ITEMS` items or
more: `large` with two members or one, because a second pass does not help there. The first
candidate whose expected time is within the budget is chosen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

MANY_ITEMS = 10_000
"""Fewest items for `large`, which was measured at 28,000 and 36,000 items."""

STEPS, GROWTH = 80, 0.36
"""A whole training, refit included, took about STEPS * users ** GROWTH steps: 1,000 of 1,431 users,
2,000 of 7,144, 4,000 of 53,061."""

SECOND_PASS = 1.5
"""Factor on the number of steps with two dropout passes per batch."""

FEWEST_EPOCHS = 4
"""Three epochs of search, the minimum with patience, and one epoch of refit."""

BESIDE_STEPS = 1.2
"""Factor for validation, the transition memory and the bridge."""

Overrides = dict[str, dict[str, int | float]]


@dataclass(frozen=True)
class Candidate:
    """A preset with overrides and a label for messages."""

    preset: str
    label: str
    overrides: Overrides = field(default_factory=dict)
    passes: int = 1


SMALL = (
    Candidate("best", "`best`", passes=2),
    Candidate("single", "`single`", passes=2),
    Candidate("single", "`single` with one pass of a batch", {"train": {"r_drop_weight": 0.0}}),
)
LARGE = (
    Candidate("large", "`large`"),
    Candidate("large", "`large` with one member", {"model": {"ensemble_size": 1}}),
)


@dataclass(frozen=True)
class Estimate:
    """A candidate and the expected seconds of its training on this machine."""

    candidate: Candidate
    seconds: float


def candidates_for(items: int) -> tuple[Candidate, ...]:
    """Returns the candidates for a catalogue, the best and slowest first."""
    return SMALL if items < MANY_ITEMS else LARGE


def expected_seconds(users: int, batch_size: int, passes: int, seconds_a_step: float) -> float:
    """Returns the expected seconds of search, validation and refit together."""
    steps = STEPS * users**GROWTH * (SECOND_PASS if passes > 1 else 1)
    least = FEWEST_EPOCHS * -(-users // batch_size)
    return max(steps, least) * seconds_a_step * BESIDE_STEPS


def with_changes(
    candidate: Candidate, overrides: Mapping[str, Mapping[str, object]]
) -> dict[str, dict[str, object]]:
    """Returns the candidate's overrides, replaced by those of the user where both exist."""
    sections = {*candidate.overrides, *overrides}
    return {
        name: {**candidate.overrides.get(name, {}), **overrides.get(name, {})}
        for name in sorted(sections)
    }
