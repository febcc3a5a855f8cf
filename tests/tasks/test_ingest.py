"""Ingest: nothing is lost without a count, and what stays is ordered, indexed and split."""

import random
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from artifacts.kinds.dataset import Split
from artifacts.store import Store
from tasks.dump.dump_config import DumpConfig
from tasks.dump.items.item_reader import TooFewDomainsError
from tasks.dump.sources.files import UnreadableDumpError
from tasks.ingest import dataset_identity, ingested
from tests.tasks.dump.made_datasets import (
    ROWS,
    SCHEMA,
    Made,
    Row,
    dropped_interactions,
    made,
    made_of,
    write,
)

DATA = Path(__file__).parents[3] / "shared" / "data"


def test_histories_are_in_time_order_and_split_at_their_end(tmp_path: Path) -> None:
    result = made_of(tmp_path, ROWS)
    assert result.history == {
        "u": [
            ("b", "1", 10, Split.TRAIN),
            ("a", "2", 20, Split.TRAIN),
            ("b", "3", 20, Split.VALIDATION),
            ("a", "1", 30, Split.TEST),
        ],
        "v": [("b", "3", 4, Split.TRAIN), ("a", "1", 5, Split.TRAIN)],
        "ü漢": [("a", "2", 7, Split.TRAIN)],
    }
    assert result.counts == {
        "rows_in": 7,
        "events": 7,
        "rows_dropped": 0,
        "users": 3,
        "users_in_several_domains": 2,
        "items": 4,
        "items_without_text": 4,
        "items_never_bought": 0,
        "items_not_described": 4,
        "train_events": 5,
        "validation_events": 1,
        "test_events": 1,
    }


def test_one_item_id_in_two_domains_is_two_items(tmp_path: Path) -> None:
    items = made_of(tmp_path, ROWS).dataset.items
    assert items.select("item_index", "domain", "item_id").rows() == [
        (1, "a", "1"),
        (2, "a", "2"),
        (3, "b", "1"),
        (4, "b", "3"),
    ]


def test_equal_times_keep_the_order_of_the_dump(tmp_path: Path) -> None:
    rows: list[Row] = [("u", str(n * 7 % 31), "ab"[n % 2], 50 if n < 20 else 9) for n in range(31)]
    ids = [event[1] for event in made_of(tmp_path, rows).history["u"]]
    assert ids == [str(row[1]) for row in [*rows[20:], *rows[:20]]]


def test_order_within_a_second_counts(tmp_path: Path) -> None:
    start = 1_400_000_000_000
    rows: list[Row] = [("u", str(n), "ab"[n % 2], start + 9 - n) for n in range(5)]
    history = made_of(tmp_path, rows).history["u"]
    assert [event[1] for event in history] == ["4", "3", "2", "1", "0"]
    assert {event[2] for event in history} == {1_400_000_000}


def test_repeated_rows_are_dropped_and_counted(tmp_path: Path) -> None:
    result = made_of(tmp_path, [*ROWS, *ROWS[:3], ROWS[0]])
    assert result.history == made_of(tmp_path, ROWS).history
    assert result.dropped == {"repeated row": 4}
    assert result.counts["rows_dropped"] == 4


def test_a_second_choice_of_an_item_stays_or_goes_as_asked(tmp_path: Path) -> None:
    rows: list[Row] = [("u", "1", "a", 9), ("u", "1", "a", 3), ("u", "1", "b", 5), *ROWS[4:]]
    kept, first = made_of(tmp_path, rows), made_of(tmp_path, rows, repeats="first")
    assert [event[:3] for event in kept.history["u"]] == [
        ("a", "1", 3),
        ("b", "1", 5),
        ("a", "1", 9),
    ]
    assert [event[:3] for event in first.history["u"]] == [("a", "1", 3), ("b", "1", 5)]
    assert first.dropped == {"item chosen before": 1}


def test_unusable_rows_go_to_quarantine_and_are_counted(tmp_path: Path) -> None:
    bad: list[Row] = [(None, "1", "a", 1), ("u", None, "a", 1), ("u", "1", "a", None)]
    result = made_of(tmp_path, [bad[0], *ROWS, *bad[1:], bad[2]])
    assert result.dropped == {
        "interactions: no user_id": 1,
        "interactions: no item_id": 1,
        "interactions: no usable timestamp": 2,
    }
    assert result.quarantine.select("row", "reason").rows() == [
        (0, "no user_id"),
        (8, "no item_id"),
        (9, "no usable timestamp"),
        (10, "no usable timestamp"),
    ]
    assert result.counts["rows_in"] == 11
    assert result.history == made_of(tmp_path, ROWS).history


