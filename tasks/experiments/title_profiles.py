"""Ablation of profiles: embeddings of a user's latest titles, without the chat model.

The difference shows the contribution of the chat model. Training events only.
"""

import time

import polars as pl

from artifacts import columns as col
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.kinds.user_profiles import CUT, INTEREST, PROFILE, UserProfiles, write_user_profiles
from artifacts.ledger.answers import Role
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from prompts.render import MAX_TITLES
from tasks.frame.stage import StageResult, stage_result, stage_task
from tasks.llm.answer_all import (
    Answered,
    answer_all,
    embedding_keys,
    outcome_of,
    vectors_by_row,
)
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import LlmConfig
from tasks.llm.shards.shard import AskingStep

SEPARATOR = "; "


@stage_task("profile by titles")
def profile_by_titles(
    dataset: ArtifactRef,
    like: ArtifactRef,
    endpoint: Endpoint,
    llm: LlmConfig,
    store_root: str,
) -> StageResult:
    """Returns profiles of the users with one in ``like``, so that only the text differs.

    Raises:
        EndpointRefusedError, EndpointDownError, TooManyFailuresError.
    """
    started = time.monotonic()
    store = Store(store_root)
    parameters = {
        "source": "titles",
        "titles": MAX_TITLES,
        "embedding": [endpoint.model, endpoint.parameters],
    }
    wanted = identity(Kind.USER_PROFILES, parameters, {"dataset": dataset, "like": like})
    if found := store.find(wanted):
        return stage_result(store, "profile by titles", found, started, reused=True)
    data = read_dataset(store, dataset)
    chosen = pl.read_parquet(store.path(like) / "profiles.parquet", glob=False)
    texts = latest_titles(data).join(chosen, on=col.USER_INDEX, how="semi", maintain_order="left")
    keyed = embedding_keys(texts[PROFILE].to_list(), endpoint)
    answered = answer_all(AskingStep("embed titles", Role.EMBEDDING, endpoint, llm, store), keyed)
    actual = wanted.model_copy(update={"outcome": outcome_of(answered.failures)})
    if store.find(actual) is None:
        with store.create(actual) as draft:
            made = _profiles(data, texts.hstack(keyed.select(col.KEY)), answered)
            write_user_profiles(draft.path, made)
            draft.notes.extend(endpoint.notes)
            draft.counts.update(
                {"users": data.users.height, "with_profile": int(made.has_profile.sum())}
            )
    return stage_result(
        store, "profile by titles", actual.ref, started, reused=False, usage=answered.usage
    )


def latest_titles(data: Dataset) -> pl.DataFrame:
    """Returns ``user_index, profile``: each user's latest distinct titles in training, joined."""
    titled = data.items.select(pl.col(col.ITEM_INDEX).cast(pl.Int32), col.TITLE).drop_nulls()
    latest = pl.col(col.TITLE).reverse().unique(maintain_order=True).head(MAX_TITLES).reverse()
    return (
        data.train_events()
        .join(titled, on=col.ITEM_INDEX, maintain_order="left")
        .group_by(col.USER_INDEX, maintain_order=True)
        .agg(latest.str.join(SEPARATOR).alias(PROFILE))
    )


def _profiles(data: Dataset, texts: pl.DataFrame, answered: Answered) -> UserProfiles:
    vectors, has_profile = vectors_by_row(answered, [texts], col.USER_INDEX, data.users.height)
    told = texts.filter(pl.Series(has_profile[texts[col.USER_INDEX].to_numpy()])).select(
        col.USER_INDEX, PROFILE, pl.lit(False).alias(CUT)
    )
    nothing = pl.DataFrame(
        schema={
            col.USER_INDEX: told.schema[col.USER_INDEX],
            col.CLUSTER: pl.Int32,
            INTEREST: pl.String,
            CUT: pl.Boolean,
        }
    )
    return UserProfiles(
        profiles=data.users.select(col.USER_INDEX, col.USER_ID).join(
            told, on=col.USER_INDEX, how="inner"
        ),
        interests=nothing,
        failures=answered.failures,
        vectors=vectors,
        has_profile=has_profile,
    )
