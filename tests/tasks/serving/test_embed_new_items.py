"""New items' texts are embedded as the catalogue's were, and paid for once."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from artifacts.store import Store
from tasks.serving.embed_new_items import LedgerEmbedder, OtherEmbedderError
from tasks.serving.new_items_file import read_new_items
from tasks.serving.recommender import Recommender
from tests.fakes import EMBEDDINGS, FaultyServer, faulty_endpoint
from tests.tasks.serving.small_release import small_release
from tests.tasks.shops.small_shop import endpoint_of, spec_of

NEW = pl.DataFrame(
    {
        "item_id": ["n1", "n2", "n3"],
        "domain": ["gear", "books", "gear"],
        "title": ["Moka Pot Six Cups", "Night Trains", None],
    }
)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_endpoint() as running:
        yield running


@pytest.fixture
def recommender(store: Store) -> Recommender:
    small_release(store)
    return Recommender.load(store)


def test_a_text_that_is_known_gives_the_known_items_vector(
    store: Store, server: FaultyServer, recommender: Recommender
) -> None:
    embedder = LedgerEmbedder(store, endpoint_of(spec_of(server.base_url)), recommender.facts)
    added = recommender.add_items(NEW, embedder=embedder)
    assert (added.added, added.without_text) == (3, 1)
    nearest = recommender.similar("n1", k=1)
    assert nearest["item_id"].to_list() == ["g1"]
    assert nearest["score"][0] == pytest.approx(1, abs=1e-5)


def test_without_any_usable_text_all_stand_at_their_domains_mean(
    store: Store, recommender: Recommender
) -> None:
    nobody = endpoint_of(spec_of("http://127.0.0.1:9"))  # For no text nothing is asked.
    embedder = LedgerEmbedder(store, nobody, recommender.facts)
    blank = NEW.with_columns(pl.lit(None, pl.String).alias("title"))
    added = recommender.add_items(blank, embedder=embedder)
    assert (added.added, added.without_text) == (3, 3)
    assert recommender.recommend(["g1", "n1"], k=2).height > 0


def test_a_second_recommender_asks_nothing(
    store: Store, server: FaultyServer, recommender: Recommender
) -> None:
    embedder = LedgerEmbedder(store, endpoint_of(spec_of(server.base_url)), recommender.facts)
    items = recommender.catalogue.unknown(NEW)
    first = embedder.embed(items)
    asked = server.requests_to(EMBEDDINGS)
    second = LedgerEmbedder(store, endpoint_of(spec_of(server.base_url)), recommender.facts)
    np.testing.assert_array_equal(second.embed(items), first)
    assert asked > 0
    assert server.requests_to(EMBEDDINGS) == asked


def test_another_model_than_the_catalogues_is_refused(
    store: Store, recommender: Recommender
) -> None:
    other = endpoint_of(spec_of("http://127.0.0.1:9", model="another"))
    with pytest.raises(OtherEmbedderError, match="'another'"):
        LedgerEmbedder(store, other, recommender.facts)


def test_a_list_for_an_id_costs_that_row_only(tmp_path: Path) -> None:
    path = tmp_path / "new.jsonl"
    rows = [
        {"item_id": "n1", "domain": "gear", "price": 2},
        {"item_id": ["n2"], "domain": "gear", "price": [2]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = read_new_items(str(path), ("books", "gear"))
    assert table.select("item_id", "price").rows() == [("n1", 2.0)]


def test_rows_of_a_file_that_cannot_be_taken_are_counted(
    tmp_path: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    path = f"{tmp_path}/new.csv"
    rows = ["item_id,domain,title", "n1,gear,Old", "n1,gear,New", ",gear,X", "n2,shoes,Y"]
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write("\n".join(rows))
    table = read_new_items(path, ("books", "gear"))
    assert table.select("item_id", "title").rows() == [("n1", "New")]
    for reason in ("without an id", "does not have", "named twice"):
        assert f"1 rows left out: {reason}" in caplog.text.replace(
            "of a domain that the model ", ""
        )