def test_items_come_from_events_and_from_their_file(tmp_path: Path) -> None:
    described = pl.DataFrame(
        {
            "item_id": ["1", "9", "1", "3"],
            "domain": ["a", "b", "c", "b"],
            "title": ["Tea &amp; <b>milk</b>\n", "Never bought", "Elsewhere", "<br>"],
        }
    )
    described.write_parquet(tmp_path / "items.parquet")
    result = made_of(tmp_path, ROWS, items=str(tmp_path / "items.parquet"))
    assert result.dataset.items.select("domain", "item_id", "title").rows() == [
        ("a", "1", "Tea & milk"),
        ("a", "2", None),
        ("b", "1", None),
        ("b", "3", None),
        ("b", "9", "Never bought"),
        ("c", "1", "Elsewhere"),
    ]
    assert result.counts["items_without_text"] == 3
    assert result.counts["items_never_bought"] == 2
    assert result.dataset.domain_starts.tolist() == [0, 2, 5, 6]

    chosen = made_of(tmp_path, ROWS, items=str(tmp_path / "items.parquet"), domains=["a", "b"])
    assert chosen.dataset.domains == ("a", "b")


def test_a_dump_without_an_event_is_to_be_exported_again(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDumpError, match=r"there is no event in it; export it again"):
        made_of(tmp_path, [])


def test_fewer_than_two_domains_with_events_is_refused(tmp_path: Path) -> None:
    one: list[Row] = [("u", "1", "a", 1), ("u", "2", "a", 2)]
    with pytest.raises(TooFewDomainsError, match=r"1 domain\(s\) \(a\).*at least two"):
        made_of(tmp_path, one)
    with pytest.raises(TooFewDomainsError, match=r"quarantined: no domain \(1 of interactions\)"):
        made_of(tmp_path, [*one, ("u", "1", None, 3)])
    with pytest.raises(TooFewDomainsError, match=r"1 domain\(s\) \(b\)"):
        made_of(tmp_path, ROWS, domains=["b"])
    with pytest.raises(TooFewDomainsError, match="none"):
        made_of(tmp_path, ROWS, user_core=9, max_users=2)
    described = pl.DataFrame({"item_id": ["1"], "domain": ["b"], "title": ["Never bought"]})
    described.write_parquet(tmp_path / "items.parquet")
    with pytest.raises(TooFewDomainsError, match=r"1 domain\(s\) \(a\)"):
        made_of(tmp_path, one, items=str(tmp_path / "items.parquet"))
    assert (
        Store(tmp_path / "store").find(
            dataset_identity(DumpConfig(interactions=write(tmp_path, one)))
        )
        is None
    )


def shop(users: int, seed: int = 5) -> list[Row]:
    draw = random.Random(seed)
    return [
        (f"u{user}", str(draw.randrange(12)), draw.choice("ab"), draw.randrange(1000))
        for user in range(users)
        for _ in range(draw.randrange(2, 9))
    ]


def test_a_sample_is_seeded_and_a_larger_one_contains_a_smaller(tmp_path: Path) -> None:
    rows = shop(40)
    samples = [set(made_of(tmp_path, rows, max_users=n).history) for n in (3, 10, 25)]
    assert [len(sample) for sample in samples] == [3, 10, 25]
    assert samples[0] < samples[1] < samples[2]
    shuffled = random.Random(1).sample(rows, len(rows))
    assert set(made_of(tmp_path, shuffled, max_users=10).history) == samples[1]
    assert set(made_of(tmp_path, rows, max_users=10, seed=1).history) != samples[1]
    assert len(made_of(tmp_path, rows, max_users=99).history) == 40


