"""Stage 4, histories to user profiles: one partial interest a cluster, then a summary (METHOD 3).

A profile sees only the events that training may see. Every step joins by user id or prompt
key, never by position (METHOD 7.15); what fails is recorded with its reason and masked, never
turned into text (METHOD 7.11).
"""

import time
from typing import NamedTuple

import numpy as np
import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from artifacts import columns as col
from artifacts.fingerprint import sha256_of
from artifacts.kinds.clusters import read_clusters
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.kinds.user_profiles import CUT, INTEREST, PROFILE, UserProfiles, write_user_profiles
from artifacts.ledger.answers import Role, vectors_of
from artifacts.manifest import ArtifactRef, Identity, Kind, identity
from artifacts.store import Draft, Store
from artifacts.strict import Strict
from prompts.render import MAX_TITLES, analyze_prompt, prompt_version, summarize_prompt
from tasks.frame.stage import LlmUsage, StageResult, stage_result
from tasks.llm.answer_all import answer_all, chat_keys, embedding_keys, outcome_of
from tasks.llm.client.answer_checks import TOO_LONG
from tasks.llm.providers.endpoints import Endpoints
from tasks.llm.settings.llm_config import LlmConfig


class ProfileConfig(Strict):
    """Who gets a profile."""

    max_users: int | None = Field(
        default=None,
        ge=0,
        description="Profile a seeded sample of this many users; all by default. Users without a "
        "profile train with the alignment term masked.",
    )
    seed: int = Field(default=0, description="Chooses the sample.")
    skip_summary_for_single_cluster: bool = Field(
        default=False,
        description="Use the analysis of a user with a single interest as the profile, without "
        "asking for its summary. Saves a call a user; the paper asks.",
    )


class Profiled(NamedTuple):
    """What the stage made, what it cost, how many summaries it did without, and how many texts
    stayed longer than asked for."""

    profiles: UserProfiles
    usage: LlmUsage
    summaries_skipped: int
    too_long: int


@task(name="profile users", task_run_name="profile users", cache_policy=NO_CACHE)
def profile_users(
    dataset: ArtifactRef,
    clusters: ArtifactRef,
    endpoints: Endpoints,
    llm: LlmConfig,
    config: ProfileConfig,
    store_root: str,
) -> StageResult:
    """Returns the profiles of a dataset's users, asking only for what the ledger lacks.

    Raises:
        EndpointRefusedError, EndpointDownError, TooManyFailuresError.
    """
    started = time.monotonic()
    store = Store(store_root)
    wanted = profiles_identity(dataset, clusters, endpoints, llm, config)
    if found := store.find(wanted):
        return stage_result(store, "profile users", found, started, reused=True)
    data = read_dataset(store, dataset)
    titles = titles_by_interest(data, read_clusters(store, clusters))
    chosen = titles.join(sampled_users(data, titles, config), on=col.USER_INDEX, how="semi")
    made = _profile(data, chosen, endpoints, llm, config, store)
    actual = wanted.model_copy(update={"outcome": outcome_of(made.profiles.failures)})
    if store.find(actual) is None:
        with store.create(actual) as draft:
            _write(draft, made, endpoints)
    return stage_result(store, "profile users", actual.ref, started, reused=False, usage=made.usage)


def profiles_identity(
    dataset: ArtifactRef,
    clusters: ArtifactRef,
    endpoints: Endpoints,
    llm: LlmConfig,
    config: ProfileConfig,
) -> Identity:
    """What profiles depend on: histories, clusters, templates, both models, their limits."""
    parameters = {
        "chat": [endpoints.chat.model, endpoints.chat.parameters],
        "embedding": [endpoints.embedding.model, endpoints.embedding.parameters],
        "tokens": [llm.chat.analyze_tokens, llm.chat.summarize_tokens],
        "words": [llm.chat.analyze_words, llm.chat.summarize_words],
        "templates": [prompt_version(llm.language, name) for name in ("analyze", "summarize")],
        "language": llm.language.value,
        **config.model_dump(),
    }
    return identity(Kind.USER_PROFILES, parameters, {"dataset": dataset, "clusters": clusters})


def titles_by_interest(data: Dataset, clusters: pl.DataFrame) -> pl.DataFrame:
    """Returns ``user_index, cluster, titles``: the latest distinct titles of each interest.

    Only training events count; at most `MAX_TITLES` a cluster, oldest first. Items without a
    title say nothing and are left out.
    """
    titled = data.items.select(pl.col(col.ITEM_INDEX).cast(pl.Int32), col.TITLE).filter(
        pl.col(col.TITLE).is_not_null()
    )
    assigned = clusters.select(pl.col(col.ITEM_INDEX).cast(pl.Int32), col.CLUSTER)
    return (
        data.train_events()
        .join(titled, on=col.ITEM_INDEX, maintain_order="left")
        .join(assigned, on=col.ITEM_INDEX, maintain_order="left")
        .group_by(col.USER_INDEX, col.CLUSTER, maintain_order=True)
        .agg(_latest_distinct(pl.col(col.TITLE)).alias("titles"))
        .sort(col.USER_INDEX, col.CLUSTER)
    )


def _latest_distinct(titles: pl.Expr) -> pl.Expr:
    """A title chosen again counts where it was chosen last."""
    return titles.reverse().unique(maintain_order=True).head(MAX_TITLES).reverse()


