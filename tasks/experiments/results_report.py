"""Texts of an experiment's page and Markdown: data, settings, caveats."""

import json
from datetime import UTC, datetime
from typing import NamedTuple

from artifacts.kinds.user_profiles import model_of
from artifacts.store import Store
from model.config import load_preset
from tasks.experiments.cell import CellData
from tasks.experiments.cell_results import FinishedCell, Results
from tasks.experiments.grid import BaselineRecipe, Cell, Grid, Overrides, ProfileSource
from tasks.experiments.numbers import SAW_BOTH_MARK, row_name
from tasks.experiments.results_page import ExperimentContent
from tasks.experiments.results_plots import plots
from tasks.experiments.results_tables import section

NOTES = (
    "Leave-one-out by time, unless stated otherwise: each user's last event is the test event, the "
    "one before it the validation event. The prefix of a test event includes the validation event "
    "for every model.",
    "Full ranking: the held-out item against all unseen items of its domain. Sampled rankings use "
    "fixed candidates among these items; ties count half.",
    f"{SAW_BOTH_MARK} marks models fitted on training and validation events: after validation has "
    "selected the number of epochs, they are trained again on both. Compare them with each other.",
    "Spread is over the seeds of weights, batches, negatives and dropout, with equal data and "
    "splits. Baselines are deterministic.",
    "Train seconds are wall-clock time on shared machines, without validation.",
)


class FinishedGrid(NamedTuple):
    """A grid with its finished and missing cells."""

    grid: Grid
    finished: list[FinishedCell]
    missing: list[Cell]


def compared_models(grids: list[FinishedGrid]) -> dict[str, str]:
    """Returns the reference model by dataset."""
    return {entry.name: each.grid.compare for each in grids for entry in each.grid.datasets}


def experiment_content(
    store: Store, grids: list[FinishedGrid], results: Results, title: str, command: str
) -> ExperimentContent:
    """Returns the content, without datasets that have no finished cell."""
    sections = []
    for dataset, compare in compared_models(grids).items():
        data = [
            each.data for grid in grids for each in grid.finished if each.cell.dataset == dataset
        ]
        if data:
            told = section(
                results, dataset, compare, _facts(store, dataset, grids, data[0], results)
            )
            sections.append((told, plots(results, dataset)))
    return ExperimentContent(
        title=title,
        command=command,
        created=datetime.now(UTC),
        done=sum(len(each.finished) for each in grids),
        cells=sum(len(each.finished) + len(each.missing) for each in grids),
        notes=NOTES,
        sections=tuple(sections),
        settings=_settings([each.grid for each in grids]),
    )


def _facts(
    store: Store, dataset: str, grids: list[FinishedGrid], data: CellData, results: Results
) -> tuple[str, ...]:
    counts = store.manifest(data.dataset).counts
    facts = [
        f"{counts['users']:,} users, {counts['users_in_several_domains']:,} of them in several "
        f"domains; {counts['items']:,} items; {counts['events']:,} events."
    ]
    if counts.get("cold_test_events"):
        held_out = (note for note in store.manifest(data.dataset).notes if note.startswith("held"))
        facts += [f"Not leave-one-out: {note}." for note in held_out]
    if profiles := data.profiles.get(ProfileSource.LLM):
        manifest = store.manifest(profiles)
        facts.append(
            f"{manifest.counts['with_profile']:,} users have a profile by "
            f"{model_of(manifest.parameters['chat'])}, embedded by "
            f"{model_of(manifest.parameters['embedding'])}. The others train without one."
        )
    facts += sorted(set(store.manifest(data.tables).notes))
    entries = [entry for each in grids for entry in each.grid.datasets if entry.name == dataset]
    facts += [entry.note for entry in entries if entry.note]
    facts += [text for each in grids if (text := _state(each, dataset))]
    limited = int(results.facts.filter(dataset=dataset)["stopped_by_limit"].sum())
    if limited:
        facts.append(
            f"{limited} trainings ended at their limit, before validation had stopped "
            "rising for the preset's patience: more epochs might do better."
        )
    return tuple(facts)


def _state(each: FinishedGrid, dataset: str) -> str:
    """Returns sentences about bounds and missing cells."""
    if dataset not in {entry.name for entry in each.grid.datasets}:
        return ""
    parts = [f"Every preset has {_told(each.grid.settings)} here."] if each.grid.settings else []
    parts += [
        f"`{preset}` has {_told(settings)} here."
        for preset, settings in each.grid.preset_settings.items()
    ]
    missing = [cell for cell in each.missing if cell.dataset == dataset]
    parts += _missing(missing, len(each.grid.seeds))
    return " ".join(parts)


def _told(settings: Overrides) -> str:
    return "; ".join(
        f"{section}.{name} = {json.dumps(value)}"
        for section, values in settings.items()
        for name, value in values.items()
    )


def _missing(cells: list[Cell], seeds: int) -> list[str]:
    """Returns the missing rows, then rows with missing seeds."""
    lacking: dict[str, list[int]] = {}
    without_seeds: set[str] = set()
    for cell in cells:
        row = row_name((cell.model, cell.ablation, cell.saw.value))
        row += f", {cell.overlap.share} % linked" if cell.overlap else ""
        lacking.setdefault(row, []).append(cell.seed)
        if isinstance(cell.recipe, BaselineRecipe):
            without_seeds.add(row)
    whole = [row for row, found in lacking.items() if row in without_seeds or len(found) == seeds]
    partly = [
        f"{row} (seed {' and '.join(map(str, found))})"
        for row, found in lacking.items()
        if row not in whole
    ]
    told = [f"Not done yet: {'; '.join(whole)}."] if whole else []
    return told + ([f"More seeds to come: {'; '.join(partly)}."] if partly else [])


def _settings(grids: list[Grid]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for grid in grids:
        for entry in grid.datasets:
            found[f"{entry.name}: seeds"] = json.dumps(grid.seeds)
            told = entry.model_dump(
                exclude_defaults=True, exclude={"interactions", "items", "name"}
            )
            if told:
                found[f"{entry.name}: data"] = json.dumps(told)
        for preset in grid.presets:
            config = load_preset(preset).model_dump(
                mode="json", by_alias=False, exclude_defaults=True
            )
            found[f"preset {preset}, where it differs from the defaults"] = json.dumps(config)
        for name, ablation in grid.ablations.items():
            change = ablation.model_dump(mode="json", exclude_defaults=True, exclude={"of"})
            found[f"ablation '{name}'"] = json.dumps(change)
    return tuple(found.items())
