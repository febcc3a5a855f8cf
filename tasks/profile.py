"""Stage 4, histories to user profiles: one partial interest per cluster, then a summary (METHOD 3).

Profiles use training events only. Every step joins by user id or prompt key, never by position
(METHOD 7.15); failures are recorded with a reason and masked, never replaced by text (METHOD 7.11).
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from artifacts import columns as col
from artifacts.drafts import Draft
from artifacts.fingerprint import sha256_of
from artifacts.kinds.clusters import read_clusters
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.kinds.user_profiles import (
    CUT,
    FAILURES_FILE,
    INTEREST,
    INTERESTS_FILE,
    PROFILE,
    PROFILES_FILE,
    write_profile_vectors,
)
from artifacts.ledger.answers import Role
from artifacts.manifest import ArtifactRef, Identity, Kind, identity
from artifacts.store import Store
from artifacts.strict import Strict
from prompts.profile_style import ProfileStyle
from prompts.render import MAX_TITLES, analyze_prompt, prompt_version, summarize_prompt
from tasks.frame.row_blocks import RowFile, write_blocks
from tasks.frame.stage import LlmUsage, StageResult, stage_result
from tasks.llm.answer_all import Answered, answer_all, chat_keys, embedding_keys, outcome_of
from tasks.llm.answered_vectors import vectors_by_row
from tasks.llm.client.checks.answer_checks import TOO_LONG
from tasks.llm.providers.endpoints import Endpoints
from tasks.llm.settings.llm_config import LlmConfig

SLICE_USERS = 2_048
"""Users per slice of rendered prompts."""
SEPARATOR = "; "

_ROWS = {
    col.USER_INDEX: pl.Int64,
    col.CLUSTER: pl.Int32,
    col.KEY: pl.String,
    INTEREST: pl.String,
    PROFILE: pl.String,
    CUT: pl.Boolean,
}


class ProfileConfig(Strict):
    """Settings of user profiles."""

    max_users: int | None = Field(
        default=None,
        ge=0,
        description="Profile a seeded sample of this many users; all by default. For users without "
        "a profile the alignment loss is masked.",
    )
    seed: int = Field(default=0, description="Seed of the sample.")
    skip_summary_for_single_cluster: bool = Field(
        default=False,
        description="Use the partial interest of users with a single cluster as the profile, "
        "without a summary prompt. Saves one call per user; the paper summarises.",
    )
    style: ProfileStyle = Field(
        default=ProfileStyle.PAPER,
        description="'paper' describes the user; 'retrieval' lists product types, brands, uses and "
        "avoided features in the words of the titles.",
    )


@task(name="profile users", task_run_name="profile users", cache_policy=NO_CACHE)
def profile_users(
    dataset: ArtifactRef,
    clusters: ArtifactRef,
    endpoints: Endpoints,
    llm: LlmConfig,
    config: ProfileConfig,
    store_root: str,
) -> StageResult:
    """Returns the profiles of a dataset's users; sends only prompts that are not in the ledger.

    Raises:
        EndpointRefusedError, EndpointDownError, TooManyFailuresError.
    """
    started = time.monotonic()
    store = Store(store_root)
    wanted = profiles_identity(dataset, clusters, endpoints, llm, config)
    if found := store.find(wanted):
        return stage_result(store, "profile users", found, started, reused=True)
    data = read_dataset(store, dataset)
    histories = ProfiledHistories(data, read_clusters(store, clusters), config)
    with ExitStack() as files:
        made = _profile(histories, endpoints, llm, config, store, files)
        actual = wanted.model_copy(update={"outcome": outcome_of(made.failures)})
        if store.find(actual) is None:
            with store.create(actual) as draft:
                _write(draft, data, made, endpoints)
    return stage_result(store, "profile users", actual.ref, started, reused=False, usage=made.usage)


def profiles_identity(
    dataset: ArtifactRef,
    clusters: ArtifactRef,
    endpoints: Endpoints,
    llm: LlmConfig,
    config: ProfileConfig,
) -> Identity:
    """Returns the identity of profiles: histories, clusters, templates, models, limits."""
    parameters = {
        "chat": [endpoints.chat.model, endpoints.chat.parameters],
        "embedding": [endpoints.embedding.model, endpoints.embedding.parameters],
        "tokens": [llm.chat.analyze_tokens, llm.chat.summarize_tokens],
        "words": [llm.chat.analyze_words, llm.chat.summarize_words],
        "templates": [prompt_version(llm.language, name) for name in config.style.templates],
        "language": llm.language.value,
        **config.model_dump(exclude={"style"}),  # Included in the templates.
    }
    return identity(Kind.USER_PROFILES, parameters, {"dataset": dataset, "clusters": clusters})


class ProfiledHistories:
    """Training events of the users to profile, in slices."""

    def __init__(self, data: Dataset, clusters: pl.DataFrame, config: ProfileConfig) -> None:
        self._data = data
        self._described = _described_items(data, clusters)
        self._chosen = None if config.max_users is None else self._sampled(config)

    @property
    def users(self) -> int:
        return self._data.users.height

    def titles(self) -> Iterator[pl.DataFrame]:
        """Yields ``user_index, cluster, titles`` as `titles_by_interest`, in user order."""
        for events in self._slices():
            titles = _latest_titles(events, self._described)
            if self._chosen is not None:
                titles = titles.join(
                    self._chosen, on=col.USER_INDEX, how="semi", maintain_order="left"
                )
            yield titles

    def _slices(self) -> Iterator[pl.DataFrame]:
        for first in range(0, self.users, SLICE_USERS):
            yield self._data.train_events(first, min(first + SLICE_USERS, self.users))

    def _sampled(self, config: ProfileConfig) -> pl.DataFrame:
        found = (
            events.join(self._described, on=col.ITEM_INDEX, how="semi").select(
                pl.col(col.USER_INDEX).unique().sort()
            )
            for events in self._slices()
        )
        nobody = pl.DataFrame(schema={col.USER_INDEX: pl.Int64})
        return sampled_users(self._data, pl.concat([nobody, *found]), config)


def titles_by_interest(data: Dataset, clusters: pl.DataFrame) -> pl.DataFrame:
    """Returns ``user_index, cluster, titles``: the latest distinct titles of each interest.

    Training events only; at most `MAX_TITLES` per cluster, oldest first; without untitled items.
    """
    return _latest_titles(data.train_events(), _described_items(data, clusters))


def _described_items(data: Dataset, clusters: pl.DataFrame) -> pl.DataFrame:
    """Returns ``item_index, title, cluster`` of the items that have both."""
    titled = data.items.select(pl.col(col.ITEM_INDEX).cast(pl.Int32), col.TITLE)
    assigned = clusters.select(pl.col(col.ITEM_INDEX).cast(pl.Int32), col.CLUSTER)
    return titled.filter(pl.col(col.TITLE).is_not_null()).join(assigned, on=col.ITEM_INDEX)


def _latest_titles(events: pl.DataFrame, described: pl.DataFrame) -> pl.DataFrame:
    return (
        events.join(described, on=col.ITEM_INDEX, maintain_order="left")
        .group_by(col.USER_INDEX, col.CLUSTER, maintain_order=True)
        .agg(_latest_distinct(pl.col(col.TITLE)).alias("titles"))
        .sort(col.USER_INDEX, col.CLUSTER)
    )


def _latest_distinct(titles: pl.Expr) -> pl.Expr:
    """Returns distinct titles at their last occurrence."""
    return titles.reverse().unique(maintain_order=True).head(MAX_TITLES).reverse()


def sampled_users(data: Dataset, titles: pl.DataFrame, config: ProfileConfig) -> pl.DataFrame:
    users = titles.select(pl.col(col.USER_INDEX).unique(maintain_order=True))
    if config.max_users is None or config.max_users >= users.height:
        return users
    ids = data.users[col.USER_ID].gather(users[col.USER_INDEX])
    draw = pl.Series([sha256_of([config.seed, user_id]) for user_id in ids])
    return users[draw.arg_sort()[: config.max_users].to_list()]


@dataclass
class _Profiled:
    """Result and cost of the stage."""

    interests: RowFile
    profiles: RowFile
    vectors: np.ndarray
    has_profile: np.ndarray
    failures: pl.DataFrame
    usage: LlmUsage
    summaries_skipped: int
    cut_by_length: int
    too_long: int


def _profile(
    histories: ProfiledHistories,
    endpoints: Endpoints,
    llm: LlmConfig,
    config: ProfileConfig,
    store: Store,
    files: ExitStack,
) -> _Profiled:
    """Requests interests, then summaries, then vectors; intermediate rows are on disk."""
    plan = _PromptPlan(endpoints, llm, config, store, files)
    chat, limits = endpoints.chat, llm.chat
    most = (limits.analyze_tokens, limits.analyze_words)
    asked = plan.analyses(histories)
    partial = answer_all("analyze interests", Role.CHAT, asked, chat, llm, store, *most)
    most = (limits.summarize_tokens, limits.summarize_words)
    asked = plan.summaries(partial)
    summary = answer_all("summarize users", Role.CHAT, asked, chat, llm, store, *most)
    asked = plan.embeddings(summary)
    embedded = answer_all("embed profiles", Role.EMBEDDING, asked, endpoints.embedding, llm, store)
    placed = plan.embedded.blocks(embedded.lookup_rows)
    vectors, has_profile = vectors_by_row(embedded, placed, col.USER_INDEX, histories.users)
    return _Profiled(
        interests=plan.interests,
        profiles=plan.profiles,
        vectors=vectors,
        has_profile=has_profile,
        failures=pl.concat([partial.failures, summary.failures, embedded.failures]),
        usage=partial.usage + summary.usage + embedded.usage,
        summaries_skipped=plan.skipped,
        cut_by_length=plan.cut,
        too_long=len(plan.too_long),
    )


class _PromptPlan:
    """Prompts of the three steps, rendered while earlier ones are answered.

    Data that grow with users are rows on disk, in user order.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        llm: LlmConfig,
        config: ProfileConfig,
        store: Store,
        files: ExitStack,
    ) -> None:
        self._endpoints, self._llm, self._config = endpoints, llm, config
        self._style = config.style
        folder = store.workspace("spool")

        def rows(*columns: str) -> RowFile:
            return files.enter_context(
                RowFile(pl.Schema({name: _ROWS[name] for name in columns}), folder)
            )

        self._analyzed = rows(col.USER_INDEX, col.CLUSTER, col.KEY)
        self._summarized = rows(col.USER_INDEX, col.KEY, PROFILE, CUT)
        self.interests = rows(col.USER_INDEX, col.CLUSTER, INTEREST, CUT)
        self.profiles = rows(col.USER_INDEX, PROFILE, CUT)
        self.embedded = rows(col.USER_INDEX, col.KEY)
        self.skipped, self.cut = 0, 0
        self.too_long: set[str] = set()

    def analyses(self, histories: ProfiledHistories) -> Iterator[pl.DataFrame]:
        chat, tokens = self._endpoints.chat, self._llm.chat.analyze_tokens
        for titles in histories.titles():
            listed = titles["titles"].to_list()
            prompts = [analyze_prompt(row, self._llm.language, self._style) for row in listed]
            keyed = chat_keys(prompts, chat, tokens)
            self._analyzed.append(titles.with_columns(keyed[col.KEY]))
            yield keyed

    def summaries(self, partial: Answered) -> Iterator[pl.DataFrame]:
        chat, tokens = self._endpoints.chat, self._llm.chat.summarize_tokens
        for asked in self._analyzed.blocks(partial.lookup_rows):
            interests = self._texts(asked, partial, INTEREST)
            self.interests.append(interests)
            alone = _without_summary(interests, asked, self._config)
            self.skipped += alone.height
            rest = interests.join(alone, on=col.USER_INDEX, how="anti", maintain_order="left")
            by_user = rest.group_by(col.USER_INDEX, maintain_order=True).agg(INTEREST)
            placed = [pl.DataFrame(schema=self._summarized.schema), alone]
            for users in by_user.iter_slices(SLICE_USERS):
                listed = users[INTEREST].to_list()
                prompts = [summarize_prompt(row, self._llm.language) for row in listed]
                keyed = chat_keys(prompts, chat, tokens)
                placed.append(users.select(col.USER_INDEX).with_columns(keyed[col.KEY]))
                yield keyed
            self._summarized.append(pl.concat(placed, how="diagonal").sort(col.USER_INDEX))

    def embeddings(self, summary: Answered) -> Iterator[pl.DataFrame]:
        for asked in self._summarized.blocks(summary.lookup_rows):
            summarized = asked.filter(pl.col(col.KEY).is_not_null())
            texts = self._texts(summarized.select(col.USER_INDEX, col.KEY), summary, PROFILE)
            alone = asked.filter(pl.col(col.KEY).is_null()).select(texts.columns)
            profiles = pl.concat([texts, alone]).sort(col.USER_INDEX)
            self.profiles.append(profiles)
            self.cut += int(profiles[CUT].sum())
            for users in profiles.iter_slices(SLICE_USERS):
                keyed = embedding_keys(users[PROFILE].to_list(), self._endpoints.embedding)
                self.embedded.append(users.with_columns(keyed[col.KEY]))
                yield keyed

    def _texts(self, asked: pl.DataFrame, answered: Answered, name: str) -> pl.DataFrame:
        answers = answered.answers_to(asked[col.KEY])
        self.too_long.update(answers.filter(pl.col("finish_reason") == TOO_LONG)[col.KEY])
        return _answered_text(asked, answers, name)