def sampled_users(data: Dataset, titles: pl.DataFrame, config: ProfileConfig) -> pl.DataFrame:
    users = titles.select(pl.col(col.USER_INDEX).unique(maintain_order=True))
    if config.max_users is None or config.max_users >= users.height:
        return users
    ids = data.users[col.USER_ID].gather(users[col.USER_INDEX])
    draw = pl.Series([sha256_of([config.seed, user_id]) for user_id in ids])
    return users[draw.arg_sort()[: config.max_users].to_list()]


def _profile(
    data: Dataset,
    titles: pl.DataFrame,
    endpoints: Endpoints,
    llm: LlmConfig,
    config: ProfileConfig,
    store: Store,
) -> Profiled:
    analyze = [analyze_prompt(row, llm.language) for row in titles["titles"].to_list()]
    asked = chat_keys(analyze, endpoints.chat, llm.chat.analyze_tokens)
    limits = (llm.chat.analyze_tokens, llm.chat.analyze_words)
    partial = answer_all("analyze interests", Role.CHAT, asked, endpoints.chat, llm, store, *limits)
    interests = _answered_text(
        titles.select(col.USER_INDEX, col.CLUSTER).hstack(asked.select(col.KEY)),
        partial.answers,
        INTEREST,
    )

    alone = _alone_in_their_interest(interests, titles, config)
    rest = interests.join(alone, on=col.USER_INDEX, how="anti", maintain_order="left")
    by_user = rest.group_by(col.USER_INDEX, maintain_order=True).agg(INTEREST)
    summarize = [summarize_prompt(row, llm.language) for row in by_user[INTEREST].to_list()]
    asked = chat_keys(summarize, endpoints.chat, llm.chat.summarize_tokens)
    limits = (llm.chat.summarize_tokens, llm.chat.summarize_words)
    summary = answer_all("summarize users", Role.CHAT, asked, endpoints.chat, llm, store, *limits)
    summarized = _answered_text(
        by_user.select(col.USER_INDEX).hstack(asked.select(col.KEY)), summary.answers, PROFILE
    )
    profiles = pl.concat([summarized, alone]).sort(col.USER_INDEX)

    keyed = embedding_keys(profiles[PROFILE].to_list(), endpoints.embedding)
    embedded = answer_all("embed profiles", Role.EMBEDDING, keyed, endpoints.embedding, llm, store)
    placed = profiles.select(col.USER_INDEX).hstack(keyed.select(col.KEY))
    vectors, has_profile = _scatter(data.users.height, placed, embedded.answers)
    made = UserProfiles(
        profiles=data.users.select(col.USER_INDEX, col.USER_ID).join(
            profiles, on=col.USER_INDEX, how="inner"
        ),
        interests=interests,
        failures=pl.concat([partial.failures, summary.failures, embedded.failures]),
        vectors=vectors,
        has_profile=has_profile,
    )
    usage = partial.usage + summary.usage + embedded.usage
    too_long = sum(_too_long(answered.answers) for answered in (partial, summary))
    return Profiled(made, usage, alone.height, too_long)


def _alone_in_their_interest(
    interests: pl.DataFrame, titles: pl.DataFrame, config: ProfileConfig
) -> pl.DataFrame:
    """Returns the profiles that need no summary: ``user_index, profile, cut``.

    A history of one interest counts, not one whose other interests have failed.
    """
    single = titles.filter(pl.col(col.USER_INDEX).is_unique()).select(col.USER_INDEX)
    if not config.skip_summary_for_single_cluster:
        single = single.clear()
    return interests.join(single, on=col.USER_INDEX, how="semi", maintain_order="left").select(
        col.USER_INDEX, pl.col(INTEREST).alias(PROFILE), CUT
    )


def _answered_text(asked: pl.DataFrame, answers: pl.DataFrame, name: str) -> pl.DataFrame:
    """Joins answers to who asked, by key; rows without an answer are left out."""
    return asked.join(answers, on=col.KEY, how="inner", maintain_order="left").select(
        pl.exclude(
            col.KEY, "text", "vector", "finish_reason", "prompt_tokens", "completion_tokens"
        ),
        pl.col("text").alias(name),
        (pl.col("finish_reason") == "length").alias(CUT),
    )


def _too_long(answers: pl.DataFrame) -> int:
    return answers.filter(pl.col("finish_reason") == TOO_LONG).height


def _scatter(
    users: int, placed: pl.DataFrame, answers: pl.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    rows = placed.join(answers, on=col.KEY, how="inner", maintain_order="left")
    has_profile = np.zeros(users, dtype=bool)
    if rows.is_empty():
        return np.zeros((users, 0), np.float32), has_profile
    embedded = vectors_of(rows)
    vectors = np.zeros((users, embedded.shape[1]), np.float32)
    index = rows[col.USER_INDEX].to_numpy()
    vectors[index] = embedded
    has_profile[index] = True
    return vectors, has_profile


def _write(draft: Draft, profiled: Profiled, endpoints: Endpoints) -> None:
    made = profiled.profiles
    write_user_profiles(draft.path, made)
    draft.notes.extend(endpoints.chat.notes)
    draft.counts.update(
        {
            "users": len(made.has_profile),
            "with_profile": int(made.has_profile.sum()),
            "interests": made.interests.height,
            "cut_by_length": int(made.profiles[CUT].sum()),
            "too_long": profiled.too_long,
            "failed": made.failures.height,
            "summaries_skipped": profiled.summaries_skipped,
        }
    )
