"""Prompts in the ledger that concern removed users only.

Prompts contain titles or partial profiles, but no id. They are rendered again from the artifacts. A
prompt that is equal to one of a remaining user is kept.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, product
from typing import Self

import polars as pl
from pydantic import JsonValue

from artifacts import columns as col
from artifacts.fingerprint import canonical_json
from artifacts.kinds.clusters import read_clusters
from artifacts.kinds.user_profiles import INTEREST, INTERESTS_FILE, PROFILE, PROFILES_FILE
from artifacts.ledger.answers import MODEL, Question, Role, answer_keys
from artifacts.ledger.claims import PARAMETERS, questions
from artifacts.ledger.ledger import Ledger, open_ledger
from artifacts.manifest import ArtifactRef, Kind, Manifest
from artifacts.store import Store
from prompts.profile_style import ProfileStyle
from prompts.render import ChatPrompt, Language, analyze_prompt, summarize_prompt
from tasks.forgetting.artifact_rewriting import People
from tasks.forgetting.inventory import Inventory
from tasks.llm.settings.request_fields import chat_fields
from tasks.profiling.interest_titles import titles_by_interest
from tasks.profiling.profile_prompts import joined_interests

_SEPARATOR = "\x1f"

Texts = tuple[str, ...]
Template = Callable[[Sequence[str]], ChatPrompt]

_ANALYSES: tuple[Template, ...] = tuple(
    partial(analyze_prompt, language=language, style=style)
    for language, style in product(Language, ProfileStyle)
)
_SUMMARIES: tuple[Template, ...] = tuple(
    partial(summarize_prompt, language=language) for language in Language
)


class _Lists:
    """Texts of removed users, without texts equal to those of remaining users."""

    def __init__(self) -> None:
        self._gone: set[Texts] = set()
        self._staying: set[Texts] = set()

    @property
    def own(self) -> set[Texts]:
        return self._gone - self._staying

    def add(self, rows: pl.DataFrame, column: str, people: People) -> None:
        """Adds a table with ``user_index`` and a column of lists of texts."""
        is_staying = pl.Series(people.stays[rows[col.USER_INDEX].to_numpy()])
        self.add_gone(rows.filter(~is_staying)[column].to_list())
        # As joined texts, to load only the necessary lists.
        joined = pl.col(column).list.join(_SEPARATOR)
        wanted = [_SEPARATOR.join(texts) for texts in self._gone]
        same = rows.filter(is_staying).filter(joined.is_in(wanted))[column]
        self._staying.update(map(tuple, same.to_list()))

    def add_gone(self, lists: Iterable[Sequence[str]]) -> None:
        self._gone.update(map(tuple, lists))


def keys_about(
    store: Store, inventory: Inventory, people: dict[ArtifactRef, People]
) -> dict[Role, pl.Series]:
    """Returns the ledger keys of removed users' prompts, by role."""
    made = inventory.manifests
    chat, embedding = (_AskedPrompts.of(store, made, role) for role in (Role.CHAT, Role.EMBEDDING))
    titles, interests, profiles = _Lists(), _Lists(), _Lists()
    histories: list[list[list[str]]] = []
    for dataset, told in people.items():
        for clusters in _clusters_of(made, dataset):
            rows = titles_by_interest(told.data, read_clusters(store, clusters))
            titles.add(rows, "titles", told)
            gone = rows.filter(~pl.Series(told.stays[rows[col.USER_INDEX].to_numpy()]))
            by_user = gone.group_by(col.USER_INDEX, maintain_order=True).agg("titles")
            histories += by_user["titles"].to_list()
        for manifest in _profiles_of(made, dataset):
            folder = store.path(manifest)
            rows = pl.read_parquet(folder / INTERESTS_FILE, glob=False)
            by_user = rows.group_by(col.USER_INDEX, maintain_order=True).agg(INTEREST)
            interests.add(by_user, INTEREST, told)
            rows = pl.read_parquet(folder / PROFILES_FILE, glob=False)
            profiles.add(rows.with_columns(pl.concat_list(PROFILE)), PROFILE, told)
    # Answers of a run that ended before writing its artifact are in the ledger only.
    unwritten = list(_answered(chat, histories))
    interests.add_gone(unwritten)
    analyses = chat.keys(_renderings(_ANALYSES, titles.own))
    summaries = chat.keys(_renderings(_SUMMARIES, interests.own))
    answered = chat.ledger.answers(summaries)["text"].drop_nulls()
    profiles.add_gone((text,) for text in answered)
    profiles.add_gone((joined_interests(texts),) for texts in unwritten)
    vectors = embedding.keys([text for (text,) in profiles.own])
    return {Role.CHAT: pl.concat([analyses, summaries]), Role.EMBEDDING: vectors}


