"""Grids: TOML files of datasets x models x ablations x seeds; each combination is a cell.

`benchmarks/experiments/` holds examples. All names are checked on reading.
"""

import tomllib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from artifacts.strict import Strict
from artifacts.user_error import UserError
from model.baselines.registry import (
    BASELINES,
    COLD_BASELINES,
    LEARNS_NOTHING,
    TEXT_BRIDGE,
)
from model.config import TriThreadConfig, load_preset
from tasks.dump.dump_config import ColdDomain, DumpConfig, LeaveOneOut
from tasks.project import ProjectConfig

WIDTH = ProjectConfig().hidden

Overrides = dict[str, dict[str, JsonValue]]


class GridError(UserError, ValueError):
    """A grid is not TOML, or a file that it names is missing."""


class ProfileSource(StrEnum):
    """Source of user profiles."""

    LLM = "llm"
    TITLES = "titles"
    NONE = "none"


class Saw(StrEnum):
    """Events that a model was fitted on."""

    TRAIN = "training"
    TRAIN_AND_VALIDATION = "training + validation"


class DatasetEntry(Strict):
    """One dump and its preparation."""

    name: str = Field(description="Display name.")
    interactions: str = Field(description="File; relative to the grid's file.")
    items: str = Field(description="File; relative to the grid's file.")
    columns: dict[str, str] = Field(default_factory=dict, description="NAME_IN_FILE = 'NAME'.")
    domains: tuple[str, ...] | None = Field(default=None, description="Keep only these domains.")
    max_users: int | None = Field(default=None, ge=1, description="A seeded sample of users.")
    user_core: int = Field(default=1, ge=1)
    item_core: int = Field(default=1, ge=1)
    profile_users: int | None = Field(
        default=None, ge=0, description="Profile a seeded sample of users; all by default."
    )
    split: LeaveOneOut | ColdDomain = Field(
        default=LeaveOneOut(),
        discriminator="kind",
        description="Split, for example { kind = 'cold-domain', test_share = 0.15 }.",
    )
    clusters: int = Field(default=10, ge=1, description="Number of item clusters.")
    note: str = Field(default="", description="Note beside its tables.")

    def dump(self, folder: Path) -> DumpConfig:
        """Returns the dump configuration; ``folder`` is the grid's folder."""
        return DumpConfig(
            interactions=str((folder / self.interactions).resolve()),
            items=str((folder / self.items).resolve()),
            columns=self.columns,
            domains=self.domains,
            max_users=self.max_users,
            user_core=self.user_core,
            item_core=self.item_core,
            split=self.split,
        )

    @property
    def baselines(self) -> frozenset[str]:
        """Returns the names of the baselines for its split."""
        if isinstance(self.split, ColdDomain):
            return frozenset({*COLD_BASELINES, TEXT_BRIDGE})
        return frozenset(BASELINES)


class Ablation(Strict):
    """A named change of a model, compared with the complete model."""

    of: tuple[str, ...] | None = Field(
        default=None, description="Presets it is applied to; the grid's `ablate` by default."
    )
    model: dict[str, JsonValue] = Field(default_factory=dict, description="Fields to replace.")
    train: dict[str, JsonValue] = Field(default_factory=dict, description="Fields to replace.")
    profiles: ProfileSource = ProfileSource.LLM

    def overrides(self) -> Overrides:
        return {"model": self.model, "train": self.train}


class OverlapStudy(Strict):
    """Study of overlapping users (`model.data.overlap`)."""

    shares: tuple[int, ...] = Field(
        description="Per cent of cross-domain users who keep their link."
    )
    presets: tuple[str, ...]
    seed: int = Field(default=0, description="Seed of unlinked users.")


class NeuralRecipe(Strict):
    """A trained model: complete configuration with seed."""

    kind: Literal["neural"] = "neural"
    config: TriThreadConfig
    profiles: ProfileSource

    @property
    def reads_texts(self) -> bool:
        """Whether it needs the item tables."""
        return True


class BaselineRecipe(Strict):
    """A baseline and the events it is fitted on."""

    kind: Literal["baseline"] = "baseline"
    name: str
    saw: Saw

    @property
    def reads_texts(self) -> bool:
        """Whether it needs the item tables."""
        return self.name == TEXT_BRIDGE


class OverlapCut(Strict):
    """Per cent of cross-domain users who keep their link."""

    share: int = Field(ge=0, le=100)
    seed: int


class Cell(Strict):
    """One model fitted once on one dataset, identified by its recipe, not by names."""

    dataset: str
    model: str
    ablation: str = ""
    seed: int = 0
    overlap: OverlapCut | None = None
    recipe: NeuralRecipe | BaselineRecipe = Field(discriminator="kind")

    @property
    def saw(self) -> Saw:
        if isinstance(self.recipe, BaselineRecipe):
            return self.recipe.saw
        return Saw.TRAIN_AND_VALIDATION if self.recipe.config.train.refit else Saw.TRAIN

    @property
    def label(self) -> str:
        """Returns the name of the cell in logs and for `--only`."""
        parts = [self.dataset, self.model]
        parts += [self.ablation] if self.ablation else []
        parts += [f"overlap {self.overlap.share}%"] if self.overlap else []
        if isinstance(self.recipe, BaselineRecipe):
            return " / ".join([*parts, self.recipe.saw.value])
        return " / ".join([*parts, f"seed {self.seed}"])


