"""Outcome of a search: the best trials over the base, and the file of the tuned preset."""

import json
from dataclasses import dataclass
from pathlib import Path

from artifacts.files.durable import write_atomically
from artifacts.user_error import UserError
from model.config import TriThreadConfig
from model.scoring.bootstrap import Comparison, paired_bootstrap
from tasks.tuning.search_space import Values, with_values
from tasks.tuning.study_folder import MeasuredTrial

LEVEL, SHOWN = 0.05, 5
DRAWS = 10_000


class NoBaseMeasuredError(UserError, RuntimeError):
    """The time budget ended before the base was measured."""


@dataclass(frozen=True)
class ComparedTrial:
    """A trial and its lead over the base, None for the base itself."""

    trial: MeasuredTrial
    lead: Comparison | None
    changes: Values


@dataclass(frozen=True)
class TuningOutcome:
    """The best trials, best first; ``winner`` is significantly better than the base.

    ``trials``: number of complete trials. The best of many trials is partly best by chance, so the
    significance level is divided by the number of trials other than the base.
    """

    best: list[ComparedTrial]
    winner: ComparedTrial | None
    trials: int
    users: int
    base_was_cut: bool


def outcome_of(trials: list[MeasuredTrial]) -> TuningOutcome:
    """Compares the best trials with the base by a paired bootstrap over validation users.

    Raises:
        NoBaseMeasuredError: there is no complete trial of the base.
    """
    base = next((trial for trial in trials if trial.is_base), None)
    if base is None:
        raise NoBaseMeasuredError(
            "the time budget ended before the base preset was measured: repeat the command, which "
            "continues, or raise --time-budget"
        )
    ranked = sorted(trials, key=lambda trial: -float(trial.gains.mean()))[:SHOWN]
    best = [_compared(trial, base) for trial in ranked]
    first = best[0]
    is_better = (
        first.lead is not None
        and first.lead.low > 0
        and first.lead.p_value < LEVEL / max(len(trials) - 1, 1)
    )
    return TuningOutcome(
        best, first if is_better else None, len(trials), len(base.gains), base.was_cut
    )


def _compared(trial: MeasuredTrial, base: MeasuredTrial) -> ComparedTrial:
    if trial.is_base:
        return ComparedTrial(trial, None, {})
    (lead,) = paired_bootstrap(trial.gains, base.gains[:, None], draws=DRAWS)
    changes = {name: v for name, v in trial.values.items() if v != base.values[name]}
    return ComparedTrial(trial, lead, changes)


def write_preset(path: Path, base: TriThreadConfig, outcome: TuningOutcome, origin: str) -> None:
    """Writes the tuned preset, or the base, as a TOML file for `--preset`."""
    config = base if outcome.winner is None else with_values(base, outcome.winner.changes)
    lines = [f"# {line}" for line in origin.splitlines()]
    for section in ("model", "train"):
        fields = getattr(config, section).model_dump(
            mode="json", by_alias=False, exclude={"seed", "max_seconds"}, exclude_none=True
        )
        lines += ["", f"[{section}]", *(f"{n} = {json.dumps(v)}" for n, v in fields.items())]
    write_atomically(path, ("\n".join(lines).lstrip() + "\n").encode())
