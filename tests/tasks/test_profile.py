"""Profiles: they see training events only, belong to a user by id, and say what is missing."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pytest

from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.kinds.user_profiles import INTEREST, UserProfiles, read_user_profiles
from artifacts.manifest import COMPLETE
from artifacts.store import Store
from prompts.profile_style import ProfileStyle
from prompts.render import MAX_TITLES
from tasks.frame.stage import StageResult
from tasks.profile import ProfileConfig, profiles_identity
from tasks.profiling.interest_titles import titles_by_interest
from tests.fakes import CHAT, EMBEDDINGS, FaultPlan, FaultyServer, faulty_endpoint
from tests.tasks.shops.profiled_shop import Refreshed
from tests.tasks.shops.small_shop import EVENTS, LENIENT, SmallShop

pytestmark = pytest.mark.usefixtures("inline_shards")

HELD_OUT = [3, 4, 7, 8, 11, 12, 15, 16]
"""Positions in EVENTS of the last two events of ada, bob, cyd and dan."""

ADAS_FIRST = 0


def chat_prompts(server: FaultyServer) -> set[str]:
    return {text for e in server.answered if e.route == CHAT for text in e.prompts}


def by_user(profiles: UserProfiles) -> dict[str, str]:
    return dict(profiles.profiles.select("user_id", "profile").iter_rows())


@pytest.fixture
def refreshed() -> Callable[..., tuple[UserProfiles, set[str], StageResult]]:
    """Refreshes a dump; returns the profiles and every chat prompt that was sent."""

    def run(
        store: Store,
        shop: SmallShop,
        config: ProfileConfig | None = None,
        plan: FaultPlan | None = None,
    ) -> tuple[UserProfiles, set[str], StageResult]:
        with faulty_endpoint(plan) as server:
            made = Refreshed(store, server, shop, config).run()
            return read_user_profiles(store, made.ref), chat_prompts(server), made

    return run


Refresh = Callable[..., tuple[UserProfiles, set[str], StageResult]]


def test_no_held_out_event_changes_a_prompt_or_a_profile(
    store: Store, refreshed: Refresh, tmp_path: Path
) -> None:
    before, prompts, _ = refreshed(store, SmallShop())
    mutated = SmallShop()
    for position in HELD_OUT:
        _, item, domain, _ = EVENTS[position]
        other = ("gear", "g4") if (domain, item) != ("gear", "g4") else ("books", "b2")
        mutated = mutated.with_event(position, other[1], other[0])
    after, prompts_after, _ = refreshed(Store(tmp_path / "b" / "store"), mutated)
    assert prompts_after == prompts
    assert by_user(after) == by_user(before)
    assert after.interests.equals(before.interests)
    np.testing.assert_array_equal(after.vectors, before.vectors)


def test_a_training_event_does_change_its_users_profile(
    store: Store, refreshed: Refresh, tmp_path: Path
) -> None:
    before, _, _ = refreshed(store, SmallShop())
    changed = SmallShop().with_event(ADAS_FIRST, "g4", "gear")
    after, _, _ = refreshed(Store(tmp_path / "b" / "store"), changed)
    assert by_user(after)["ada"] != by_user(before)["ada"]
    assert {**by_user(after), "ada": ""} == {**by_user(before), "ada": ""}


def test_a_profile_belongs_to_its_user_whatever_the_order_of_the_dump(
    store: Store, refreshed: Refresh, tmp_path: Path
) -> None:
    before, _, _ = refreshed(store, SmallShop())
    order = list(range(len(EVENTS)))
    random.Random(3).shuffle(order)
    shuffled, _, _ = refreshed(Store(tmp_path / "b" / "store"), SmallShop().in_order(order))
    assert by_user(shuffled) == by_user(before)
    names = {"ada": "z", "bob": "c", "cyd": "a", "dan": "y", "eve": "b"}
    renamed, _, _ = refreshed(Store(tmp_path / "c" / "store"), SmallShop().renamed(names))
    assert by_user(renamed) == {names[user]: text for user, text in by_user(before).items()}
    vector_of = dict(zip(before.profiles["user_id"], before.profiles["user_index"], strict=True))
    for index, user in renamed.profiles.select("user_index", "user_id").iter_rows():
        old = {new: name for name, new in names.items()}[user]
        np.testing.assert_array_equal(renamed.vectors[index], before.vectors[vector_of[old]])


def test_users_without_a_training_title_have_no_profile_and_are_masked(
    store: Store, refreshed: Refresh
) -> None:
    found, _, made = refreshed(store, SmallShop())
    assert sorted(by_user(found)) == ["ada", "bob", "dan", "eve"]
    assert found.has_profile.tolist() == [True, True, False, True, True]
    assert not found.vectors[2].any()
    assert (np.linalg.norm(found.vectors[found.has_profile], axis=1) > 0.9).all()
    assert made.counts["with_profile"] == 4


def test_an_interest_holds_the_latest_distinct_titles_oldest_first() -> None:
    count = MAX_TITLES + 2
    bought = [*range(count), 0]  # The first title again, last.
    expected = [*[f"title {n}" for n in range(3, count)], "title 0"]
    table = titles_by_interest(cast(Dataset, _History(bought)), _one_cluster(count))
    assert table["titles"].to_list() == [expected]
    assert len(expected) == MAX_TITLES


class _History:
    """As much of a dataset as `titles_by_interest` reads: one user's training events."""

    def __init__(self, bought: list[int]) -> None:
        count = max(bought) + 1
        self.items = pl.DataFrame(
            {
                "item_index": range(1, count + 1),
                "title": [f"title {number}" for number in range(count)],
            }
        )
        self._events = pl.DataFrame(
            {
                "user_index": [0] * len(bought),
                "item_index": pl.Series([item + 1 for item in bought], dtype=pl.Int32),
            }
        )

    def train_events(self) -> pl.DataFrame:
        return self._events