@dataclass(frozen=True)
class _AskedPrompts:
    """A ledger, and the models and parameters that its prompts may have been sent with."""

    ledger: Ledger
    questions: list[Question]

    @classmethod
    def of(cls, store: Store, made: dict[Kind, list[Manifest]], role: Role) -> Self:
        """Returns those of this machine's prompts, of other machines, and of profiles."""
        ledger = open_ledger(store, role)
        sent = questions(ledger).select(MODEL, PARAMETERS).unique().collect()
        found = [Question(model, json.loads(parameters)) for model, parameters in sent.iter_rows()]
        found += ledger.shared.questions() if ledger.shared else []
        for manifest in made[Kind.USER_PROFILES]:
            found += _questions_of(manifest.parameters, role)
        return cls(ledger, list({canonical_json(each): each for each in found}.values()))

    def keys(self, prompts: Sequence[JsonValue]) -> pl.Series:
        """Returns the possible keys of prompts."""
        keys = [key for each in self.questions for key in answer_keys(*each, prompts)]
        return pl.Series(col.KEY, keys, pl.String)


def _questions_of(parameters: dict[str, JsonValue], role: Role) -> Iterator[Question]:
    """Yields the models and parameters of profiles, from the parameters of their artifact."""
    match parameters:
        case {"chat": [str(model), dict(fields)], "tokens": list(limits)} if role is Role.CHAT:
            for limit in limits:
                if isinstance(limit, int):
                    yield Question(model, chat_fields(limit, fields))
        case {"embedding": [str(model), dict(fields)]} if role is Role.EMBEDDING:
            yield Question(model, fields)
        case _:
            """Of an earlier version."""


def _clusters_of(made: dict[Kind, list[Manifest]], dataset: ArtifactRef) -> list[ArtifactRef]:
    """Returns the clusters that may have been used for a dataset's profiles."""
    embeddings = [
        manifest.ref
        for manifest in made[Kind.ITEM_EMBEDDINGS]
        if dataset in manifest.parents.values()
    ]
    return [
        manifest.ref
        for manifest in made[Kind.CLUSTERS]
        if any(parent in embeddings for parent in manifest.parents.values())
    ]


def _profiles_of(made: dict[Kind, list[Manifest]], dataset: ArtifactRef) -> list[ArtifactRef]:
    return [
        manifest.ref
        for manifest in made[Kind.USER_PROFILES]
        if manifest.parents.get("dataset") == dataset
    ]


def _answered(chat: _AskedPrompts, histories: list[list[list[str]]]) -> Iterator[Texts]:
    """Yields the answers of each model by person and interest."""
    listed = [titles for history in histories for titles in history]
    for template, question in product(_ANALYSES, chat.questions):
        keys = answer_keys(*question, [template(titles).model_dump() for titles in listed])
        answers = chat.ledger.answers(pl.Series(col.KEY, keys, pl.String))
        text_of = dict(answers.select(col.KEY, "text").iter_rows())
        texts = iter([text_of.get(key) for key in keys])
        for history in histories:
            told = tuple(text for text in islice(texts, len(history)) if text)
            if told:
                yield told


def _renderings(templates: Sequence[Template], lists: set[Texts]) -> list[JsonValue]:
    return [template(texts).model_dump() for texts in sorted(lists) for template in templates]
