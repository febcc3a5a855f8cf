"""A small made-up shop whose sizes all differ, so that swapped axes cannot pass unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.config import ModelConfig, TrainConfig, TriThreadConfig
from model.data.sequences import Sequences, sequences_from_lists
from model.data.tables import ItemTables, ProfileVectors
from model.network.tri_thread import TriThread

HIDDEN, WIDTH, PROFILE_WIDTH = 8, 13, 10


@dataclass(frozen=True)
class Shop:
    sequences: Sequences
    tables: ItemTables
    profiles: ProfileVectors

    def config(
        self,
        model: dict[str, object] | None = None,
        train: dict[str, object] | None = None,
    ) -> TriThreadConfig:
        return TriThreadConfig(
            model=ModelConfig.model_validate({"hidden": HIDDEN, "dropout": 0.2, **(model or {})}),
            train=TrainConfig.model_validate(
                {"batch_size": 9, "max_epochs": 3, "learning_rate": 0.01, **(train or {})}
            ),
        )

    def model(self, model: dict[str, object] | None = None) -> TriThread:
        torch.manual_seed(2)
        config = self.config(model).model
        return TriThread(self.tables, self.sequences.domain_starts, config, PROFILE_WIDTH).eval()


def random_histories(
    rng: np.random.Generator, users: int, items: int, longest: int
) -> list[list[int]]:
    return [rng.integers(1, items + 1, rng.integers(0, longest + 1)).tolist() for _ in range(users)]


def small_shop(domain_sizes: tuple[int, ...] = (7, 11), users: int = 23, longest: int = 12) -> Shop:
    rng = np.random.default_rng(5)
    starts = [0, *np.cumsum(domain_sizes).tolist()]
    items = starts[-1]
    histories = random_histories(rng, users, items, longest)
    sequences = sequences_from_lists(
        histories, starts, tuple(f"domain{d}" for d in range(len(domain_sizes))), held_out=2
    )
    tables = ItemTables(_table(rng, items, WIDTH), _table(rng, items, HIDDEN))
    has_profile = rng.random(users) < 0.6
    vectors = rng.normal(size=(users, PROFILE_WIDTH)).astype(np.float32)
    vectors[~has_profile] = np.nan
    return Shop(sequences, tables, ProfileVectors(vectors, has_profile))


@pytest.fixture
def open_shop() -> Callable[..., Shop]:
    return small_shop


@pytest.fixture
def shop() -> Shop:
    return small_shop()


def with_other_items(sequences: Sequences, changed: NDArray[np.bool_]) -> Sequences:
    """Another item in each of the `changed` events (E,), of which there must be some."""
    assert changed.any()
    items = np.where(changed, sequences.items % sequences.item_count + 1, sequences.items)
    return replace(sequences, items=items)


def _table(rng: np.random.Generator, items: int, width: int) -> np.ndarray:
    table = rng.normal(scale=0.5, size=(items + 1, width)).astype(np.float32)
    table[0] = 0
    return table
