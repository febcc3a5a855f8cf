"""Drift between two datasets, counted by hand."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from artifacts.kinds.dataset import Dataset, Split
from tasks.reporting.facts import drift
from tasks.reporting.facts.drift import drift_between

SINCE = datetime(2026, 11, 1, tzinfo=UTC)
Rows = dict[str, list[tuple[str, int]]]


def dataset(catalogue: dict[str, list[str]], rows: Rows) -> Dataset:
    """Events (item, time) by user, of a catalogue of item ids by domain."""
    pairs = [(domain, item) for domain, ids in catalogue.items() for item in ids]
    places = {item: place for place, (_, item) in enumerate(pairs, 1)}
    events = [(places[item], time) for mine in rows.values() for item, time in mine]
    return Dataset(
        users=pl.DataFrame({"user_id": list(rows)}),
        items=pl.DataFrame(pairs, schema=["domain", "item_id"], orient="row"),
        domains=tuple(catalogue),
        domain_starts=np.cumsum([0, *map(len, catalogue.values())]),
        offsets=np.cumsum([0, *map(len, rows.values())]),
        item_indices=np.array([item for item, _ in events], np.int32),
        timestamps=np.array([time for _, time in events], np.int64),
        splits=np.full(len(events), Split.TRAIN, np.int8),
    )


BEFORE = dataset(
    {"gear": ["g1", "g2", "g3", "g4", "g5"], "books": ["b1"]},
    {
        "ada": [("g1", 10), ("g2", 20), ("b1", 30)],
        "bob": [("g1", 11), ("g3", 12), ("g4", 13), ("g5", 14)],
    },
)
NOW = dataset(
    {"books": ["b1", "b2"], "gear": ["g0", "g1", "g2", "g3"]},
    {
        "eve": [("g1", 40), ("g0", 50)],
        "bob": [("g1", 11), ("g3", 12), ("b2", 60)],
        "ada": [("g1", 10), ("g2", 20), ("b1", 30), ("g2", 70)],
    },
)


def test_added_and_gone_events_are_those_of_other_user_item_or_time() -> None:
    found = {each.name: each for each in drift_between(BEFORE, NOW, SINCE).domains}
    gear, books = found["gear"], found["books"]
    assert (gear.before, gear.added, gear.gone) == (6, 3, 2)
    assert (books.before, books.added, books.gone) == (1, 1, 0)
    assert (gear.share_before, gear.share_added) == (6 / 7, 3 / 4)
    assert (gear.by_new_users, gear.on_new_items) == (2 / 3, 1 / 3)
    assert (gear.head_before, gear.head_added) == (2 / 6, 1 / 3)  # g1 alone is a fifth of five.
    assert (books.by_new_users, books.on_new_items) == (0, 1)


def test_the_same_data_in_another_order_has_no_drift() -> None:
    turned = dataset(
        {"books": ["b1"], "gear": ["g5", "g4", "g3", "g2", "g1"]},
        {
            "bob": [("g1", 11), ("g3", 12), ("g4", 13), ("g5", 14)],
            "ada": [("g1", 10), ("g2", 20), ("b1", 30)],
        },
    )
    found = drift_between(BEFORE, turned, SINCE)
    assert {(each.added, each.gone, each.by_new_users) for each in found.domains} == {(0, 0, None)}
    assert all(each.before == each.now for each in found.volumes)


def test_the_volumes_hold_every_event_once() -> None:
    found = drift_between(BEFORE, NOW, SINCE)
    totals = {each.name: (sum(each.before), sum(each.now)) for each in found.volumes}
    assert totals == {"books": (1, 2), "gear": (6, 7)}
    assert found.moments[0] == datetime(1970, 1, 1, 0, 0, 10, tzinfo=UTC)


def test_a_domain_that_came_and_one_that_went_are_told() -> None:
    music = dataset({"music": ["m1"]}, {"ada": [("m1", 90)]})
    found = {each.name: each for each in drift_between(BEFORE, music, SINCE).domains}
    assert (found["music"].before, found["music"].added) == (0, 1)
    assert found["music"].head_before is None
    assert (found["gear"].added, found["gear"].gone) == (0, 6)


def test_of_many_events_the_same_users_are_compared_on_both_sides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drift, "MOST_EVENTS", 4)
    found = drift_between(BEFORE, BEFORE, SINCE)
    assert found.one_of == 2
    assert {(each.added, each.gone) for each in found.domains} == {(0, 0)}
