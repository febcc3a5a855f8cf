"""A worker process of `tune`: takes trials from the shared journal until its time is over."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from pydantic import ValidationError

from artifacts.fingerprint import fingerprint_of
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from artifacts.strict import Strict
from model.config import STORED, TriThreadConfig
from model.training.processes import alone
from model.training.trainer import DivergedError, fit
from model.training.training_state import EpochReport
from tasks.frame.model_inputs import load_profiles, load_sequences, load_tables
from tasks.tuning.search_space import suggested, with_values
from tasks.tuning.study_folder import CUT, IS_BASE, keep_gains, open_study
from tasks.tuning.validation_gains import network_only, validation_gains

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

OF_A_TRIAL = 0.5
"""Share of a trial's mean duration that must be left for another one to begin."""


class TrialSpec(Strict):
    """What a worker needs. ``until``: end of the time budget, seconds of `time.monotonic`, one
    clock for all processes of a machine; ``most``: number of trials after which the study ends."""

    store: str
    folder: Path
    dataset: ArtifactRef
    tables: ArtifactRef
    profiles: ArtifactRef
    base: dict[str, dict[str, object]]
    seed: int
    device: str
    threads: int
    until: float
    most: int | None = None


def work(spec: TrialSpec, number: int) -> None:
    """Runs trials as worker ``number``."""
    torch.set_num_threads(spec.threads)
    store, base = Store(spec.store), TriThreadConfig.model_validate(spec.base, context=STORED)
    sequences = load_sequences(store, spec.dataset)
    tables = load_tables(store, spec.tables)
    profiles = load_profiles(store, spec.profiles)
    study = open_study(spec.folder, spec.seed + number)

    def objective(trial: Trial) -> float:
        import optuna

        values = suggested(trial, base)
        try:
            config = with_values(base, values)
        except ValidationError as error:
            raise optuna.TrialPruned from error
        is_base = bool(trial.user_attrs.get(IS_BASE))

        def on_epoch(report: EpochReport) -> None:
            trial.report(report.validation_ndcg, report.epoch - 1)
            if not is_base and trial.should_prune():
                raise optuna.TrialPruned

        left = {"max_seconds": max(spec.until - time.monotonic(), 1.0)}
        network = network_only(config)
        network = network.model_copy(update={"train": network.train.model_copy(update=left)})
        checkpoints = spec.folder / f"trial-{fingerprint_of(values)}"
        fitted = fit(
            sequences,
            tables,
            network,
            profiles=profiles,
            checkpoint_folder=checkpoints,
            on_epoch=on_epoch,
            process_group=alone(spec.device),
        )
        if fitted.stopped == "max_seconds":
            if not is_base:
                raise optuna.TrialPruned
            trial.set_user_attr(CUT, True)
        gains = validation_gains(fitted.model, sequences, config.model, spec.seed)
        keep_gains(spec.folder, trial.number, gains)
        shutil.rmtree(checkpoints, ignore_errors=True)
        return float(gains.mean())

    while has_time(study, spec):
        study.optimize(objective, n_trials=1, catch=(DivergedError,))


def has_time(study: Study, spec: TrialSpec) -> bool:
    """Returns whether another trial may begin."""
    from optuna.trial import TrialState

    counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    trials = study.get_trials(deepcopy=False, states=counted)
    if spec.most is not None and len(trials) >= spec.most:
        return False
    complete = [t for t in trials if t.state == TrialState.COMPLETE and t.duration is not None]
    expected = fmean(t.duration.total_seconds() for t in complete if t.duration) if complete else 0
    return time.monotonic() + OF_A_TRIAL * expected < spec.until


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    work(TrialSpec.model_validate(json.loads(Path(sys.argv[1]).read_bytes())), int(sys.argv[2]))
