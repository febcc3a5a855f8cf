"""Names of items both ways, search by words, and room for new items."""

import numpy as np
import polars as pl
import pytest

from tasks.serving.catalogue import Catalogue, InvalidItemsError


@pytest.fixture
def catalogue() -> Catalogue:
    titles = ["Green Tea", "Black Tea 100%", None, "Tea Pot (green)", "Iron Pan"]
    items = pl.DataFrame(
        {
            "item_index": pl.Series(range(1, 6), dtype=pl.UInt32),
            "domain": ["food"] * 3 + ["kitchen"] * 2,
            "item_id": ["a", "b", "c", "a", "d"],
            "title": titles,
            "brand": pl.Series([None] * 5, dtype=pl.String),
            "categories": pl.Series([["x"]] * 5, dtype=pl.List(pl.String)),
            "price": [1.0, 2.0, None, 4.0, 5.0],
            "description": pl.Series([None] * 5, dtype=pl.String),
        }
    )
    return Catalogue(items, ("food", "kitchen"), np.array([0, 3, 5]), np.array([0, 1, 5, 2, 9, 0]))


def of_titles(titles: list[str], bought: list[int]) -> Catalogue:
    """A catalogue of one domain."""
    indices = range(1, len(titles) + 1)
    items = pl.DataFrame(
        {
            "item_index": pl.Series(indices, dtype=pl.UInt32),
            "domain": ["food"] * len(titles),
            "item_id": [f"i{index}" for index in indices],
            "title": titles,
        }
    )
    return Catalogue(items, ("food",), np.array([0, len(titles)]), np.array([0, *bought]))


def test_search_wants_every_word_and_puts_the_most_bought_first(catalogue: Catalogue) -> None:
    assert catalogue.search("TEA").tolist() == [4, 2, 1]
    assert catalogue.search("tea green").tolist() == [4, 1]
    assert catalogue.search("tea", domain="food").tolist() == [2, 1]
    assert catalogue.search("tea", limit=1).tolist() == [4]


def test_search_finds_a_misspelt_word_behind_what_holds_it() -> None:
    titles = ["Toffee", "Coffee Beans", "A Moka Pot", "The Cofee Shop"]
    catalogue = of_titles(titles, [9, 5, 9, 1])
    found = [titles[index - 1] for index in catalogue.search("cofee")]
    assert found == ["The Cofee Shop", "Coffee Beans"]
    assert [titles[index - 1] for index in catalogue.search("coffe")][:1] == ["Coffee Beans"]
    assert catalogue.search("espresso").tolist() == []
    assert catalogue.search("bans coffee").tolist() == [2]
    assert catalogue.search("xyz").tolist() == []  # Short words are taken at their word.


@pytest.mark.parametrize(
    "typed", ["kichen", "kitchn", "kithcen", "kitshen", "kitchhen", "ikitchen", "Kitchne"]
)
def test_a_letter_left_out_added_changed_or_moved_is_found(typed: str) -> None:
    titles = ["Kitchen Scale", "The Chicken", "Chinaware", "Kits and Hens"]
    catalogue = of_titles(titles, [1, 9, 9, 9])
    assert catalogue.search(typed).tolist()[:1] == [1]
    assert 4 not in catalogue.search(typed)


def test_search_finds_items_with_the_most_words_where_none_has_all(catalogue: Catalogue) -> None:
    assert catalogue.search("black pan tea").tolist() == [2, 4, 1, 5]
    assert catalogue.search("kettle iron pot").tolist() == [4, 5]
    assert catalogue.search("purple piano").tolist() == []


def test_search_reads_punctuation_as_it_stands(catalogue: Catalogue) -> None:
    assert catalogue.search("100%").tolist() == [2]
    assert catalogue.search("(green)").tolist() == [4]
    assert catalogue.search(".*").tolist() == []


def test_an_item_without_title_is_found_by_its_id(catalogue: Catalogue) -> None:
    assert 3 in catalogue.search("c").tolist()


def test_new_items_stand_behind_those_of_their_domain_and_old_ones_keep_their_order(
    catalogue: Catalogue,
) -> None:
    new = pl.DataFrame({"item_id": ["k", "f"], "domain": ["kitchen", "food"], "price": [3, 4]})
    grown, previous = catalogue.with_items(new)
    assert grown.keys == [
        ("food", "a"),
        ("food", "b"),
        ("food", "c"),
        ("food", "f"),
        ("kitchen", "a"),
        ("kitchen", "d"),
        ("kitchen", "k"),
    ]
    assert previous.tolist() == [0, 1, 2, 3, 0, 4, 5, 0]
    assert grown.domain_starts.tolist() == [0, 4, 7]
    assert grown.popularity.tolist() == [0, 1, 5, 2, 0, 9, 0, 0]
    assert grown.items.schema == catalogue.items.schema
    assert grown.items["price"].to_list() == [1.0, 2.0, None, 4.0, 4.0, 5.0, 3.0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": ["x"]}, "domain"),
        ({"item_id": [None], "domain": ["food"]}, "lacks its item_id"),
        ({"item_id": ["x"], "domain": ["food"], "categories": ["no list"]}, "wrong type"),
    ],
)
def test_a_table_that_names_no_items_is_refused(
    catalogue: Catalogue, columns: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(InvalidItemsError, match=message):
        catalogue.unknown(pl.DataFrame(columns))


def test_an_item_that_is_here_cannot_be_added_again(catalogue: Catalogue) -> None:
    with pytest.raises(InvalidItemsError, match="already"):
        catalogue.with_items(pl.DataFrame({"item_id": ["a"], "domain": ["food"]}))