def _one_cluster(count: int) -> pl.DataFrame:
    return pl.DataFrame({"item_index": range(1, count + 1), "cluster": [0] * count})


def test_a_sample_of_users_is_seeded_and_a_larger_one_contains_a_smaller(store: Store) -> None:
    def users(count: int, seed: int) -> set[str]:
        run.config = ProfileConfig(max_users=count, seed=seed)
        made = run.profiled()
        return set(by_user(read_user_profiles(store, made.ref)))

    with faulty_endpoint() as server:
        run = Refreshed(store, server, SmallShop(), ProfileConfig(max_users=0))
        none = run.run()
        assert server.requests_to(CHAT) == 0
        two, three = users(2, 0), users(3, 0)
        others = {frozenset(users(2, seed)) for seed in range(1, 5)}
    assert not read_user_profiles(store, none.ref).has_profile.any()
    assert len(two) == 2
    assert two < three
    assert len(others | {frozenset(two)}) > 1


def test_an_interest_that_fails_leaves_its_user_with_the_others(store: Store) -> None:
    with faulty_endpoint() as server:
        run = Refreshed(store, server, SmallShop(), ProfileConfig(max_users=0))
        run.run()
        titles = run.titles()
        user = titles["user_index"].mode()[0]
        assert titles.filter(pl.col("user_index") == user).height > 1
        bad = titles.filter(pl.col("user_index") == user)["titles"][0][0]
        server.plan = FaultPlan(refuse=bad)
        run.config = ProfileConfig()
        found = read_user_profiles(store, run.profiled().ref)
    left = titles.filter(~pl.col("titles").list.contains(bad))
    columns = ["user_index", "cluster"]
    assert found.interests.select(columns).rows() == left.select(columns).rows()
    assert np.flatnonzero(found.has_profile).tolist() == sorted(set(left["user_index"]))
    assert found.has_profile[user]
    assert found.failures["reason"].str.contains("refused word").all()


def test_a_failed_stage_masks_its_users_and_is_tried_again(store: Store) -> None:
    with faulty_endpoint() as server:
        run = Refreshed(store, server, SmallShop())
        run.config = ProfileConfig(max_users=0)
        run.run()  # Items are embedded; now every chat prompt is refused.
        run.config = ProfileConfig()
        server.plan = FaultPlan(refuse="e")
        masked = run.profiled()
        found = read_user_profiles(store, masked.ref)
        assert not found.has_profile.any()
        assert found.profiles.is_empty()
        assert found.failures.height > 0
        assert not found.interests[INTEREST].str.contains("unknown").any()
        wanted = profiles_identity(
            run.dataset, run.clusters or run.dataset, run.endpoints, LENIENT, run.config
        )
        assert store.find(wanted) is None

        server.plan = FaultPlan(refuse="Interested above all")  # Only summaries quote it.
        unsummarized = read_user_profiles(store, run.profiled().ref)
        assert not unsummarized.has_profile.any()
        assert unsummarized.interests.height > 0

        server.plan = FaultPlan()
        before = server.requests_to(CHAT)
        mended = run.profiled()
        assert server.requests_to(CHAT) - before <= 4  # Summaries only: interests were kept.
        assert store.manifest(mended.ref).outcome == COMPLETE
        assert mended.counts["with_profile"] == 4

        asked = server.requests_to(CHAT), server.requests_to(EMBEDDINGS)
        assert run.profiled().reused
        assert (server.requests_to(CHAT), server.requests_to(EMBEDDINGS)) == asked