class Grid(Strict):
    """An experiment."""

    title: str
    datasets: tuple[DatasetEntry, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    presets: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    baselines_saw: tuple[Saw, ...] = (Saw.TRAIN, Saw.TRAIN_AND_VALIDATION)
    ablate: tuple[str, ...] = Field(default=(), description="Presets for all ablations.")
    ablations: dict[str, Ablation] = Field(default_factory=dict)
    settings: Overrides = Field(
        default_factory=dict, description="Overrides of every preset, for example to bound cost."
    )
    preset_settings: dict[str, Overrides] = Field(
        default_factory=dict, description="Overrides of single presets, by name."
    )
    candidates: tuple[int, ...] = Field(
        default=(100,),
        description="Candidates of each sampled ranking, in addition to full ranking.",
    )
    candidate_seed: int = 0
    compare: str = Field(default="best", description="Reference model of comparisons.")
    overlap: OverlapStudy | None = None

    @model_validator(mode="after")
    def _refuse_what_cannot_run(self) -> Self:
        every = dict.fromkeys((*BASELINES, *COLD_BASELINES, TEXT_BRIDGE))
        there = {name for entry in self.datasets for name in entry.baselines}
        unknown = set(self.baselines) - there
        if unknown:
            raise ValueError(
                f"no baseline {sorted(unknown)}; there are "
                f"{', '.join(name for name in every if name in there)} for these data sets' splits"
            )
        cold = [entry.name for entry in self.datasets if isinstance(entry.split, ColdDomain)]
        if cold and self.overlap is not None:
            raise ValueError(
                f"an overlap study needs events after a user's own ones of the domain, which "
                f"{cold[0]} withholds: leave `overlap` out, or give its data a grid of its own"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"each seed once, not {list(self.seeds)}")
        if unused := set(self.preset_settings) - set(self.presets):
            raise ValueError(f"settings of {sorted(unused)}, which `presets` does not have")
        names = [entry.name for entry in self.datasets]
        if len(set(names)) < len(names):
            raise ValueError(f"each dataset needs a name of its own, not {names}")
        try:
            list(cells_of(self))
        except KeyError as error:
            raise ValueError(str(error.args[0])) from error
        return self


def read_grid(path: Path) -> Grid:
    """Returns a grid; raises `GridError`, or pydantic's ValidationError."""
    try:
        return Grid.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise GridError(f"{path} is no TOML: {error}") from error


def cells_of(grid: Grid) -> Iterator[Cell]:
    """Returns all cells, cheap ones first and by seed, so that an interrupted experiment covers all
    models."""
    for entry in grid.datasets:
        yield from _baseline_cells(grid, entry)
    for seed in grid.seeds:
        for entry in grid.datasets:
            yield from _neural_cells(grid, entry.name, seed)
    if grid.overlap is not None:
        for seed in grid.seeds:
            for entry in grid.datasets:
                yield from _overlap_cells(grid, grid.overlap, entry.name, seed)


def _baseline_cells(grid: Grid, entry: DatasetEntry) -> Iterator[Cell]:
    for name in (name for name in grid.baselines if name in entry.baselines):
        for saw in grid.baselines_saw[:1] if name in LEARNS_NOTHING else grid.baselines_saw:
            recipe = BaselineRecipe(name=name, saw=saw)
            yield Cell(dataset=entry.name, model=name, recipe=recipe)


def _neural_cells(grid: Grid, dataset: str, seed: int) -> Iterator[Cell]:
    for preset in grid.presets:
        recipe = _neural(grid, preset, Ablation(), seed)
        yield Cell(dataset=dataset, model=preset, seed=seed, recipe=recipe)
    for name, ablation in grid.ablations.items():
        for preset in grid.ablate if ablation.of is None else ablation.of:
            recipe = _neural(grid, preset, ablation, seed)
            yield Cell(dataset=dataset, model=preset, ablation=name, seed=seed, recipe=recipe)


def _overlap_cells(grid: Grid, study: OverlapStudy, dataset: str, seed: int) -> Iterator[Cell]:
    """Profiles contain both domains, so these cells have none."""
    without = Ablation(train={"beta": 0.0}, profiles=ProfileSource.NONE)
    for preset in study.presets:
        recipe = _neural(grid, preset, without, seed)
        for share in study.shares:
            cut = OverlapCut(share=share, seed=study.seed)
            yield Cell(dataset=dataset, model=preset, seed=seed, overlap=cut, recipe=recipe)


def _neural(grid: Grid, preset: str, ablation: Ablation, seed: int) -> NeuralRecipe:
    merged: Overrides = {}
    of_preset = grid.preset_settings.get(preset, {})
    for overrides in (grid.settings, of_preset, ablation.overrides(), {"train": {"seed": seed}}):
        for section, values in overrides.items():
            merged[section] = {**merged.get(section, {}), **values}
    config = load_preset(preset, merged)
    if config.train.max_seconds is not None:
        raise ValueError(
            f"train.max_seconds={config.train.max_seconds:g}: a cell must not depend on the speed "
            "of the machine; limit train.max_epochs instead"
        )
    if config.model.hidden != WIDTH:
        raise ValueError(f"model.hidden must stay {WIDTH}: the datasets' item tables are that wide")
    profiles = ablation.profiles if config.train.beta > 0 else ProfileSource.NONE
    return NeuralRecipe(config=config, profiles=profiles)
