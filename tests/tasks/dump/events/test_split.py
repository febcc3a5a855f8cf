"""Every protocol end to end: what is held out, that training cannot see it, that all goes on."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from artifacts import columns as col
from artifacts.kinds.dataset import Dataset, Split, read_dataset
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from model.config import load_preset
from model.data.batches import training_batch
from model.data.sequences import TEST, VALIDATION
from model.data.tables import ItemTables
from model.scoring.ranking import sample_candidates
from model.training.trainer import fit
from tasks.dump.dump_config import ByTime, ByUser, DumpConfig, LeaveOneOut
from tasks.dump.events.split import NothingHeldOutError
from tasks.evaluate import SAMPLED, baselines, measure
from tasks.frame.model_inputs import sequences_of
from tasks.ingest import ingest
from tasks.profiling.interest_titles import titles_by_interest
from tasks.recommend import RecommendationConfig, recommendations

PARTS = {Split.TRAIN, Split.VALIDATION, Split.TEST}
START = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
DAY = 86_400
USERS, LONGEST = 40, 14
PROTOCOLS = {
    "leave-one-out": LeaveOneOut(),
    "time": ByTime(validation_share=0.2, test_share=0.3),
    "users": ByUser(validation_share=0.2, test_share=0.25),
}


def shop(swap_after: int | None = None) -> pl.DataFrame:
    """Forty users, an event a day; other items from the day after ``swap_after`` on."""
    rng = np.random.default_rng(3)
    rows = []
    for user in range(USERS):
        for day in range(int(rng.integers(1, LONGEST))):
            item, domain = int(rng.integers(9)), "ab"[int(rng.integers(2))]
            if swap_after is not None and day > swap_after:
                item = (item + 1) % 9
            rows.append((f"u{user:02}", f"i{item}", domain, START + day * DAY + user))
    schema = ["user_id", "item_id", "domain", "timestamp"]
    return pl.DataFrame(rows, schema=schema, orient="row")


def stored(store: Store, events: pl.DataFrame, **choices: object) -> ArtifactRef:
    path = store.workspace("dump") / "events.parquet"
    events.write_parquet(path)
    items = pl.concat(
        [
            pl.DataFrame({"item_id": [f"i{n}" for n in range(9)]}).with_columns(
                pl.lit(domain).alias("domain"), (pl.lit(domain) + pl.col("item_id")).alias("title")
            )
            for domain in "ab"
        ]
    )
    items.write_parquet(path.with_name("items.parquet"))
    dump = {"interactions": str(path), "items": str(path.with_name("items.parquet")), **choices}
    return ingest.fn(DumpConfig.model_validate(dump), store.root).ref


@pytest.fixture(params=PROTOCOLS)
def held_out(request: pytest.FixtureRequest, store: Store) -> Dataset:
    return read_dataset(store, stored(store, shop(), split=PROTOCOLS[request.param]))


def test_every_protocol_keeps_all_events_and_holds_some_out(held_out: Dataset) -> None:
    assert len(held_out.splits) == shop().height
    assert set(held_out.splits.tolist()) == PARTS


def test_no_model_learns_from_what_a_split_by_time_holds_out(store: Store) -> None:
    ref = stored(store, shop(), split=PROTOCOLS["time"])
    data = read_dataset(store, ref)
    last_trained = data.timestamps[data.splits == Split.TRAIN].max()
    first = {split: data.timestamps[data.splits == split].min() for split in PARTS}
    assert last_trained < first[Split.VALIDATION] < first[Split.TEST]
    assert "training sees nothing later" in store.manifest(ref).notes[0]
    counts = store.manifest(ref).counts
    assert counts["test_events"] == np.count_nonzero(data.splits == Split.TEST)


def test_changing_the_future_changes_nothing_that_training_sees(store: Store) -> None:
    split = ByTime(validation_from=datetime(2020, 1, 6), test_from=datetime(2020, 1, 8))
    before = read_dataset(store, stored(store, shop(), split=split))
    after = read_dataset(store, stored(store, shop(swap_after=4), split=split))
    assert not np.array_equal(before.item_indices, after.item_indices)
    assert before.train_events().equals(after.train_events())
    users = np.arange(7)
    batches = [training_batch(sequences_of(d).training(), users, 9) for d in (before, after)]
    assert batches[0].mixed_items.equal(batches[1].mixed_items)
    clusters = before.items.select(col.ITEM_INDEX, pl.lit(0).alias(col.CLUSTER))
    assert titles_by_interest(before, clusters).equals(titles_by_interest(after, clusters))


def test_held_out_users_have_no_training_event_and_the_draw_is_seeded(store: Store) -> None:
    data = read_dataset(store, stored(store, shop(), split=PROTOCOLS["users"]))
    by_user = pl.DataFrame({"user": data.user_of_event, "split": data.splits}).unique()
    assert by_user["user"].is_unique().all()
    assert by_user["split"].value_counts().sort("split")["count"].to_list() == [22, 8, 10]
    again = read_dataset(store, stored(store, shop(), split=PROTOCOLS["users"], seed=1))
    assert not np.array_equal(data.splits, again.splits)


def test_all_stages_go_on_with_several_held_out_events_a_user(held_out: Dataset) -> None:
    sequences = sequences_of(held_out)
    rng = np.random.default_rng(0)
    tables = [rng.normal(size=(sequences.item_count + 1, w)).astype(np.float32) for w in (13, 8)]
    for table in tables:
        table[0] = 0
    quick = {"train": {"max_epochs": 2, "batch_size": 16}, "model": {"hidden": 8, "heads": 1}}
    fitted = fit(sequences, ItemTables(*tables), load_preset("paper", quick))
    assert np.isfinite(fitted.best.validation_ndcg)
    prefixes = sequences.prefixes_of_split(TEST)
    metrics, ranks = measure(
        baselines(sequences),
        sequences,
        {SAMPLED: sample_candidates(sequences, prefixes, 3, seed=0)},
    )
    assert metrics.filter(group="all", domain="all")["targets"].unique().to_list() == [
        len(prefixes)
    ]
    assert ranks.filter(ranking="full", model="popularity").height == len(prefixes)
    made = recommendations(held_out, baselines(sequences)["popularity"], RecommendationConfig())
    assert made["user_id"].n_unique() == held_out.users.height
    assert len(sequences.prefixes_of_split(VALIDATION)) > 0


def test_moments_that_leave_nothing_are_refused_with_the_span(store: Store) -> None:
    late = ByTime(validation_from=datetime(2030, 1, 1), test_from=datetime(2031, 1, 1))
    with pytest.raises(
        NothingHeldOutError, match=r"nothing to test: the events reach from 2020-01-01"
    ):
        stored(store, shop(), split=late)
    early = ByTime(validation_from=datetime(2000, 1, 1))
    with pytest.raises(NothingHeldOutError, match="nothing to train on"):
        stored(store, shop(), split=early)


@pytest.mark.parametrize(
    "split",
    [
        {"kind": "time", "validation_share": 0.5, "test_share": 0.5},
        {"kind": "time", "validation_from": "2020-02-01", "test_from": "2020-01-01"},
        {"kind": "users", "validation_share": 0.6, "test_share": 0.4},
        {"kind": "day"},
    ],
)
def test_a_split_that_cannot_be_is_refused_before_reading(split: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"nothing to train|must be before|no user|kind"):
        DumpConfig.model_validate({"interactions": "e.csv", "split": split})
