"""Conversion of artifacts to model inputs: sequences, tables, profiles."""

import numpy as np
import torch

from artifacts.kinds.crossing_answers import read_crossing_answers
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.kinds.item_vectors import projected, read_item_tables
from artifacts.kinds.user_profiles import read_profile_vectors
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from model.data.sequences import Sequences
from model.data.tables import AnswerVectors, ItemTables, ProfileVectors
from tasks.system.memory import machine_memory


def sequences_of(data: Dataset) -> Sequences:
    """Returns the histories of all users, with the split of every event."""
    return Sequences(
        offsets=data.offsets,
        items=data.item_indices.astype(np.int64),
        split=data.splits,
        domain_starts=data.domain_starts,
        domain_names=data.domains,
    )


def load_sequences(store: Store, dataset: ArtifactRef) -> Sequences:
    """Reads a dataset as sequences; raises `ArtifactMissingError`."""
    return sequences_of(read_dataset(store, dataset))


def load_tables(store: Store, tables: ArtifactRef) -> ItemTables:
    """Reads the global table and the initial local table."""
    stored = read_item_tables(store, tables)
    return ItemTables(stored.global_table, stored.local_table)


def load_profiles(store: Store, profiles: ArtifactRef) -> ProfileVectors | None:
    """Returns the embedded profiles, None without any."""
    vectors, has_profile = read_profile_vectors(store, profiles)
    return ProfileVectors(vectors, has_profile) if has_profile.any() else None


def load_crossings(
    store: Store, crossings: ArtifactRef | None, tables: ArtifactRef
) -> AnswerVectors | None:
    """Returns the cross-domain answers projected to the global table, None without any."""
    if crossings is None:
        return None
    stored = read_crossing_answers(store, crossings)
    if not stored.answer_of.any():
        return None
    places = read_item_tables(store, tables).projections
    width = len(places["global.components"])
    vectors = np.zeros((len(stored.vectors), width), np.float32)
    told = np.unique(stored.answer_of[stored.answer_of > 0])
    vectors[told] = projected(stored.vectors[told], places, "global", width)
    return AnswerVectors(vectors, stored.answer_of)


def table_room(device: torch.device, processes: int = 1) -> int:
    """Returns the bytes that one of several processes has for tables, on its device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return machine_memory() // processes
