"""A release of whose held-out events none can be measured has a report, a history and no figure."""

import polars as pl
import pytest

from artifacts.kinds.results import METRIC_SCHEMA, METRICS
from artifacts.manifest import Kind, identity
from artifacts.store import Store
from tasks.reporting.facts.history_facts import releases_until


@pytest.mark.parametrize("value", [None, 0.25])
def test_the_history_of_releases_leaves_out_what_was_not_measured(
    store: Store, value: float | None
) -> None:
    row = ("llm4cdsr", "full", "all", "all", "NDCG@10", value, 0 if value is None else 300)
    wanted = identity(Kind.METRICS, {"value": value}, {})
    with store.create(wanted) as draft:
        pl.DataFrame([row], METRIC_SCHEMA, orient="row").write_parquet(draft.path / METRICS)
    found = releases_until(store, wanted.ref)
    assert [figure.ndcg for figure in found] == ([] if value is None else [0.25])
