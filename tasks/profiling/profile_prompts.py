"""Plans of the three steps of a profile: interests, summary, vector (METHOD 3).

Each renders the prompts of a block of users, in any process: from events, or from the rows of the
step before and its answers in the ledger.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from artifacts import columns as col
from artifacts.kinds.user_profiles import CUT, INTEREST, PROFILE
from artifacts.ledger.answers import Role
from artifacts.ledger.ledger import open_ledger
from artifacts.store import Store
from prompts.profile_style import ProfileStyle
from prompts.render import Language, analyze_prompt, summarize_prompt
from tasks.llm.answer_all import chat_keys, embedding_keys
from tasks.llm.client.checks.answer_checks import TOO_LONG
from tasks.llm.providers.endpoints import Endpoint
from tasks.profiling.interest_titles import TITLES, latest_titles

SEPARATOR = "; "

PROFILE_CUT = "profile_cut"
TOO_LONG_KEY = "too_long_key"
"""Key of the answer in the row, if the answer has too many words."""


@dataclass(frozen=True)
class AnalysisPrompts:
    """Plan: training events of a block of users to ``user_index, cluster, key, prompt``.

    ``described``: the items as `described_items`.
    """

    described: pl.DataFrame
    endpoint: Endpoint
    max_tokens: int
    language: Language
    style: ProfileStyle

    def __call__(self, events: pl.DataFrame) -> Iterator[pl.DataFrame]:
        titles = latest_titles(events, self.described)
        prompts = [analyze_prompt(row, self.language, self.style) for row in titles[TITLES]]
        keyed = chat_keys(prompts, self.endpoint, self.max_tokens)
        yield titles.select(col.USER_INDEX, col.CLUSTER).hstack(keyed)


@dataclass(frozen=True)
class SummaryPrompts:
    """Plan: ``user_index, cluster, key`` of asked interests to a row per answered interest.

    A user's first row has the key and prompt of the summary, or the profile of a user without a
    summary with its ``profile_cut``.
    """

    store_root: str
    endpoint: Endpoint
    max_tokens: int
    language: Language
    style: ProfileStyle
    skips_single: bool
    slice_users: int

    def __call__(self, asked: pl.DataFrame) -> Iterator[pl.DataFrame]:
        interests = _answered_text(asked, self.store_root, INTEREST)
        alone = self._without_summary(interests, asked)
        number = interests[col.USER_INDEX].rle_id() // self.slice_users
        for some in interests.with_columns(number.alias("slice")).partition_by(
            "slice", maintain_order=True, include_key=False
        ):
            done = alone.join(some, on=col.USER_INDEX, how="semi")
            rest = some.join(done, on=col.USER_INDEX, how="anti", maintain_order="left")
            by_user = rest.group_by(col.USER_INDEX, maintain_order=True).agg(INTEREST)
            prompts = [summarize_prompt(row.to_list(), self.language) for row in by_user[INTEREST]]
            keyed = chat_keys(prompts, self.endpoint, self.max_tokens)
            summarized = by_user.select(col.USER_INDEX).hstack(keyed)
            users = pl.concat([summarized, done], how="diagonal")
            first = some.filter(pl.col(col.USER_INDEX).is_first_distinct())
            first = first.join(users, on=col.USER_INDEX, how="left", maintain_order="left")
            place = [col.USER_INDEX, col.CLUSTER]
            yield some.join(
                first.select(*place, *users.columns[1:]),
                on=place,
                how="left",
                maintain_order="left",
            )

    def _without_summary(self, interests: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
        """Returns the profiles that need no summary: ``user_index, profile, profile_cut``.

        Only histories with one interest, not those whose other interests failed.
        """
        if not self.style.is_summarized:
            by_user = interests.group_by(col.USER_INDEX, maintain_order=True).agg(INTEREST, CUT)
            joined = [joined_interests(row) for row in by_user[INTEREST].to_list()]
            return by_user.select(
                col.USER_INDEX,
                pl.Series(PROFILE, joined, pl.String),
                pl.col(CUT).list.any().alias(PROFILE_CUT),
            )
        single = asked.filter(pl.col(col.USER_INDEX).is_unique()).select(col.USER_INDEX)
        if not self.skips_single:
            single = single.clear()
        return interests.join(single, on=col.USER_INDEX, how="semi", maintain_order="left").select(
            col.USER_INDEX, pl.col(INTEREST).alias(PROFILE), pl.col(CUT).alias(PROFILE_CUT)
        )


@dataclass(frozen=True)
class ProfileTexts:
    """Plan: ``user_index, key, profile, cut`` of users to their profiles with the key and prompt of
    the vector. Rows with a key get the profile from its answer."""

    store_root: str
    endpoint: Endpoint
    slice_users: int

    def __call__(self, asked: pl.DataFrame) -> Iterator[pl.DataFrame]:
        summarized = asked.filter(pl.col(col.KEY).is_not_null()).select(col.USER_INDEX, col.KEY)
        texts = _answered_text(summarized, self.store_root, PROFILE)
        alone = asked.filter(pl.col(col.KEY).is_null()).select(col.USER_INDEX, PROFILE, CUT)
        profiles = pl.concat([texts, alone], how="diagonal").sort(col.USER_INDEX)
        for users in profiles.iter_slices(self.slice_users):
            yield users.hstack(embedding_keys(users[PROFILE].to_list(), self.endpoint))


def joined_interests(interests: Sequence[str]) -> str:
    """Returns the profile of a style without a summary: each answer's first line, because small
    models continue with further questions."""
    return SEPARATOR.join(text.strip().split("\n")[0] for text in interests)


def _answered_text(asked: pl.DataFrame, store_root: str, name: str) -> pl.DataFrame:
    """Returns the answered rows with the answer's text as ``name``, ``cut, too_long_key``."""
    ledger = open_ledger(Store(store_root), Role.CHAT)
    ledger.refresh()
    rows = asked.join(
        ledger.answers(asked[col.KEY]), on=col.KEY, how="inner", maintain_order="left"
    )
    ended = pl.col("finish_reason")
    return rows.select(
        *(column for column in asked.columns if column != col.KEY),
        pl.col("text").alias(name),
        (ended == "length").alias(CUT),
        pl.when(ended == TOO_LONG).then(pl.col(col.KEY)).alias(TOO_LONG_KEY),
    )
