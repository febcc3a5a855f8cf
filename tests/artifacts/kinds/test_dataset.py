"""A dataset reads back as written, in CSR form and without copying its events."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from artifacts.kinds.dataset import Dataset, Split, read_dataset, write_dataset
from artifacts.manifest import Identity, Kind, identity
from artifacts.store import ArtifactMissingError, Store

HISTORIES = [[1, 4, 1, 3], [5], [2, 2, 4]]
"""Item indices of three users; domain "a" holds items 1..3, "b" holds 4..5."""

SPLITS = [[0, 0, 1, 2], [0], [0, 1, 2]]


def an_identity() -> Identity:
    return identity(Kind.DATASET, {}, {})


def stored(tmp_path: Path, histories: list[list[int]], splits: list[list[int]]) -> Dataset:
    store = Store(tmp_path / "store [1]")
    flat = [item for history in histories for item in history]
    users = pl.DataFrame(
        {
            "user_index": range(len(histories)),
            "user_id": [f"u{n}" for n in range(len(histories))],
            "events": [len(history) for history in histories],
        },
        schema_overrides={"events": pl.UInt32},
    )
    items = pl.DataFrame({"item_index": range(1, 6), "domain": ["a", "a", "a", "b", "b"]})
    events = pl.DataFrame(
        {
            "item_index": flat,
            "timestamp": [2**33 + place for place in range(len(flat))],
            "split": [split for each in splits for split in each],
        },
        schema={"item_index": pl.UInt32, "timestamp": pl.Int64, "split": pl.Int32},
    )
    with store.create(an_identity()) as draft:
        write_dataset(draft.path, users, items, events)
    return read_dataset(store, an_identity().ref)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return stored(tmp_path, HISTORIES, SPLITS)


def test_every_history_reads_back_as_written(dataset: Dataset) -> None:
    read = [
        dataset.item_indices[start:stop].tolist()
        for start, stop in zip(dataset.offsets[:-1], dataset.offsets[1:], strict=True)
    ]
    assert read == HISTORIES
    assert dataset.splits.tolist() == [split for each in SPLITS for split in each]
    assert dataset.timestamps[-1] == 2**33 + 7


def test_types_are_those_that_the_docstring_promises(dataset: Dataset) -> None:
    assert dataset.offsets.dtype == dataset.domain_starts.dtype == np.int64
    assert dataset.item_indices.dtype == np.int32
    assert dataset.timestamps.dtype == np.int64
    assert dataset.splits.dtype == np.int8


def test_events_are_mapped_not_copied(dataset: Dataset) -> None:
    assert not dataset.item_indices.flags.owndata
    assert not dataset.item_indices.flags.writeable


def test_domains_are_ranges_of_item_indices(dataset: Dataset) -> None:
    assert dataset.domains == ("a", "b")
    assert dataset.domain_starts.tolist() == [0, 3, 5]
    assert dataset.domain_of_event.tolist() == [0, 1, 0, 0, 1, 0, 0, 1]
    assert dataset.in_domain().tolist() == [[True, True], [False, True], [True, True]]
    assert dataset.user_of_event.tolist() == [0, 0, 0, 0, 1, 2, 2, 2]


def test_only_the_training_part_is_shown_to_training(dataset: Dataset) -> None:
    train = dataset.train_events()
    assert train.select("user_index", "item_index").rows() == [(0, 1), (0, 4), (1, 5), (2, 2)]
    assert Split.TRAIN == 0


def test_a_dataset_without_events_can_be_read(tmp_path: Path) -> None:
    empty = stored(tmp_path, [], [])
    assert empty.offsets.tolist() == [0]
    assert empty.item_indices.dtype == np.int32
    assert empty.in_domain().shape == (0, 2)
    assert empty.train_events().is_empty()


def test_a_dataset_that_was_not_made_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissingError):
        read_dataset(Store(tmp_path), an_identity().ref)
