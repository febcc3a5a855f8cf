"""The search of `tune`: worker processes over a journal in the store."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from artifacts.fingerprint import fingerprint_of
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from model.config import TriThreadConfig
from tasks.system.guarded_process import GuardedProcess
from tasks.tuning.search_space import values_of
from tasks.tuning.study_folder import (
    StudyInUseError,
    begin,
    measured_trials,
    open_study,
    require_optuna,
)
from tasks.tuning.trial_worker import TrialSpec
from tasks.tuning.tuned_preset import TuningOutcome, outcome_of

POLL_SECONDS, GRACE_SECONDS = 0.5, 2.0
LOG_TAIL = 2_000


class TuningWorkerError(RuntimeError):
    """A worker process failed; the message ends with its log."""


def search(
    store: Store,
    parts: dict[str, ArtifactRef],
    base: TriThreadConfig,
    seed: int,
    device: str,
    seconds: float,
    workers: int,
    most: int | None = None,
    on_trial: Callable[[int, str, float | None], None] | None = None,
) -> TuningOutcome:
    """Searches for `seconds` or until there are `most` trials; returns the comparison.

    A repeated call continues the study of the same data, base and seed. `on_trial` gets number,
    state and NDCG@10 of each ended trial.

    Raises:
        MissingPackageError, StudyInUseError, TuningWorkerError, NoBaseMeasuredError.
    """
    require_optuna()
    until = time.monotonic() + seconds
    stored = base.model_dump(mode="json")
    refs = {role: parts[role] for role in ("dataset", "tables", "profiles")}
    name = fingerprint_of([*(str(ref) for ref in refs.values()), stored, seed])
    folder = store.workspace(f"tune-{name}")
    lock = FileLock(folder / "tune.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StudyInUseError(
            "another `tune` searches the same data from the same base; wait for its end"
        ) from error
    try:
        study = open_study(folder, seed)
        begin(study, values_of(base))
        spec = TrialSpec(
            store=store.root,
            folder=folder,
            **refs,
            base=stored,
            seed=seed,
            device=device,
            threads=max(1, (os.cpu_count() or 1) // workers),
            until=until,
            most=most,
        )
        file = folder / "spec.json"
        file.write_text(spec.model_dump_json(), "utf-8")
        running = [_worker(folder, file, number) for number in range(workers)]
        try:
            seen: set[int] = set()
            while any(worker.running for worker, _ in running):
                time.sleep(POLL_SECONDS)
                for trial in study.get_trials(deepcopy=False):
                    if trial.state.is_finished() and trial.number not in seen:
                        seen.add(trial.number)
                        if on_trial is not None:
                            on_trial(trial.number, trial.state.name.lower(), trial.value)
        finally:
            for worker, _ in running:
                worker.stop()
        trials = measured_trials(study, folder)
        logs = [log.read_text("utf-8", errors="replace")[-LOG_TAIL:] for _, log in running]
        failed = [text for text in logs if "ended with exit code 0" not in text]
        if failed and not trials:
            raise TuningWorkerError(f"a worker of the search failed:\n{failed[0].strip()}")
        return outcome_of(trials)
    finally:
        lock.release()


def _worker(folder: Path, spec: Path, number: int) -> tuple[GuardedProcess, Path]:
    log = folder / f"worker-{number}.log"
    command = [sys.executable, "-P", "-m", "tasks.tuning.trial_worker", str(spec), str(number)]
    return GuardedProcess(command, _environment(), log, GRACE_SECONDS), log


def _environment() -> dict[str, str]:
    """Returns the environment, in which a worker finds this program's packages."""
    own = str(Path(__file__).parents[2])
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": own if not before else f"{own}{os.pathsep}{before}"}
