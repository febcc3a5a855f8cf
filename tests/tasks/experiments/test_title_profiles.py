"""Profiles from raw titles: the same users as the LLM's, and training events alone."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from artifacts.kinds.dataset import read_dataset
from artifacts.kinds.user_profiles import UserProfiles, read_user_profiles, write_user_profiles
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from tasks.experiments.title_profiles import latest_titles, profile_by_titles
from tasks.frame.stage import StageResult
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import LlmConfig
from tests.fakes import EMBEDDINGS, FaultPlan, faulty_endpoint
from tests.tasks.shops.small_shop import SmallShop, endpoint_of, spec_of

pytestmark = pytest.mark.usefixtures("inline_shards")


def written_profiles(store: Store, dataset: ArtifactRef, users: list[int]) -> ArtifactRef:
    """Stands for what the chat model wrote, of these users only."""
    wanted = identity(Kind.USER_PROFILES, {"users": users}, {"dataset": dataset})
    profiles = pl.DataFrame({"user_index": users}, schema={"user_index": pl.UInt32})
    nothing = pl.DataFrame()
    has_profile = np.isin(np.arange(5), users)
    made = UserProfiles(profiles, nothing, nothing, np.zeros((5, 3), np.float32), has_profile)
    with store.create(wanted) as draft:
        write_user_profiles(draft.path, made)
    return wanted.ref


def test_titles_are_those_of_training_events_newest_last(store: Store) -> None:
    data = read_dataset(store, SmallShop().ingested(store))
    names = dict(data.users.select("user_index", "user_id").iter_rows())
    told = {names[user]: text for user, text in latest_titles(data).iter_rows()}
    assert told["ada"] == "Moka Pot Six Cups; The Coffee Roasters Handbook; Espresso Grinder Steel"
    assert told["bob"] == "Trail Running Vest; Running Over the Alps"
    assert "cyd" not in told  # Her training events have no title.


def test_held_out_events_change_no_text(store: Store, tmp_path: Path) -> None:
    other = SmallShop().with_event(4, "b1", "books").with_event(3, "g3", "gear")
    theirs = Store(tmp_path / "other" / "store")
    ours = latest_titles(read_dataset(store, SmallShop().ingested(store)))
    assert latest_titles(read_dataset(theirs, other.ingested(theirs))).equals(ours)


def test_only_users_with_a_written_profile_get_one_and_a_second_run_asks_nothing(
    store: Store,
) -> None:
    dataset = SmallShop().ingested(store)
    like = written_profiles(store, dataset, [0, 1])
    with faulty_endpoint(FaultPlan()) as server:
        endpoint = endpoint_of(spec_of(server.base_url))
        first = made(store, dataset, like, endpoint)
        asked = server.requests_to(EMBEDDINGS)
        again = made(store, dataset, like, endpoint)
        assert server.requests_to(EMBEDDINGS) == asked
    stored = read_user_profiles(store, first.ref)
    assert stored.has_profile.tolist() == [True, True, False, False, False]
    assert np.abs(stored.vectors[:2]).sum() > 0
    assert not stored.vectors[2:].any()
    assert again.reused
    assert again.ref == first.ref


def made(store: Store, dataset: ArtifactRef, like: ArtifactRef, endpoint: Endpoint) -> StageResult:
    return profile_by_titles.fn(dataset, like, endpoint, LlmConfig(), store.root)
