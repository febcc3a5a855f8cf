"""What the report says has changed, by hand."""

import shutil

import polars as pl
import pytest

from artifacts.bundles import SERVING, create_bundle
from artifacts.kinds.results import RECOMMENDATION_SCHEMA, RECOMMENDATIONS
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from tasks.reporting.facts.changes import EQUAL, FIRST, LOST, changes_since_served
from tasks.reporting.facts.content import Changes

DATASET, METRICS = Kind.DATASET, Kind.METRICS


def counted(store: Store, kind: Kind, **counts: float) -> ArtifactRef:
    made = identity(kind, dict(counts), {})
    with store.create(made) as draft:
        draft.counts.update(counts)
    return made.ref


def listed(store: Store, *rows: tuple[str, str, int]) -> ArtifactRef:
    """Recommendations of (user, item, rank)."""
    made = identity(Kind.RECOMMENDATIONS, {"rows": [list(row) for row in rows]}, {})
    table = [(user, "gear", rank, item, item, 1.0) for user, item, rank in rows]
    with store.create(made) as draft:
        frame = pl.DataFrame(table, schema=RECOMMENDATION_SCHEMA, orient="row")
        frame.write_parquet(draft.path / RECOMMENDATIONS)
        draft.counts["coverage"] = len(rows) / 10
    return made.ref


@pytest.fixture
def served(store: Store) -> dict[str, ArtifactRef]:
    parts = {
        "dataset": counted(store, DATASET, users=3, items=9),
        "metrics": counted(store, METRICS, **{"HR@10 llm4cdsr": 0.2}),
        "recommendations": listed(store, ("ada", "g1", 1), ("ada", "g2", 2), ("bob", "g1", 1)),
    }
    store.point(SERVING, create_bundle(store, Kind.RELEASE, parts))
    return parts


def test_the_first_release_has_nothing_to_be_compared_with(store: Store) -> None:
    best = listed(store, ("ada", "g1", 1))
    assert changes_since_served(store, best, best, best) == FIRST


def test_the_same_lists_are_no_change(store: Store, served: dict[str, ArtifactRef]) -> None:
    assert changes_since_served(store, **served) == EQUAL


def test_counts_stand_before_and_now_and_kept_places_are_those_of_users_of_both(
    store: Store, served: dict[str, ArtifactRef]
) -> None:
    # ada keeps g1 at another rank and loses g2; bob is gone, eve is new.
    now = listed(store, ("ada", "g3", 1), ("ada", "g1", 2), ("eve", "g1", 1), ("ada", "g2", 11))
    metrics = counted(store, METRICS, **{"HR@10 llm4cdsr": 0.3, "NDCG@10 llm4cdsr": 0.1})
    found = changes_since_served(store, served["dataset"], metrics, now)
    assert isinstance(found, Changes)
    assert found.same_data
    assert (found.kept_share, found.common_users) == (0.5, 1)
    rows = {row.name: (row.before, row.now) for row in found.rows}
    assert rows == {
        "users": (3, 3),
        "items": (9, 9),
        "HR@10 llm4cdsr": (0.2, 0.3),
        "NDCG@10 llm4cdsr": (None, 0.1),
        "coverage": (0.3, 0.4),
    }


def test_other_users_and_other_data_are_told_as_such(
    store: Store, served: dict[str, ArtifactRef]
) -> None:
    larger = counted(store, DATASET, users=4, items=9)
    strangers = listed(store, ("zoe", "g1", 1))
    found = changes_since_served(store, larger, served["metrics"], strangers)
    assert isinstance(found, Changes)
    assert (found.same_data, found.kept_share, found.common_users) == (False, None, 0)


@pytest.mark.parametrize("gone", ["release", "dataset", "recommendations"])
def test_a_served_release_that_lost_an_artifact_is_not_compared_with(
    store: Store, served: dict[str, ArtifactRef], gone: str
) -> None:
    lost = store.pointed(SERVING) if gone == "release" else served[gone]
    assert lost is not None
    now = listed(store, ("ada", "g3", 1))
    larger = counted(store, DATASET, users=4, items=9)
    shutil.rmtree(store.path(lost))
    assert changes_since_served(store, larger, served["metrics"], now) == LOST
