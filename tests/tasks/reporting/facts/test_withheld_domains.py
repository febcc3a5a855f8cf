"""Withheld domains in an evaluation: its tables, its report, its summary, and a sample of users."""

import numpy as np
import polars as pl
import pytest

from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.kinds.results import (
    COLD_DOMAIN,
    FULL,
    METRIC_SCHEMA,
    quoted_figures,
)
from artifacts.store import Store
from model.baselines.registry import cold_baselines
from model.data.sequences import COLD_TEST, Sequences
from model.scoring.cold_domain_metrics import ANY_HIT, FIRST_HIT, METRICS, measure_cold
from model.scoring.groups import FIRST_IN_DOMAIN
from model.scoring.model_scorer import Scorer
from tasks.evaluate import RANK_SCHEMA, cold_headline, measure, measure_withheld
from tasks.frame.model_inputs import sequences_of
from tasks.reporting.facts.cold_domain_tables import ALL_DIRECTIONS, cold_domain_tables
from tasks.reporting.facts.withheld_domains import gains_of, sampled_users, withheld_items
from tests.tasks.shops.cold_shop import cold_events, ingested


@pytest.fixture
def data(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(store, ingested(store, cold_events(), tmp_path_factory.mktemp("dump")))


def scorers(sequences: Sequences) -> dict[str, Scorer]:
    found = cold_baselines(sequences, None)
    return {"llm4cdsr": found["item-kNN"], "popularity": found["popularity"]}


def test_metrics_are_means_of_users_by_direction_and_together(data: Dataset) -> None:
    sequences = sequences_of(data)
    metrics, ranks = measure_withheld(scorers(sequences), sequences)
    assert (metrics.schema, ranks.schema) == (METRIC_SCHEMA, RANK_SCHEMA)
    gains = measure_cold(scorers(sequences)["llm4cdsr"], withheld_items(sequences))
    whole = metrics.filter(model="llm4cdsr", domain="all", group="all")
    assert dict(whole.select("metric", "value").iter_rows()) == pytest.approx(
        {metric: gains.values[metric].mean() for metric in METRICS}
    )
    into_b = metrics.filter(model="llm4cdsr", group="a → b", metric=ANY_HIT)
    assert into_b["domain"].to_list() == ["b"]
    assert into_b["value"][0] == pytest.approx(gains.values[ANY_HIT][gains.targets == 1].mean())
    assert into_b["targets"][0] == (gains.targets == 1).sum()


def test_stored_ranks_give_the_same_values(data: Dataset) -> None:
    sequences = sequences_of(data)
    _, ranks = measure_withheld(scorers(sequences), sequences)
    stored = gains_of(ranks.filter(model="popularity"), withheld_items(sequences))
    expected = measure_cold(scorers(sequences)["popularity"], withheld_items(sequences))
    for metric in METRICS:
        assert stored.values[metric].tolist() == expected.values[metric].tolist()


def test_a_sample_of_users_is_measured_as_all_of_them_are(data: Dataset) -> None:
    sequences = sequences_of(data)
    everyone = np.unique(sequences.prefixes_of_withheld(COLD_TEST).users)
    some = sampled_users(sequences, 4, seed=1)
    assert len(some) == 4 < len(everyone)
    assert not np.array_equal(some, sampled_users(sequences, 4, seed=2))
    assert sampled_users(sequences, None, 0).tolist() == everyone.tolist()
    _, ranks = measure_withheld(scorers(sequences), sequences, some)
    _, of_all = measure_withheld(scorers(sequences), sequences)
    assert ranks.equals(of_all.filter(pl.col("user_index").is_in(some)))


def test_the_summary_has_the_figures_by_withheld_domain(data: Dataset) -> None:
    sequences = sequences_of(data)
    metrics, _ = measure_withheld(scorers(sequences), sequences)
    found = quoted_figures(metrics)["llm4cdsr"][COLD_DOMAIN]
    assert set(found) == {"overall", "a", "b"}
    assert set(found["overall"]) == set(METRICS)
    assert cold_headline(metrics)[f"{FIRST_HIT} llm4cdsr"] == pytest.approx(
        found["overall"][FIRST_HIT], abs=1e-4
    )


def test_the_report_shows_each_direction_and_ours_first(data: Dataset) -> None:
    sequences = sequences_of(data)
    users = sampled_users(sequences, 8, seed=0)
    metrics, ranks = measure_withheld(scorers(sequences), sequences, users)
    tables = cold_domain_tables(data, ranks, "llm4cdsr")
    assert [table.direction for table in tables] == [ALL_DIRECTIONS, "a → b", "b → a"]
    assert tables[0].users == 8 == tables[1].users + tables[2].users
    ours, popularity = tables[0].rows
    assert (ours.model, ours.leads) == ("llm4cdsr", None)
    place = METRICS.index(FIRST_HIT)
    assert popularity.leads is not None
    lead, low, high = popularity.leads[place]
    assert lead == pytest.approx(ours.values[place] - popularity.values[place])
    assert low <= lead <= high
    whole = metrics.filter(model="popularity", domain="all", group="all", metric=FIRST_HIT)
    assert popularity.values[place] == pytest.approx(whole["value"][0])


def test_without_withheld_domains_there_is_nothing_to_show(data: Dataset) -> None:
    assert cold_domain_tables(data, pl.DataFrame(schema=RANK_SCHEMA), "llm4cdsr") == ()


def test_first_events_in_a_domain_are_quoted_where_a_split_has_some() -> None:
    rows = [("llm4cdsr", FULL, "all", FIRST_IN_DOMAIN, "HR@10", 0.25, 4)]
    rows += [("llm4cdsr", FULL, "all", "all", "HR@10", 0.5, 40)]
    metrics = pl.DataFrame(rows, schema=METRIC_SCHEMA, orient="row")
    assert quoted_figures(metrics, FIRST_IN_DOMAIN) == {
        "llm4cdsr": {FULL: {"overall": {"HR@10": 0.25}}}
    }


def test_a_withheld_domain_has_no_row_among_the_ordinary_ones(data: Dataset) -> None:
    sequences = sequences_of(data)
    metrics, ranks = measure(scorers(sequences), sequences, {})
    assert metrics.is_empty()
    assert ranks.is_empty()
