"""Stage 6, tables and profiles to a model: fit the tri-thread recommender (METHOD 4 and 5)."""

import math
from statistics import median
from typing import Self

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.results import LEARNING_CURVE
from artifacts.store import Draft, Store
from model.checkpoint import save_model
from model.config import TriThreadConfig, UnknownPresetError, load_preset
from model.trainer import EpochReport, FitResult, fit
from tasks.model_inputs import load_profiles, load_sequences, load_tables
from tasks.progress import Progress, progress
from tasks.stage import StageResult, run_stage


class TrainingConfig(BaseModel):
    """Which preset of the model to fit, and what to change in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str = Field(default="best", description="'best' or 'paper'; see docs/deviations.md.")
    overrides: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict,
        description="Fields to replace, as {'train': {'max_epochs': 20}, 'model': {'blocks': 1}}.",
    )
    seed: int = Field(default=0, description="Of weights, batches, negatives and dropout.")

    @model_validator(mode="after")
    def _refuse_unknown_names(self) -> Self:
        try:
            self.resolved()
        except UnknownPresetError as error:
            raise ValueError(str(error.args[0])) from error
        return self

    def resolved(self) -> TriThreadConfig:
        """Returns the whole configuration; raises for an unknown preset or field."""
        train = {**self.overrides.get("train", {}), "seed": self.seed}
        return load_preset(self.preset, {**self.overrides, "train": train})


@task(name="train", task_run_name="train", cache_policy=NO_CACHE)
def train(
    dataset: ArtifactRef,
    tables: ArtifactRef,
    profiles: ArtifactRef,
    config: TrainingConfig,
    store_root: str,
) -> StageResult:
    """Returns the fitted model. A killed run resumes from its last whole epoch."""
    store = Store(store_root)
    resolved = config.resolved()
    parents = {"dataset": dataset, "tables": tables, "profiles": profiles}
    wanted = identity(Kind.MODEL, resolved, parents)

    def make(draft: Draft) -> None:
        checkpoints = store.workspace(f"train-{wanted.fingerprint}")
        sequences = load_sequences(store, dataset)
        with progress("train", resolved.train.max_epochs) as bar:
            fitted = fit(
                sequences,
                load_tables(store, tables),
                resolved,
                profiles=load_profiles(store, profiles),
                checkpoint_folder=checkpoints,
                on_epoch=lambda report: _show(bar, report),
            )
        save_model(draft.path, fitted.model, resolved, sequences.domain_names)
        _learning_curve(fitted).write_parquet(draft.path / LEARNING_CURVE)
        draft.notes.extend(_inherited_notes(store, tables, profiles))
        draft.counts.update(_facts(fitted))

    result = run_stage(store, "train", wanted, make)
    store.drop_workspace(f"train-{wanted.fingerprint}")
    return result


def _show(bar: Progress, report: EpochReport) -> None:
    facts = [f"loss {report.loss:.3f}", f"{report.sequences_per_second:,.0f} sequences/s"]
    if not math.isnan(report.validation_ndcg):
        facts.insert(1, f"validation NDCG@10 {report.validation_ndcg:.4f}")
    if report.phase == "refit":
        facts.append("refit on training and validation events")
    bar.advance(1, ", ".join(facts))


def _learning_curve(fitted: FitResult) -> pl.DataFrame:
    """Returns the epochs of the search; a refit has nothing left to be validated on."""
    search = [report for report in fitted.history if report.phase == "search"]
    return pl.DataFrame(
        {
            "epoch": [report.epoch for report in search],
            "loss": [report.loss for report in search],
            "validation_ndcg": [report.validation_ndcg for report in search],
            "validation_hr": [report.validation_hit_rate for report in search],
            "seconds": [report.seconds for report in search],
        }
    ).with_columns(pl.col("validation_ndcg", "validation_hr").fill_nan(None))


def _facts(fitted: FitResult) -> dict[str, int | float]:
    search = [report for report in fitted.history if report.phase == "search"]
    facts: dict[str, int | float] = {"epochs": len(search), "best_epoch": fitted.best.epoch}
    if not math.isnan(fitted.best.validation_ndcg):
        facts["validation_ndcg"] = round(fitted.best.validation_ndcg, 4)
    facts["sequences_per_second"] = round(
        median(report.sequences_per_second for report in fitted.history)
    )
    return facts


def _inherited_notes(store: Store, *parents: ArtifactRef) -> list[str]:
    """A model made from dummy vectors is a dummy's model: the words go with it."""
    return sorted({note for parent in parents for note in store.manifest(parent).notes})
