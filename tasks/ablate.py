"""Stage 8, dataset to ablation: contribution of item texts and user profiles on this data.

Training the release's model three times would be too expensive. A smaller model of the preset is
trained on a sample of users with both, without item texts and without user profiles; differences in
NDCG@10 on events before the test events have 95 % intervals of a paired bootstrap over users.
"""

import polars as pl
from pydantic import Field

from artifacts.drafts import Draft
from artifacts.kinds.ablation import ABLATION, ABLATION_SCHEMA, FEWEST
from artifacts.manifest import Kind, identity
from artifacts.store import Store
from artifacts.strict import Strict
from model.config import TriThreadConfig
from model.scoring.ranking import NanScoreError
from model.training.trainer import DivergedError, NothingToLearnError
from tasks.ablation.differences import Inputs, differences
from tasks.ablation.sample import Sample, draw_sample
from tasks.frame.model_inputs import load_profiles, load_sequences, load_tables
from tasks.frame.progress import progress
from tasks.frame.stage import StageResult, run_stage, stage_task
from tasks.frame.training_sources import TrainingSources

VARIANTS = 3
MOST_ITEMS = 300_000
"""Maximum items; larger catalogues would take too long."""


class AblationConfig(Strict):
    """Settings of the sample and its training."""

    users: int = Field(
        default=2_000,
        ge=0,
        description="Number of sampled users, profiled ones first; 0 disables the ablation.",
    )
    epochs: int = Field(default=12, ge=1, description="Maximum epochs of each variant.")
    seed: int = Field(default=0, description="Seed of users and held-out events.")


def ablation_training(config: TriThreadConfig, epochs: int) -> TriThreadConfig:
    """Returns a configuration with one ensemble member, few epochs and no refit."""
    model = config.model.model_copy(update={"ensemble_size": 1})
    shorter = {
        "max_epochs": min(epochs, config.train.max_epochs),
        "patience": min(3, config.train.patience),
        "patience_steps": 0,
        "r_drop_weight": 0.0,
        "refit": False,
        "accumulate": 1,
        "validation_users": None,
        "max_seconds": None,
    }
    train = config.train.model_copy(update=shorter)
    return config.model_copy(update={"model": model, "train": train})


@stage_task("ablate")
def ablate(
    sources: TrainingSources,
    training: TriThreadConfig,
    config: AblationConfig,
    store_root: str,
    device: str = "cpu",
) -> StageResult:
    """Returns the differences (`ABLATION_SCHEMA`), empty if none can be measured.

    Args:
        training: the configuration of the release's model; `ablation_training` shortens it.
        device: where the variants are trained, as in `TrainingConfig`.
    """
    store = Store(store_root)
    shortened = ablation_training(training, config.epochs)
    parameters = {"ablation": config.model_dump(), "training": shortened.model_dump(mode="json")}
    wanted = identity(Kind.ABLATION, parameters, sources.without_crossings())

    def make(draft: Draft) -> None:
        stored = load_profiles(store, sources.profiles)
        sample = draw_sample(
            load_sequences(store, sources.dataset),
            config.users,
            None if stored is None else stored.has_profile,
            config.seed,
        )
        inputs = Inputs(load_tables(store, sources.tables), sample.own(stored), shortened)
        found = _measured(sample, inputs, config.seed, device, draft)
        found.write_parquet(draft.path / ABLATION)
        draft.counts.update({"users": len(sample.users), "of_users": sample.eligible})

    return run_stage(store, "ablate", wanted, make)


def _measured(sample: Sample, inputs: Inputs, seed: int, device: str, draft: Draft) -> pl.DataFrame:
    nothing = pl.DataFrame(schema=ABLATION_SCHEMA)
    if (items := sample.sequences.item_count) > MOST_ITEMS:
        draft.notes.append(
            f"contribution of item texts and user profiles not measured: the catalogue "
            f"of {items:,} items is over {MOST_ITEMS:,}"
        )
        return nothing
    if len(sample.users) < FEWEST:
        draft.notes.append(
            f"contribution of item texts and user profiles not measured: "
            f"{len(sample.users)} users have three events before their test events, and "
            f"{FEWEST} are needed"
        )
        return nothing
    try:
        with progress("ablate", VARIANTS) as bar:
            return differences(sample, inputs, seed, device, lambda name: bar.advance(1, name))
    except (NothingToLearnError, DivergedError, NanScoreError) as error:
        draft.notes.append(f"contribution of item texts and user profiles not measured: {error}")
        return nothing