def test_a_core_keeps_what_has_exactly_its_count(tmp_path: Path) -> None:
    rows: list[Row] = [
        *[("p", str(n), "a", n) for n in range(3)],
        *[("q", str(n), "b", n) for n in range(2)],
        ("r", "0", "a", 1),
        ("r", "0", "b", 2),
        ("r", "1", "b", 3),
        ("q", "9", "a", 4),
        ("r", "9", "a", 4),
    ]
    assert set(made_of(tmp_path, rows, user_core=4).history) == {"r"}
    result = made_of(tmp_path, rows, item_core=2, user_core=2)
    assert set(result.history) == {"q", "r"}, "p falls only after its items have fallen"
    assert result.counts["events"] == 6
    assert result.dropped == {"item below its core": 3, "user below its core": 1}


def test_every_form_and_order_of_a_dump_gives_the_same_events(tmp_path: Path) -> None:
    rows = [(u, i, d, 1_400_000_000 + place * 61) for place, (u, i, d, _) in enumerate(shop(15))]
    table = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    mixed = table.sample(fraction=1.0, shuffle=True, seed=3)
    table.write_parquet(tmp_path / "a.parquet")
    table.write_csv(tmp_path / "a.csv")
    mixed.write_ndjson(tmp_path / "a.jsonl")
    dates = mixed.with_columns(pl.from_epoch("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    dates.write_csv(tmp_path / "dates.csv")
    first, *others = (
        made(tmp_path, DumpConfig(interactions=str(tmp_path / name)))
        for name in ("a.parquet", "a.csv", "a.jsonl", "dates.csv")
    )
    for other in others:
        assert other.history == first.history
        assert other.dataset.items.equals(first.dataset.items)
        assert other.counts == first.counts


def test_the_identity_follows_content_and_settings_not_names(tmp_path: Path) -> None:
    first = dataset_identity(DumpConfig(interactions=write(tmp_path, ROWS)))
    moved = tmp_path / "elsewhere.parquet"
    (tmp_path / "interactions.parquet").rename(moved)
    assert dataset_identity(DumpConfig(interactions=str(moved))) == first
    assert dataset_identity(DumpConfig(interactions=str(moved), user_core=2)) != first
    assert dataset_identity(DumpConfig(interactions=write(tmp_path, ROWS[:-1]))) != first
    with pytest.raises(UnreadableDumpError, match="not a file"):
        dataset_identity(DumpConfig(interactions=str(tmp_path / "none")))


def test_a_second_ingest_reuses_the_first(tmp_path: Path) -> None:
    dump = DumpConfig(interactions=write(tmp_path, ROWS))
    results = [ingested(dump, Store(tmp_path / "store")) for _ in range(2)]
    assert [result.reused for result in results] == [False, True]
    assert results[0].ref == results[1].ref
    assert results[0].counts == results[1].counts


YEAR_1980 = 315_532_800
"""If at least half of the times other than zero are after this, zero and less are unknown times."""


def expected_histories(
    rows: list[Row], item_core: int, user_core: int, first: bool
) -> dict[str, list[tuple[str, str, int]]]:
    """The naive twin: what ingest should keep, in plain Python."""
    times = [time for *_, time in rows if time]
    dates = sum(time > YEAR_1980 for time in times)
    dated = dates > 0 and 2 * dates >= len(times)
    usable = [
        (user.strip(), domain.strip(), item.strip(), time)
        for user, item, domain, time in rows
        if user and user.strip() and item and item.strip() and domain and domain.strip()
        and time is not None and not (dated and time <= 0)
    ]  # fmt: skip
    events = sorted(dict.fromkeys(usable), key=lambda event: (event[0], event[3]))
    if first:
        seen: set[tuple[str, ...]] = set()
        events = [e for e in events if not (e[:3] in seen or seen.add(e[:3]))]
    before = -1
    while len(events) != before:
        before = len(events)
        items = Counter(event[1:3] for event in events)
        events = [event for event in events if items[event[1:3]] >= item_core]
        users = Counter(event[0] for event in events)
        events = [event for event in events if users[event[0]] >= user_core]
    histories: dict[str, list[tuple[str, str, int]]] = {}
    for user, domain, item, time in events:
        histories.setdefault(user, []).append((domain, item, time))
    return histories


TABLES = st.lists(
    st.tuples(
        st.sampled_from(["u", "v", "w", "é", " u", "", None]),
        st.sampled_from(["1", "01", "2", "3 ", "漢", None, " "]),
        st.sampled_from(["a", "b", "ç", "a ", None]),
        st.none() | st.integers(-3, 6) | st.just(1_400_000_000),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(TABLES, st.integers(1, 3), st.integers(1, 4), st.booleans())
@example(
    [("u", "1", "a", 1_400_000_000)] * 2 + [("u", "1", "a", 0), ("u", "1", "b", 1)], 1, 1, False
)
@example([("u", "1", "a", 1_400_000_000), ("u", "1", "b", 0)], 1, 1, False)
@example(
    [("u", "1", "b", time) for time in (0, 1, 1_400_000_000)] + [("u", "1", "a", 9)], 1, 1, False
)
@example([("u", "1", "a", 0), ("u", "1", "a", 1), ("u", "1", "b", 1_400_000_000)], 1, 1, False)
@example([("u", "1", "a", 0), ("u", "1", "a", 0), ("u", "1", "b", 1_400_000_000)], 1, 1, False)
def test_any_table_becomes_a_sound_dataset(
    rows: list[Row], item_core: int, user_core: int, first: bool
) -> None:
    expected = expected_histories(rows, item_core, user_core, first)
    choices = {
        "item_core": item_core,
        "user_core": user_core,
        "repeats": "first" if first else "keep",
    }
    with TemporaryDirectory() as folder:
        if len({event[0] for history in expected.values() for event in history}) < 2:
            with pytest.raises((TooFewDomainsError, UnreadableDumpError)):
                made_of(Path(folder), rows, **choices)
            return
        result = made_of(Path(folder), rows, **choices)
        check_soundness(result, rows)
        found = {user: [event[:3] for event in events] for user, events in result.history.items()}
        assert found == expected


def check_soundness(result: Made, rows: list[Row]) -> None:
    data, counts = result.dataset, result.counts
    assert data.users["user_index"].to_list() == list(range(data.users.height))
    assert data.items["item_index"].to_list() == list(range(1, data.items.height + 1))
    assert data.items["domain"].is_sorted()
    assert counts["rows_in"] == len(rows) == counts["events"] + counts["rows_dropped"]
    assert dropped_interactions(result) == counts["rows_dropped"]
    assert data.offsets[-1] == counts["events"] == len(data.item_indices)
    for history in result.history.values():
        times = [event[2] for event in history]
        assert times == sorted(times)
        held_out = [Split.VALIDATION, Split.TEST] if len(history) > 2 else []
        train = [Split.TRAIN] * (len(history) - len(held_out))
        assert [event[3] for event in history] == train + held_out


def real(name: str) -> DumpConfig:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"the development data {name} is not beside the checkout")
    return DumpConfig(
        interactions=str(folder / "interactions.parquet"), items=str(folder / "items.parquet")
    )


def test_the_small_real_dump_is_kept_whole(tmp_path: Path) -> None:
    result = made(tmp_path, real("food-kitchen-mini"))
    counts = result.counts
    assert (counts["users"], counts["items"], counts["events"]) == (1431, 1155, 18301)
    assert counts["users_in_several_domains"] == 602
    assert np.diff(result.dataset.domain_starts).tolist() == [359, 796]
    assert counts["rows_in"] == counts["events"] + dropped_interactions(result)


@pytest.mark.parametrize("name", ["title", "name"])
def test_items_whose_titles_are_under_another_name_are_told(store: Store, name: str) -> None:
    rows = [(user, item, domain, 1) for user in "uv" for item, domain in (("1", "a"), ("2", "b"))]
    events = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    folder = store.local.parent
    events.write_parquet(folder / "e.parquet")
    items = events.select("item_id", "domain").unique().with_columns(pl.lit("Cup").alias(name))
    items.write_parquet(folder / "i.parquet")
    made = ingested(
        DumpConfig(interactions=str(folder / "e.parquet"), items=str(folder / "i.parquet")), store
    )
    told = [note for note in made.notes if "--column NAME_IN_FILE=title" in note]
    assert bool(told) == (name != "title")


def test_the_dated_real_dump_keeps_items_without_text(tmp_path: Path) -> None:
    result = made(tmp_path, real("food-kitchen-dated"))
    counts = result.counts
    assert counts["items_without_text"] == 4738
    assert (counts["users"], counts["items"]) == (7144, 28095)
    assert counts["rows_in"] == 173_548 == counts["events"] + dropped_interactions(result)
