"""What cells are made from, small enough to train in a second: a shop of random histories."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from artifacts.kinds.user_profiles import UserProfiles, write_user_profiles
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from model.config import load_preset
from tasks.dump.dump_config import ColdDomain, DumpConfig, LeaveOneOut
from tasks.evaluate import stored_candidates
from tasks.experiments.cell import CellData
from tasks.experiments.grid import BaselineRecipe, Cell, NeuralRecipe, ProfileSource, Saw
from tasks.ingest import ingest
from tasks.project import ProjectConfig, project_items
from tests.tasks.shops.small_shop import stored_embeddings

DATASET = "shop"
USERS, ITEMS, WIDTH = 40, 30, 12


def cell_data(
    store: Store, folder: Path, split: LeaveOneOut | ColdDomain | None = None
) -> CellData:
    """All artifacts of a dataset with USERS users on ITEMS items of two domains."""
    rng = np.random.default_rng(11)
    events = [
        (f"u{user}", f"i{item}", "gear" if item < ITEMS // 2 else "books", place)
        for user in range(USERS)
        for place, item in enumerate(rng.integers(0, ITEMS, rng.integers(4, 12)).tolist())
    ]
    folder.mkdir(parents=True, exist_ok=True)
    columns = ["user_id", "item_id", "domain", "timestamp"]
    table = pl.DataFrame(events, schema=columns, orient="row")
    table.write_parquet(folder / "e.parquet")
    items = table.select("item_id", "domain").unique(maintain_order=True)
    items.with_columns(title=pl.col("item_id")).write_parquet(folder / "i.parquet")
    dump = DumpConfig(
        interactions=str(folder / "e.parquet"),
        items=str(folder / "i.parquet"),
        split=split or LeaveOneOut(),
    )
    dataset = ingest.fn(dump, store.root).ref
    vectors = rng.normal(size=(items.height + 1, WIDTH))
    embeddings = stored_embeddings(store, vectors, np.arange(items.height + 1) > 0)
    tables = project_items.fn(dataset, embeddings, ProjectConfig(hidden=8), store.root).ref
    return CellData(
        dataset=dataset,
        tables=tables,
        profiles={ProfileSource.LLM: _profiles(store, dataset, rng)},
        candidates={5: stored_candidates(store, dataset, 5, seed=0)},
    )


def neural(
    preset: str = "paper",
    seed: int = 0,
    model: Mapping[str, object] | None = None,
    train: Mapping[str, object] | None = None,
    profiles: ProfileSource = ProfileSource.NONE,
) -> Cell:
    """A cell of a model so small that it trains at once."""
    small = {"hidden": 8, "heads": 1, "blocks": 1, "max_length": 20, **(model or {})}
    quick = {"max_epochs": 3, "batch_size": 16, "refit": False}
    quick |= {"beta": 0.0, **(train or {}), "seed": seed}
    config = load_preset(preset, {"model": small, "train": quick})
    recipe = NeuralRecipe(config=config, profiles=profiles)
    return Cell(dataset=DATASET, model=preset, seed=seed, recipe=recipe)


def baseline(name: str = "popularity", saw: Saw = Saw.TRAIN) -> Cell:
    return Cell(dataset=DATASET, model=name, recipe=BaselineRecipe(name=name, saw=saw))


def _profiles(store: Store, dataset: ArtifactRef, rng: np.random.Generator) -> ArtifactRef:
    wanted = identity(Kind.USER_PROFILES, {"made": "by hand"}, {"dataset": dataset})
    nothing = pl.DataFrame()
    vectors = rng.normal(size=(USERS, WIDTH)).astype(np.float32)
    made = UserProfiles(nothing, nothing, nothing, vectors, np.ones(USERS, bool))
    with store.create(wanted) as draft:
        write_user_profiles(draft.path, made)
        draft.counts.update({"with_profile": USERS})
    return wanted.ref
