"""The recommender as its callers see it, against plain sorts of the model's own scores."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from artifacts.store import Store
from tasks.serving.catalogue import (
    AmbiguousItemError,
    InvalidItemsError,
    UnknownDomainError,
    UnknownItemError,
)
from tasks.serving.recommender import AddedItems, Recommender
from tasks.serving.served_release import NothingServedError
from tasks.serving.state import InvalidFilterError
from tasks.serving.text_space import WrongVectorsError
from tasks.serving.user_names import UnknownUserError
from tests.tasks.serving.small_release import PROFILES, small_release
from tests.tasks.shops.small_shop import EVENTS, TITLES

BOUGHT = [("books", "b2"), ("gear", "g3"), ("books", "b1")]


@pytest.fixture
def recommender(store: Store) -> Recommender:
    small_release(store)
    return Recommender.load(store)


def names(table: pl.DataFrame) -> list[tuple[str, str]]:
    return table.select("domain", "item_id").rows()  # type: ignore[return-value]


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_recommendations_are_a_plain_sort_of_the_scores(
    recommender: Recommender, exclude_seen: bool
) -> None:
    found = recommender.recommend(BOUGHT, k=3, exclude_seen=exclude_seen)
    expected, ranks = [], []
    for domain in ("books", "gear"):
        pool = [key for key in sorted(TITLES) if key[0] == domain]
        pool = [key for key in pool if not (exclude_seen and key in BOUGHT)]
        scores = dict(zip(pool, recommender.score(BOUGHT, pool).tolist(), strict=True))
        expected += sorted(pool, key=lambda key: -scores[key])[:3]
        ranks += range(1, min(3, len(pool)) + 1)
    assert names(found) == expected
    assert found["rank"].to_list() == ranks
    np.testing.assert_allclose(
        found["score"].to_numpy(), recommender.score(BOUGHT, names(found)), rtol=1e-5
    )


def test_a_known_user_gets_what_the_same_history_gets(recommender: Recommender) -> None:
    together = recommender.recommend_users(k=2)
    for user in recommender.user_ids:
        alone = recommender.recommend(recommender.history(user), k=2)
        assert names(together.filter(user_id=user)) == names(alone)


def test_a_users_history_is_in_the_order_of_its_events(recommender: Recommender) -> None:
    dan = [(domain, item) for user, item, domain, _ in EVENTS if user == "dan"]
    assert recommender.history("dan") == dan


def test_a_filter_keeps_only_the_items_for_which_it_holds(recommender: Recommender) -> None:
    has_title = pl.col("title").is_not_null()
    found = recommender.recommend([("gear", "g1")], "gear", 9, filter=has_title)
    assert sorted(found["item_id"]) == ["g2", "g3", "g4"]
    coffee = recommender.recommend([], "gear", 9, filter=pl.col("title").str.contains("Espresso"))
    assert names(coffee) == [("gear", "g2")]


def test_an_empty_history_gets_the_most_bought_items(recommender: Recommender) -> None:
    found = recommender.recommend([], "gear", k=2)
    counts = {item: sum(event[1] == item for event in EVENTS) for item in ("g1", "g3")}
    assert found["item_id"].to_list() == sorted(counts, key=lambda item: -counts[item])
    total = sum(domain == "gear" for _, _, domain, _ in EVENTS)
    assert found["score"].to_list() == pytest.approx([3 / total, 3 / total])


def test_what_is_not_known_is_named_with_the_way_out(recommender: Recommender) -> None:
    with pytest.raises(UnknownItemError, match=r"'b9'.*add_items"):
        recommender.recommend(["b9"])
    with pytest.raises(UnknownItemError, match="'g1' in the domain 'books'"):
        recommender.score([("books", "g1")], ["b1"])
    with pytest.raises(UnknownDomainError, match="books, gear"):
        recommender.recommend(BOUGHT, "shoes")
    with pytest.raises(UnknownUserError, match="'zoe'"):
        recommender.recommend_users(["zoe"])
    with pytest.raises(ValueError, match="k=0"):
        recommender.recommend(BOUGHT, k=0)


def test_an_id_of_two_domains_must_be_named_with_its_domain(recommender: Recommender) -> None:
    twin = pl.DataFrame({"item_id": ["g1"], "domain": ["books"]})
    recommender.add_items(twin, vectors=np.full((1, 384), np.nan))
    with pytest.raises(AmbiguousItemError, match="books, gear"):
        recommender.recommend(["g1"])
    assert recommender.recommend([("books", "g1")], k=1).height == 2


def test_similar_items_are_a_plain_sort_of_cosines_without_the_item_itself(
    recommender: Recommender,
) -> None:
    vectors = recommender.state.vectors
    keys = recommender.catalogue.keys
    here = keys.index(("gear", "g1"))  # type: ignore[arg-type]
    cosines = vectors[1:] @ vectors[1 + here]
    order = [keys[i] for i in np.argsort(-cosines, kind="stable") if i != here]
    order = [key for key in order if TITLES[key] is not None]
    assert names(recommender.similar("g1", k=4)) == order[:4]
    books = [key for key in order if key[0] == "books"]
    assert names(recommender.similar("g1", "books", k=2)) == books[:2]


def test_profiles_are_those_of_the_release(recommender: Recommender) -> None:
    assert recommender.profile("ada") == PROFILES["ada"]
    assert recommender.profile("bob") is None


def test_a_new_item_with_a_known_items_text_is_its_nearest_and_can_be_recommended(
    recommender: Recommender,
) -> None:
    before = recommender.score(BOUGHT, ["b1", "g1", "g4"])
    known = recommender.state.vectors[recommender.catalogue.index("g1")]
    new = pl.DataFrame({"item_id": ["b8", "g8"], "domain": ["books", "gear"], "title": ["X", "Y"]})
    added = recommender.add_items(new, vectors=np.stack([known, known]))
    assert added == AddedItems(added=2, known=0, without_text=0)
    assert names(recommender.similar("g1", "gear", k=1)) == [("gear", "g8")]
    assert ("gear", "g8") in names(recommender.recommend(BOUGHT, k=99))
    assert recommender.recommend([("gear", "g8")], k=1).height == 2
    np.testing.assert_allclose(recommender.score(BOUGHT, ["b1", "g1", "g4"]), before, rtol=1e-5)
    # Users' histories moved with the indices of their items.
    dan = [(domain, item) for user, item, domain, _ in EVENTS if user == "dan"]
    assert recommender.history("dan") == dan


def test_each_row_gets_its_own_vector_whatever_the_order_of_the_domains(
    recommender: Recommender,
) -> None:
    state, catalogue = recommender.state, recommender.catalogue
    sources = [("gear", "g2"), ("books", "b3"), ("gear", "g4"), ("books", "b1")]
    vectors = state.vectors[[catalogue.index(source) for source in sources]]
    new = pl.DataFrame(
        {"item_id": ["n1", "n2", "g1", "n3"], "domain": ["gear", "books", "gear", "books"]}
    )
    added = recommender.add_items(new, vectors=vectors)
    assert added == AddedItems(added=3, known=1, without_text=0)
    for name, source in (("n1", sources[0]), ("n2", sources[1]), ("n3", sources[3])):
        assert names(recommender.similar(name, k=1)) == [source]


def test_ids_that_are_numbers_get_their_vectors_too(recommender: Recommender) -> None:
    state, catalogue = recommender.state, recommender.catalogue
    sources = [("gear", "g2"), ("books", "b3")]
    vectors = state.vectors[[catalogue.index(source) for source in sources]]
    recommender.add_items(
        pl.DataFrame({"item_id": [12, 7], "domain": ["gear", "books"]}), vectors=vectors
    )
    for name, source in (("12", sources[0]), ("7", sources[1])):
        assert names(recommender.similar(name, k=1)) == [source]


def test_a_new_item_without_text_stands_at_the_mean_of_its_domain(
    recommender: Recommender,
) -> None:
    new = pl.DataFrame({"item_id": ["g9"], "domain": ["gear"]})
    assert recommender.add_items(new, vectors=np.full((1, 384), np.nan)).without_text == 1
    state = recommender.state
    texts = [recommender.catalogue.index(i) for i in ("g1", "g2", "g3", "g4")]
    mean = state.vectors[texts].mean(axis=0)
    place = state.vectors[recommender.catalogue.index("g9")]
    assert place @ mean / np.linalg.norm(mean) == pytest.approx(1, abs=1e-3)


def test_items_that_cannot_be_placed_are_refused_and_nothing_changes(
    recommender: Recommender,
) -> None:
    before = recommender.state
    shoes = pl.DataFrame({"item_id": ["s1"], "domain": ["shoes"]})
    with pytest.raises(InvalidItemsError, match=r"'shoes'.*retrain"):
        recommender.add_items(shoes, vectors=np.zeros((1, 384)))
    good = pl.DataFrame({"item_id": ["g9"], "domain": ["gear"]})
    with pytest.raises(WrongVectorsError, match="384"):
        recommender.add_items(good, vectors=np.zeros((1, 7)))
    with pytest.raises(ValueError, match="2 vectors for 1 items"):
        recommender.add_items(good, vectors=np.zeros((2, 384)))
    with pytest.raises(InvalidItemsError, match="twice"):
        recommender.add_items(pl.concat([good, good]), vectors=np.zeros((2, 384)))
    assert recommender.state is before


def test_the_newest_release_is_loaded_unless_another_is_named(store: Store) -> None:
    first, second = small_release(store, seed=1), small_release(store, seed=2)
    newest, older = Recommender.load(store), Recommender.load(store, first.fingerprint)
    assert (newest.facts.ref, older.facts.ref) == (second, first)
    assert newest.is_latest(store)
    assert not older.is_latest(store)
    with pytest.raises(NothingServedError, match="'nope'"):
        Recommender.load(store, "nope")


def test_an_empty_store_says_what_to_do(store: Store) -> None:
    with pytest.raises(NothingServedError, match="llm4cdsr run"):
        Recommender.load(store)


def test_a_program_that_only_recommends_loads_neither_prefect_nor_an_llm_client() -> None:
    code = (
        "import sys; from tasks.serving import app, recommender; "
        "from tasks.serving.export import export_recs; "
        "print(sorted({'prefect', 'openai'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_items_without_text_are_similar_to_nothing_and_no_reason(
    recommender: Recommender,
) -> None:
    """Their vector is the mean of the domain, which is near every text."""
    new = pl.DataFrame({"item_id": ["g9", "b9"], "domain": ["gear", "books"]})
    recommender.add_items(new, vectors=np.full((2, 384), np.nan))
    textless = {("gear", "g5"), ("gear", "g9"), ("books", "b4"), ("books", "b9")}
    assert set(names(recommender.similar("g1", k=99))) == set(TITLES) - textless - {("gear", "g1")}
    for domain, item in textless:
        assert recommender.similar((domain, item), k=99).is_empty()
    state, index = recommender.state, recommender.catalogue.index
    history = recommender.catalogue.indices([("gear", "g5"), ("gear", "g9"), ("gear", "g2")])
    assert [reason.item for reason in state.reasons(history, index("g1"))] == [index("g2")]
    assert state.reasons(history, index("b4")) == []


@pytest.mark.parametrize("k", [0, -1])
def test_a_list_of_similar_items_has_at_least_one(recommender: Recommender, k: int) -> None:
    with pytest.raises(ValueError, match=f"k={k}"):
        recommender.similar("g1", k=k)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (pl.col("price"), "Float64 and not true or false"),
        (pl.col("title").str.len_chars(), "UInt32"),
        (pl.col("prize") < 3, "prize"),
        (pl.col("price").head(1) < 3, "cannot be computed"),
        (pl.col("title", "brand") == "x", "cannot be computed"),
        ("price < 3", "got a str"),
        (pl.Series([True] * 5), "got a Series"),
    ],
)
def test_a_filter_that_is_no_condition_is_refused(
    recommender: Recommender, condition: pl.Expr, words: str
) -> None:
    with pytest.raises(InvalidFilterError, match=words):
        recommender.recommend(BOUGHT, filter=condition)


def test_a_filter_of_one_value_holds_for_every_item(recommender: Recommender) -> None:
    every = recommender.recommend(BOUGHT, k=9)
    assert recommender.recommend(BOUGHT, k=9, filter=pl.lit(True)).equals(every)
    assert recommender.recommend(BOUGHT, k=9, filter=pl.lit(False)).is_empty()


@pytest.mark.parametrize("history", ["g1", "12", ["g1", 2], [("gear", 1)], [("a", "b", "c")]])
def test_names_that_are_not_text_or_not_in_a_list_are_refused(
    recommender: Recommender, history: object
) -> None:
    """The text "12" would be the items "1" and "2", an id of digits is not found as a number."""
    with pytest.raises(TypeError, match=r"list|text"):
        recommender.recommend(history)  # type: ignore[arg-type]


@pytest.mark.parametrize("users", ["ada", [1], [None]])
def test_users_that_are_not_a_list_of_texts_are_refused(
    recommender: Recommender, users: object
) -> None:
    with pytest.raises(TypeError, match=r"list|text"):
        recommender.recommend_users(users)  # type: ignore[arg-type]


def test_a_pair_without_a_list_is_told_from_an_unknown_item(recommender: Recommender) -> None:
    with pytest.raises(UnknownItemError, match="'gear', but a domain of that name"):
        recommender.recommend(("gear", "g1"))
    assert recommender.recommend([["gear", "g1"]], k=1).height == 2  # type: ignore[list-item]
