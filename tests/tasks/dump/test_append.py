"""Adding a dump to the last dataset gives what the whole dump gives, and says what changed."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.bundles import REFRESHED, bundle
from artifacts.kinds.dataset import DROPPED, EVENTS, ITEMS, USERS, Dataset, read_dataset
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from tasks.dump.append import Histories, described_by_both, users_training_on_others
from tasks.dump.dump_config import DumpConfig, Mode
from tasks.dump.items.item_reader import item_rows
from tasks.frame.stage import StageResult
from tasks.ingest import ingested as ingest_into
from tasks.promoting.release_history import Decision, record_decision

Event = tuple[str, str, str, int]

NAMED = ["item_id", "domain", "title"]

EARLIER: list[Event] = [
    ("ada", "1", "a", 10),
    ("ada", "1", "b", 20),
    ("ada", "2", "a", 30),
    ("bob", "2", "b", 15),
    ("bob", "1", "a", 25),
    ("bob", "3", "a", 35),
    ("cyd", "1", "a", 5),
]
LATER: list[Event] = [("bob", "9", "b", 45), ("dan", "1", "b", 50), ("cyd", "2", "b", 60)]


def ingested(
    store: Store,
    events: list[Event],
    mode: Mode = Mode.FULL,
    titles: str = "",
    items_file: str | None = None,
    **choices: object,
) -> StageResult:
    """Ingests events and lets them be what the last refresh holds."""
    folder = store.workspace("dump")
    text = ("user_id", "item_id", "domain")
    schema = {**dict.fromkeys(text, pl.String), "timestamp": pl.Int64}
    pl.DataFrame(events, schema=schema, orient="row").write_parquet(folder / "e.parquet")
    items = sorted({(item, domain, f"{titles}{item}") for _, item, domain, _ in events})
    pl.DataFrame(items, schema=NAMED, orient="row").write_parquet(folder / "i.parquet")
    items_file = items_file or str(folder / "i.parquet")
    files = {"interactions": str(folder / "e.parquet"), "items": items_file}
    dump = DumpConfig.model_validate({**files, "mode": mode, **choices})
    result = ingest_into(dump, store)
    bundle(store, Kind.REFRESH, REFRESHED, {"dataset": result.ref})
    return result


def tables(store: Store, ref: ArtifactRef) -> list[bytes]:
    return [(store.path(ref) / name).read_bytes() for name in (USERS, ITEMS, EVENTS)]


def test_two_dumps_one_after_the_other_are_the_whole_dump(store: Store, tmp_path: Path) -> None:
    ingested(store, EARLIER)
    appended = ingested(store, [*EARLIER[4:], *LATER], Mode.APPEND)
    whole = Store(tmp_path / "whole")
    assert tables(store, appended.ref) == tables(whole, ingested(whole, [*EARLIER, *LATER]).ref)


def test_what_changed_is_counted(store: Store) -> None:
    ingested(store, EARLIER)
    appended = ingested(store, [*EARLIER[4:], *LATER, LATER[0]], Mode.APPEND)
    counts = appended.counts
    added = [counts[f"new_{what}"] for what in ("events", "users", "items")]
    assert (counts["events_before"], added) == (7, [3, 1, 1])
    assert counts["rows_in"] == 7 + 7 == counts["events"] + counts["rows_dropped"]
    dropped = dict(pl.read_parquet(store.path(appended.ref) / DROPPED).rows())
    assert dropped == {"already in the dataset": 3, "repeated row": 1}
    # bob's window moves on by one, cyd's first event was training before, dan has none before.
    assert counts["profiles_to_change"] == 3


def test_a_profile_changes_only_with_the_training_events(store: Store) -> None:
    first = ingested(store, EARLIER)
    later = ingested(store, [("ada", "3", "a", 40)], Mode.APPEND)
    assert later.counts["profiles_to_change"] == 1
    assert later.ref != first.ref


def test_the_same_dump_again_is_the_dataset_that_is_there(store: Store) -> None:
    ingested(store, EARLIER)
    appended = ingested(store, LATER, Mode.APPEND)
    again = ingested(store, LATER, Mode.APPEND)
    assert (again.ref, again.reused) == (appended.ref, True)


def test_new_words_about_an_item_replace_the_old_ones(store: Store) -> None:
    ingested(store, EARLIER, titles="old ")
    appended = ingested(store, LATER, Mode.APPEND, titles="new ")
    items = read_dataset(store, appended.ref).items
    found = {(domain, item): title for item, domain, title in items.select(NAMED).rows()}
    assert found["a", "1"] == "old 1"
    assert found["b", "1"] == "new 1"


def test_appending_to_nothing_is_a_first_ingest(store: Store, tmp_path: Path) -> None:
    first = ingested(store, EARLIER, Mode.APPEND)
    whole = Store(tmp_path / "whole")
    assert tables(store, first.ref) == tables(whole, ingested(whole, EARLIER).ref)


HISTORY = st.lists(
    st.tuples(
        st.sampled_from(["u", "v", "w"]), st.sampled_from(["1", "2", "3"]), st.sampled_from("ab"),
        st.integers(1, 9),
    ),
    max_size=14,
)  # fmt: skip
BOTH_DOMAINS: list[Event] = [("u", "1", "a", 1), ("u", "1", "b", 1)]


@settings(max_examples=25, deadline=None)
@given(HISTORY, HISTORY)
def test_any_two_dumps_merge_into_the_distinct_events_of_both(
    tmp_path_factory: pytest.TempPathFactory, earlier: list[Event], later: list[Event]
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    first = read_dataset(store, ingested(store, [*BOTH_DOMAINS, *earlier]).ref)
    result = ingested(store, [*BOTH_DOMAINS, *later], Mode.APPEND)
    merged = read_dataset(store, result.ref)
    assert len(merged.item_indices) == len({*BOTH_DOMAINS, *earlier, *later})
    arrays = (merged.offsets, merged.item_indices, merged.timestamps, merged.splits)
    changed = users_training_on_others(first, Histories(merged.users, merged.items, *arrays))
    expected = [trained(first, user) != trained(merged, user) for user in merged.users["user_id"]]
    assert changed.tolist() == expected


def trained(data: Dataset, user: str) -> list[tuple[str, str]]:
    """The naive twin: a user's training events by their names, in order."""
    users, items = data.users["user_id"].to_list(), data.items.select("domain", "item_id").rows()
    return [
        items[item - 1] for index, item, _ in data.train_events().rows() if users[index] == user
    ]