def test_equal_histories_are_asked_about_once_and_the_saving_is_counted(store: Store) -> None:
    twin = tuple(("fay", *rest) for user, *rest in EVENTS if user == "ada")
    shop = SmallShop(events=(*EVENTS, *twin))  # type: ignore[arg-type]
    with faulty_endpoint() as server:
        alone = Refreshed(store, server, SmallShop())
        alone.run()
        asked = server.requests_to(CHAT)
        both = Refreshed(store, server, shop)
        made = both.run()
        assert server.requests_to(CHAT) == asked
        found = read_user_profiles(store, made.ref)
    assert by_user(found)["fay"] == by_user(found)["ada"]
    ours = both.titles().filter(pl.col("user_index") == 0).height
    assert made.usage.merged >= ours + 2  # Every interest, the summary and its embedding.
    assert made.usage.requests == 0


def test_a_single_interest_can_stand_for_the_summary(store: Store) -> None:
    with faulty_endpoint() as server:
        run = Refreshed(store, server, SmallShop())
        plain = run.run()
        run.config = ProfileConfig(skip_summary_for_single_cluster=True)
        before = server.requests_to(CHAT)
        made = run.profiled()
        assert server.requests_to(CHAT) == before
    found, summarized = (read_user_profiles(store, each.ref) for each in (made, plain))
    counts = run.titles()["user_index"].value_counts()
    single = set(counts.filter(pl.col("count") == 1)["user_index"])
    assert 0 < len(single) < counts.height
    interest = dict(found.interests.select("user_index", INTEREST).iter_rows())
    for index, user in found.profiles.select("user_index", "user_id").iter_rows():
        expected = interest[index] if index in single else by_user(summarized)[user]
        assert by_user(found)[user] == expected
    assert found.profiles["user_index"].is_sorted()
    assert (made.counts["summaries_skipped"], plain.counts["summaries_skipped"]) == (len(single), 0)
    assert found.has_profile.tolist() == summarized.has_profile.tolist()


def test_a_user_whose_other_interest_failed_is_summarized_all_the_same(store: Store) -> None:
    with faulty_endpoint() as server:
        run = Refreshed(store, server, SmallShop(), ProfileConfig(max_users=0))
        run.run()
        titles = run.titles()
        user = titles["user_index"].mode()[0]
        bad = titles.filter(pl.col("user_index") == user)["titles"][0][0]
        server.plan = FaultPlan(refuse=bad)
        run.config = ProfileConfig(skip_summary_for_single_cluster=True)
        made = run.profiled()
    single = titles["user_index"].value_counts().filter(pl.col("count") == 1)["user_index"]
    assert user not in single
    assert made.counts["summaries_skipped"] <= single.len()


def test_a_profile_is_joined_to_the_dataset_of_its_user(store: Store, refreshed: Refresh) -> None:
    found, _, made = refreshed(store, SmallShop())
    data = read_dataset(store, store.manifest(made.ref).parents["dataset"])
    for index, user in found.profiles.select("user_index", "user_id").iter_rows():
        assert data.users["user_id"][index] == user


def test_a_style_is_a_question_of_its_own_and_the_papers_keeps_its_name(
    store: Store, refreshed: Refresh
) -> None:
    paper, prompts, made = refreshed(store, SmallShop())
    asked = ProfileConfig(style=ProfileStyle.RETRIEVAL)
    listed, prompts_of_lists, made_of_lists = refreshed(store, SmallShop(), asked)
    assert made.ref != made_of_lists.ref
    assert prompts_of_lists.isdisjoint(prompts)
    lists = listed.interests.group_by("user_index", maintain_order=True).agg("interest")
    assert len(prompts_of_lists) == lists["interest"].list.explode().len() < len(prompts)
    assert by_user(listed) == {
        listed.profiles.row(by_predicate=pl.col("user_index") == user, named=True)["user_id"]: (
            "; ".join(texts)
        )
        for user, texts in lists.iter_rows()
    }
    assert "style" not in store.manifest(made.ref).parameters
    assert by_user(listed).keys() == by_user(paper).keys()
    assert refreshed(store, SmallShop(), asked)[1] == set()