def joined_interests(interests: Sequence[str]) -> str:
    """Returns the profile of a style without a summary: each answer's first line, because small
    models continue with further questions."""
    return SEPARATOR.join(text.strip().split("\n")[0] for text in interests)


def _without_summary(
    interests: pl.DataFrame, titles: pl.DataFrame, config: ProfileConfig
) -> pl.DataFrame:
    """Returns the profiles that need no summary: ``user_index, profile, cut``.

    Only histories with one interest, not those whose other interests failed.
    """
    if not config.style.is_summarized:
        by_user = interests.group_by(col.USER_INDEX, maintain_order=True).agg(INTEREST, CUT)
        joined = [joined_interests(row) for row in by_user[INTEREST].to_list()]
        return by_user.select(
            col.USER_INDEX, pl.Series(PROFILE, joined, pl.String), pl.col(CUT).list.any()
        )
    single = titles.filter(pl.col(col.USER_INDEX).is_unique()).select(col.USER_INDEX)
    if not config.skip_summary_for_single_cluster:
        single = single.clear()
    return interests.join(single, on=col.USER_INDEX, how="semi", maintain_order="left").select(
        col.USER_INDEX, pl.col(INTEREST).alias(PROFILE), CUT
    )


def _answered_text(asked: pl.DataFrame, answers: pl.DataFrame, name: str) -> pl.DataFrame:
    """Joins answers to rows by key; drops unanswered rows."""
    return asked.join(answers, on=col.KEY, how="inner", maintain_order="left").select(
        pl.exclude(
            col.KEY, "text", "vector", "finish_reason", "prompt_tokens", "completion_tokens"
        ),
        pl.col("text").alias(name),
        (pl.col("finish_reason") == "length").alias(CUT),
    )


def _write(draft: Draft, data: Dataset, made: _Profiled, endpoints: Endpoints) -> None:
    user_index = data.users.schema[col.USER_INDEX]
    columns = pl.Schema(
        {col.USER_INDEX: user_index, col.USER_ID: pl.String, PROFILE: pl.String, CUT: pl.Boolean}
    )
    named = (
        users.with_columns(data.users[col.USER_ID].gather(users[col.USER_INDEX]))
        for users in made.profiles.blocks(SLICE_USERS)
    )
    write_blocks(draft.path / PROFILES_FILE, named, columns)
    interests = made.interests.blocks(SLICE_USERS)
    write_blocks(draft.path / INTERESTS_FILE, interests, made.interests.schema)
    made.failures.write_parquet(draft.path / FAILURES_FILE)
    write_profile_vectors(draft.path, made.vectors, made.has_profile)
    draft.notes.extend(endpoints.chat.notes)
    draft.counts.update(
        {
            "users": len(made.has_profile),
            "with_profile": int(made.has_profile.sum()),
            "interests": made.interests.height,
            "cut_by_length": made.cut_by_length,
            "too_long": made.too_long,
            "failed": made.failures.height,
            "summaries_skipped": made.summaries_skipped,
        }
    )
