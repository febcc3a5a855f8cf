"""A store with everything that training starts from, made without any endpoint."""

import numpy as np
import polars as pl
from safetensors.numpy import load_file

from artifacts.bundles import REFRESHED, bundle
from artifacts.kinds.user_profiles import UserProfiles, write_user_profiles
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from tasks.frame.stage import StageResult
from tasks.frame.training_sources import TrainingSources
from tasks.llm.providers.endpoints import DUMMY_NOTE
from tasks.project import ProjectConfig, project_items
from tasks.train import TrainingConfig, train
from tests.tasks.shops.small_shop import SmallShop, stored_embeddings

QUICK_TRAINING = TrainingConfig(
    preset="best",
    overrides={
        "model": {"hidden": 8, "heads": 2, "blocks": 1},
        "train": {"max_epochs": 5, "patience": 50, "batch_size": 2},
    },
)


class PreparedTraining:
    """Dataset, item tables and profiles of the small shop."""

    def __init__(self, store: Store, *, profiled: bool = True, hidden: int = 8) -> None:
        self.store = store
        self.dataset = SmallShop().ingested(store)
        rng = np.random.default_rng(3)
        vectors = rng.normal(size=(10, 12))
        embeddings = stored_embeddings(store, vectors, np.arange(10) > 0)
        self.tables = project_items.fn(
            self.dataset, embeddings, ProjectConfig(hidden=hidden), store.root
        ).ref
        self.profiles = self._profiles(rng, profiled)

    @property
    def sources(self) -> TrainingSources:
        return TrainingSources(self.dataset, self.tables, self.profiles)

    def trained(self, config: TrainingConfig = QUICK_TRAINING) -> StageResult:
        return train.fn(self.sources, config, self.store.root)

    def point_refresh(self) -> None:
        """Lets them be the latest refresh."""
        parts = {"dataset": self.dataset, "tables": self.tables, "profiles": self.profiles}
        bundle(self.store, Kind.REFRESH, REFRESHED, parts)

    def weights(self, made: StageResult) -> dict[str, np.ndarray]:
        return load_file(self.store.path(made.ref) / "weights.safetensors")

    def _profiles(self, rng: np.random.Generator, profiled: bool) -> ArtifactRef:
        wanted = identity(Kind.USER_PROFILES, {"profiled": profiled}, {"dataset": self.dataset})
        empty = pl.DataFrame()
        width = 12 if profiled else 0
        vectors = rng.normal(size=(5, width)).astype(np.float32)
        has_profile = np.array([True, True, False, True, True]) & profiled
        vectors[~has_profile] = 0
        made = UserProfiles(empty, empty, empty, vectors, has_profile)
        with self.store.create(wanted) as draft:
            write_user_profiles(draft.path, made)
            draft.notes.append(DUMMY_NOTE)
        return wanted.ref
