"""Stage 4, histories to user profiles: one partial interest per cluster, then a summary (METHOD 3).

Profiles use training events only. Every step joins by user id or prompt key, never by position
(METHOD 7.15); failures are recorded with a reason and masked, never replaced by text (METHOD 7.11).
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
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
from prompts.render import prompt_version
from tasks.frame.row_blocks import RowFile, write_blocks
from tasks.frame.stage import LlmUsage, StageResult, stage_result, stage_task
from tasks.llm.answer_all import outcome_of, vectors_by_row
from tasks.llm.planned import answer_planned
from tasks.llm.providers.endpoints import Endpoints
from tasks.llm.settings.llm_config import LlmConfig
from tasks.llm.shards.shard import AskingStep
from tasks.profiling.interest_titles import described_items
from tasks.profiling.profile_prompts import (
    PROFILE_CUT,
    TOO_LONG_KEY,
    AnalysisPrompts,
    ProfileTexts,
    SummaryPrompts,
)

SLICE_USERS = 2_048
"""Users per slice of rendered prompts."""

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
        "without a summary prompt. Saves a call per such user; unlike the paper.",
    )
    style: ProfileStyle = Field(
        default=ProfileStyle.PAPER,
        description="'paper' describes the user; 'retrieval' lists product types, brands, uses and "
        "avoided features in the words of the titles.",
    )


@stage_task("profile users")
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
        self.described = described_items(data, clusters)
        self._chosen = None if config.max_users is None else self._sampled(config)

    @property
    def users(self) -> int:
        return self._data.users.height

    def events(self) -> Iterator[pl.DataFrame]:
        """Yields the training events of the chosen users, in slices of users."""
        for events in self._slices():
            if self._chosen is None:
                yield events
            else:
                yield events.join(
                    self._chosen, on=col.USER_INDEX, how="semi", maintain_order="left"
                )

    def _slices(self) -> Iterator[pl.DataFrame]:
        for first in range(0, self.users, SLICE_USERS):
            yield self._data.train_events(first, min(first + SLICE_USERS, self.users))

    def _sampled(self, config: ProfileConfig) -> pl.DataFrame:
        found = (
            events.join(self.described, on=col.ITEM_INDEX, how="semi").select(
                pl.col(col.USER_INDEX).unique().sort()
            )
            for events in self._slices()
        )
        nobody = pl.DataFrame(schema={col.USER_INDEX: pl.Int64})
        return sampled_users(self._data, pl.concat([nobody, *found]), config)


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
    root, style, chat = store.root, config.style, endpoints.chat
    planned, limits = _Planned(store.workspace("spool"), files), llm.chat
    tokens, words = limits.analyze_tokens, limits.analyze_words
    step = AskingStep("analyze interests", Role.CHAT, chat, llm, store, tokens, words)
    plan = AnalysisPrompts(histories.described, chat, tokens, llm.language, style)
    partial = answer_planned(step, plan, histories.events(), planned.analyzed.append)
    tokens = limits.summarize_tokens
    step = AskingStep(
        "summarize users", Role.CHAT, chat, llm, store, tokens, limits.summarize_words
    )
    without = config.skip_summary_for_single_cluster
    plan = SummaryPrompts(root, chat, tokens, llm.language, style, without, SLICE_USERS)
    asked = planned.analyzed.blocks(partial.lookup_rows)
    summary = answer_planned(step, plan, asked, planned.add_interests)
    step = AskingStep("embed profiles", Role.EMBEDDING, endpoints.embedding, llm, store)
    plan = ProfileTexts(root, endpoints.embedding, SLICE_USERS)
    asked = planned.summarized.blocks(summary.lookup_rows)
    embedded = answer_planned(step, plan, asked, planned.add_profiles)
    placed = planned.embedded.blocks(embedded.lookup_rows)
    vectors, has_profile = vectors_by_row(embedded, placed, col.USER_INDEX, histories.users)
    return _Profiled(
        interests=planned.interests,
        profiles=planned.profiles,
        vectors=vectors,
        has_profile=has_profile,
        failures=pl.concat([partial.failures, summary.failures, embedded.failures]),
        usage=partial.usage + summary.usage + embedded.usage,
        summaries_skipped=planned.skipped,
        cut_by_length=planned.cut,
        too_long=len(planned.too_long),
    )


class _Planned:
    """Rows of the three steps, in user order. Data that grow with users are on disk."""

    def __init__(self, folder: Path, files: ExitStack) -> None:
        def rows(*columns: str) -> RowFile:
            return files.enter_context(
                RowFile(pl.Schema({name: _ROWS[name] for name in columns}), folder)
            )

        self.analyzed = rows(col.USER_INDEX, col.CLUSTER, col.KEY)
        self.summarized = rows(col.USER_INDEX, col.KEY, PROFILE, CUT)
        self.interests = rows(col.USER_INDEX, col.CLUSTER, INTEREST, CUT)
        self.profiles = rows(col.USER_INDEX, PROFILE, CUT)
        self.embedded = rows(col.USER_INDEX, col.KEY)
        self.skipped, self.cut = 0, 0
        self.too_long: set[str] = set()

    def add_interests(self, rows: pl.DataFrame) -> None:
        self.interests.append(rows)
        users = rows.filter(pl.col(col.USER_INDEX).is_first_distinct())
        self.summarized.append(users.with_columns(pl.col(PROFILE_CUT).alias(CUT)))
        self.skipped += int(users[PROFILE].is_not_null().sum())
        self.too_long.update(rows[TOO_LONG_KEY].drop_nulls())

    def add_profiles(self, rows: pl.DataFrame) -> None:
        self.profiles.append(rows)
        self.embedded.append(rows)
        self.cut += int(rows[CUT].sum())
        self.too_long.update(rows[TOO_LONG_KEY].drop_nulls())


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