def test_fields_that_new_rows_lack_keep_their_earlier_values(store: Store) -> None:
    columns = {"title": ["moka pot", None, "mug"], "brand": ["old", "acme", None]}
    later = {"title": [None, "grinder", None], "brand": ["new", None, None]}
    keys = {"item_id": ["1", "2", "3"], "domain": ["a", "a", "b"]}
    ingested(store, EARLIER)
    earlier = item_rows(pl.DataFrame({**keys, **columns}))
    known = read_dataset(store, ingested(store, EARLIER).ref)
    new = item_rows(pl.DataFrame({**keys, **later}))
    merged = described_by_both(replace(known, items=earlier), new)
    assert merged.select("title", "brand").rows() == [
        ("moka pot", "new"),
        ("grinder", "acme"),
        ("mug", None),
    ]


def test_a_dump_without_titles_can_be_appended(store: Store, tmp_path: Path) -> None:
    ingested(store, EARLIER)
    ids = sorted({(item, domain) for _, item, domain, _ in LATER})
    items = pl.DataFrame(ids, schema=["item_id", "domain"], orient="row")
    items.with_columns(price=1.5).write_parquet(tmp_path / "i.parquet")
    appended = ingested(store, LATER, Mode.APPEND, items_file=str(tmp_path / "i.parquet"))
    found = read_dataset(store, appended.ref).items
    assert found.filter(item_id="1", domain="b")["title"].to_list() == ["1"]
    assert found.filter(item_id="1", domain="b")["price"].to_list() == [1.5]


def test_a_dump_appended_to_less_than_the_served_data_says_so(store: Store) -> None:
    served = ingested(store, EARLIER)
    release = bundle(store, Kind.RELEASE, "trial", {"dataset": served.ref})
    record_decision(store, Decision.PROMOTED, "the first", lambda: (release, {}))
    note = "which have 4 events; those of the served release have 7"
    assert not any(note in each for each in ingested(store, LATER, Mode.APPEND).notes)
    ingested(store, [*EARLIER[:3], EARLIER[4]])
    assert any(note in each for each in ingested(store, LATER, Mode.APPEND).notes)
