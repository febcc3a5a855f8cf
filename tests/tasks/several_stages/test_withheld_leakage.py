"""Whatever a user does in a withheld domain, nothing that is made before measuring changes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

from artifacts.kinds.clusters import read_clusters
from artifacts.kinds.dataset import ITEMS, Dataset, Split, read_dataset
from artifacts.kinds.item_vectors import read_item_tables
from artifacts.kinds.user_profiles import UserProfiles, read_user_profiles
from artifacts.store import Store
from model.baselines.simple import Popularity
from model.config import TriThreadConfig, load_preset
from model.data.negatives import UnseenItems
from model.data.sequences import COLD_TEST, COLD_VALIDATION, VALIDATION
from model.scoring.ranking import sample_candidates
from model.training.trainer import FitResult, fit
from tasks.cluster import ClusterConfig, cluster_items
from tasks.cross_domains import CrossingConfig, cross_domains
from tasks.embed import embed_items
from tasks.frame.model_inputs import load_profiles, load_tables, sequences_of
from tasks.name_clusters import name_clusters
from tasks.profile import ProfileConfig, profile_users
from tasks.project import ProjectConfig, project_items
from tests.fakes import CHAT, EMBEDDINGS, faulty_endpoint
from tests.tasks.shops.cold_shop import ITEMS as ITEMS_A_DOMAIN
from tests.tasks.shops.cold_shop import cold_events, ingested
from tests.tasks.shops.small_shop import LENIENT, endpoints_at

SMALL = {
    "model": {"hidden": 8, "heads": 2, "blocks": 1, "max_length": 12},
    "train": {"max_epochs": 3, "batch_size": 8, "negatives": 6, "validation_users": 9},
}


@dataclass(frozen=True)
class Refreshed:
    """Everything that a training starts from, and the prompts that it was made with."""

    data: Dataset
    items_file: bytes
    clusters: pl.DataFrame
    profiles: UserProfiles
    tables: dict[str, NDArray[np.float32]]
    fitted: FitResult
    prompts: set[str]


def refreshed(store: Store, events: pl.DataFrame, folder: Path) -> Refreshed:
    with faulty_endpoint() as server:
        endpoints = endpoints_at(server.base_url)
        dataset = ingested(store, events, folder)
        root = store.root
        embeddings = embed_items.fn(dataset, endpoints.embedding, LENIENT, root).ref
        clusters = cluster_items.fn(embeddings, ClusterConfig(clusters=3), root).ref
        profiles = profile_users.fn(
            dataset, clusters, endpoints, LENIENT, ProfileConfig(), root
        ).ref
        name_clusters.fn(dataset, clusters, endpoints.chat, LENIENT, root)
        asked = CrossingConfig(enabled=True, items=3)
        cross_domains.fn(dataset, clusters, endpoints, LENIENT, asked, root)
        tables = project_items.fn(dataset, embeddings, ProjectConfig(hidden=8), root).ref
        prompts = {
            f"{exchange.route} {text}"
            for exchange in server.answered
            if exchange.route in (CHAT, EMBEDDINGS)
            for text in exchange.prompts
        }
    data, stored = read_dataset(store, dataset), read_item_tables(store, tables)
    config: TriThreadConfig = load_preset("large", SMALL)  # type: ignore[arg-type]
    return Refreshed(
        data=data,
        items_file=(store.path(dataset) / ITEMS).read_bytes(),
        clusters=read_clusters(store, clusters),
        profiles=read_user_profiles(store, profiles),
        tables={"global": stored.global_table, "local": stored.local_table},
        fitted=fit(
            sequences_of(data), load_tables(store, tables), config, load_profiles(store, profiles)
        ),
        prompts=prompts,
    )


def with_other_withheld(events: pl.DataFrame, data: Dataset) -> pl.DataFrame:
    """Other items at other times in the withheld domains, and one event more in each."""
    cold = data.splits > Split.TEST
    names = pl.DataFrame(
        {
            "user_id": data.users["user_id"].to_numpy()[data.user_of_event[cold]],
            "domain": np.array(data.domains)[data.domain_of_event[cold]],
        }
    ).unique()
    kept = events.join(names, on=["user_id", "domain"], how="anti", maintain_order="left")
    gone = events.join(names, on=["user_id", "domain"], how="semi", maintain_order="left")
    number = pl.col("item_id").str.strip_prefix("i").cast(pl.Int64)
    changed = gone.with_columns(
        (pl.lit("i") + ((number + 1) % ITEMS_A_DOMAIN).cast(pl.String)).alias("item_id"),
        (100_000 - pl.col("timestamp")).alias("timestamp"),
    )
    more = changed.unique(["user_id", "domain"], maintain_order=True).with_columns(
        pl.lit("i0").alias("item_id"), pl.col("timestamp") + 7
    )
    return pl.concat([more, changed, kept])


@pytest.fixture
def pair(store: Store, tmp_path: Path, inline_shards: None) -> tuple[Refreshed, Refreshed]:
    before = refreshed(store, cold_events(), tmp_path / "dump")
    events = with_other_withheld(cold_events(), before.data)
    return before, refreshed(Store(tmp_path / "other"), events, tmp_path / "other-dump")


def test_nothing_upstream_sees_a_withheld_event(pair: tuple[Refreshed, Refreshed]) -> None:
    before, after = pair
    assert _withheld(before.data) != _withheld(after.data)

    assert before.items_file == after.items_file
    assert before.data.users["user_id"].equals(after.data.users["user_id"])
    assert before.data.train_events().equals(after.data.train_events())

    assert before.prompts == after.prompts
    assert before.clusters.equals(after.clusters)
    assert before.profiles.profiles.equals(after.profiles.profiles)
    assert before.profiles.interests.equals(after.profiles.interests)
    np.testing.assert_array_equal(before.profiles.vectors, after.profiles.vectors)
    for name, table in before.tables.items():
        assert table.tobytes() == after.tables[name].tobytes(), name

    sequences = [sequences_of(each.data) for each in pair]
    for name in ("offsets", "items", "split"):
        one, other = (getattr(each.without_withheld(), name) for each in sequences)
        assert one.tobytes() == other.tobytes(), name
    asked = [each.prefixes_of_split(VALIDATION) for each in sequences]
    drawn = [
        sample_candidates(each.before_test(), prefixes, 5, 0)
        for each, prefixes in zip(sequences, asked, strict=True)
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    users = np.arange(len(before.data.offsets) - 1)
    unseen = [UnseenItems(each.training()).count(users, 1) for each in sequences]
    np.testing.assert_array_equal(unseen[0], unseen[1])
    popular = [Popularity.fit(each).counts for each in sequences]
    np.testing.assert_array_equal(popular[0], popular[1])

    one, other = before.fitted, after.fitted
    figures = [
        [(report.loss, report.validation_ndcg) for report in each.history] for each in (one, other)
    ]
    np.testing.assert_array_equal(figures[0], figures[1])
    assert one.model.memory is not None
    weights = other.model.state_dict()
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_what_is_left_of_those_users_does_train(pair: tuple[Refreshed, Refreshed]) -> None:
    """So that the test above is not one of users who are nowhere."""
    data = pair[0].data
    cold = np.unique(data.user_of_event[data.splits > Split.TEST])
    trained = set(data.train_events()["user_index"].to_list())
    assert len(cold) > 10
    assert trained >= set(cold.tolist())
    roles = set(data.splits[data.splits > Split.TEST].tolist())
    assert roles == {COLD_VALIDATION, COLD_TEST}


def _withheld(data: Dataset) -> list[tuple[int, int]]:
    cold = data.splits > Split.TEST
    return list(
        zip(data.user_of_event[cold].tolist(), data.item_indices[cold].tolist(), strict=True)
    )
