"""The study of a `tune`: an Optuna journal in the store, and the gains of each trial beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from artifacts.files.durable import write_atomically
from artifacts.user_error import MissingPackageError, UserError
from tasks.tuning.search_space import Values

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

JOURNAL = "journal.log"
IS_BASE = "is_base"
"""Attribute of the trial with the values of the base preset."""
CUT = "ended_by_time"
RANDOM_TRIALS, WARMUP_EPOCHS = 8, 2


class StudyInUseError(UserError, RuntimeError):
    """Another `tune` runs on the same data and base."""


@dataclass(frozen=True)
class MeasuredTrial:
    """A complete trial. ``gains``: NDCG@10 by user, as `validation_gains`."""

    number: int
    values: Values
    gains: NDArray[np.float64]
    epochs: int
    is_base: bool
    was_cut: bool


def require_optuna() -> None:
    """Raises MissingPackageError."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            "tune needs Optuna, which is not installed: .venv/bin/pip install 'llm4cdsr[tune]' "
            "(in a checkout: .venv/bin/pip install -c constraints.txt -e '.[tune]')"
        ) from error


def open_study(folder: Path, seed: int) -> Study:
    """Returns the study of a folder, created if missing; all processes share its journal."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        study_name="tune",
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
        sampler=optuna.samplers.TPESampler(
            n_startup_trials=RANDOM_TRIALS, constant_liar=True, seed=seed
        ),
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=3, n_warmup_steps=WARMUP_EPOCHS, n_min_trials=2
        ),
        direction="maximize",
        load_if_exists=True,
    )


def begin(study: Study, base: Values) -> None:
    """Queues the base first, and again the trials of a process that was killed."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
            if trial.params and not trial.user_attrs.get(IS_BASE):
                study.enqueue_trial(trial.params)
    alive = (TrialState.WAITING, TrialState.COMPLETE)
    known = study.get_trials(deepcopy=False, states=alive)
    if not any(trial.user_attrs.get(IS_BASE) for trial in known):
        study.enqueue_trial(base, user_attrs={IS_BASE: True})


def keep_gains(folder: Path, number: int, gains: NDArray[np.float64]) -> None:
    """Writes the gains of a trial before it counts as complete."""
    write_atomically(_gains_file(folder, number), gains.astype("<f8").tobytes())


def measured_trials(study: Study, folder: Path) -> list[MeasuredTrial]:
    """Returns the complete trials, in the order of their numbers."""
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [_measured(trial, folder) for trial in complete]


def _measured(trial: FrozenTrial, folder: Path) -> MeasuredTrial:
    gains = np.frombuffer(_gains_file(folder, trial.number).read_bytes(), "<f8")
    return MeasuredTrial(
        number=trial.number,
        values=dict(trial.params),
        gains=gains,
        epochs=max(trial.intermediate_values, default=-1) + 1,
        is_base=bool(trial.user_attrs.get(IS_BASE)),
        was_cut=bool(trial.user_attrs.get(CUT)),
    )


def _gains_file(folder: Path, number: int) -> Path:
    return folder / f"gains-{number}.f8"
