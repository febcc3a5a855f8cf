"""Stage before training, data to preset: choose the best preset within the time budget.

Some training steps of each candidate are timed, the best first, until one is expected to end in
time. The choice is an artifact of the data, the overrides and the budget, so an unchanged run keeps
its model although timings vary.
"""

import time

import numpy as np

from artifacts.kinds.training_choice import (
    TrainingChoice,
    read_training_choice,
    write_training_choice,
)
from artifacts.manifest import Kind, identity
from artifacts.store import Store
from model.automatic import (
    Candidate,
    Estimate,
    candidates_for,
    expected_seconds,
)
from model.data.sequences import Sequences
from model.training.processes import ProcessGroup, alone
from model.training.table_memory import table_memory
from model.training.time_limit import Stopwatch
from model.training.trainer import seconds_a_step
from tasks.frame.model_inputs import load_profiles, load_sequences, load_tables, table_room
from tasks.frame.number_texts import duration_text
from tasks.frame.stage import StageResult, logger, stage_result, stage_task
from tasks.frame.training_config import AUTO_MINUTES, TrainingConfig
from tasks.frame.training_sources import TrainingSources

STAGE = "choose preset"
OF_TRIALS = 0.1
"""Share of the time budget after which the last and quickest candidate is taken untimed."""


@stage_task(STAGE)
def choose_preset(sources: TrainingSources, config: TrainingConfig, store_root: str) -> StageResult:
    """Returns the choice for settings with preset auto; `as_chosen` applies it."""
    return choose_together(sources, config, store_root, alone(config.device))


def choose_together(
    sources: TrainingSources, config: TrainingConfig, store_root: str, process_group: ProcessGroup
) -> StageResult:
    """Returns the choice of all processes of ``process_group``, each of which must call this."""
    store, started = Store(store_root), time.monotonic()
    # Seed and device do not change the choice.
    asked = {"overrides": config.overrides, "budget_seconds": config.budget_seconds}
    wanted = identity(Kind.TRAINING_CHOICE, asked, sources.without_crossings())
    (is_there,) = process_group.from_rank_0(
        [float(process_group.is_leader and store.find(wanted) is not None)]
    )
    if not is_there:
        logger.info("%s: working", STAGE)
        choice = _chosen(store, sources, config, process_group)
        if process_group.is_leader and store.find(wanted) is None:
            with store.create(wanted) as draft:
                write_training_choice(draft.path, choice)
                draft.notes.append(choice.why)
    process_group.wait()  # Until rank 0 has written the choice.
    if process_group.is_leader:
        logger.info("%s: %s", STAGE, read_training_choice(store, wanted.ref).why)
    return stage_result(store, STAGE, wanted.ref, started, reused=bool(is_there))


def as_chosen(store: Store, choice: StageResult, config: TrainingConfig) -> TrainingConfig:
    """Returns the settings with the chosen preset in place of auto."""
    found = read_training_choice(store, choice.ref)
    return config.chosen(Candidate(found.preset, found.label, found.own))


def _chosen(
    store: Store, sources: TrainingSources, config: TrainingConfig, process_group: ProcessGroup
) -> TrainingChoice:
    watch = Stopwatch()
    sequences = load_sequences(store, sources.dataset)
    tables = load_tables(store, sources.tables)
    profiles = load_profiles(store, sources.profiles)
    budget = config.budget_seconds or 60 * AUTO_MINUTES
    room = table_room(process_group.device, process_group.size)
    width = tables.global_table.shape[1]
    candidates = candidates_for(sequences.item_count)
    fitting = [
        each
        for each in candidates
        if table_memory(sequences.item_count, width, config.of(each)).total <= room
    ] or candidates[-1:]
    users = int((np.diff(sequences.training().offsets) >= 2).sum())
    timed: dict[str, float] = {}
    estimates: list[Estimate] = []
    used = 0.0
    for candidate in fitting:
        if estimates and used >= OF_TRIALS * budget:
            # It takes less than the one before.
            estimates.append(Estimate(fitting[-1], estimates[-1].seconds))
            break
        settings = config.of(candidate)
        left = OF_TRIALS * budget - used
        step = seconds_a_step(sequences, tables, settings, profiles, process_group, seconds=left)
        timed[candidate.label] = step
        batch = settings.train.batch_size
        seconds = expected_seconds(users, batch, candidate.passes, step)
        estimates.append(Estimate(candidate, seconds))
        (used,) = process_group.from_rank_0([watch.seconds()])
        if seconds <= budget - used:
            break
    chosen = estimates[-1]
    return TrainingChoice(
        label=chosen.candidate.label,
        preset=chosen.candidate.preset,
        own=chosen.candidate.overrides,
        expected_seconds=chosen.seconds,
        seconds_a_step=timed,
        why=_why(chosen, estimates, sequences, budget, used)
        if chosen.candidate.label in timed
        else _why_untimed(chosen, sequences, budget, used),
    )


def _why(
    chosen: Estimate, estimates: list[Estimate], sequences: Sequences, budget: float, used: float
) -> str:
    data = f"{sequences.item_count:,} items and {sequences.user_count:,} users"
    about, given = duration_text(chosen.seconds), duration_text(budget)
    said = f"preset {chosen.candidate.label}, chosen for {data}: "
    if chosen.seconds > budget - used:
        return (
            f"{said}expected training time {about}, limited to {given}; "
            f"--time-budget {about} allows a full training"
        )
    said += f"expected training time {about} of at most {given}"
    dearer = [each for each in estimates if each is not chosen]
    if dearer:
        longer = duration_text(dearer[-1].seconds)
        said += f"; {dearer[-1].candidate.label} would take {longer} (--time-budget {longer})"
    return said


def _why_untimed(chosen: Estimate, sequences: Sequences, budget: float, used: float) -> str:
    return (
        f"preset {chosen.candidate.label}, the quickest for {sequences.item_count:,} items and "
        f"{sequences.user_count:,} users, chosen untimed: the trials took {duration_text(used)} of "
        f"{duration_text(budget)}"
    )
