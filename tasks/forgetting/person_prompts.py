"""Prompts in the ledger that concern removed users only.

Prompts contain titles or partial profiles, but no id. They are rendered again from the artifacts. A
prompt that is equal to one of a remaining user is kept.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import product

import polars as pl

from artifacts import columns as col
from artifacts.kinds.clusters import read_clusters
from artifacts.kinds.user_profiles import INTEREST, INTERESTS_FILE, PROFILE, PROFILES_FILE
from artifacts.ledger.answers import MODEL, Role
from artifacts.ledger.claims import PARAMETERS, PROMPT, questions
from artifacts.ledger.ledger import Ledger
from artifacts.manifest import ArtifactRef, Kind
from artifacts.store import Store
from prompts.profile_style import ProfileStyle
from prompts.render import ChatPrompt, Language, analyze_prompt, summarize_prompt
from tasks.forgetting.artifact_rewriting import People
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


def keys_about(store: Store, people: dict[ArtifactRef, People]) -> dict[Role, pl.Series]:
    """Returns the ledger keys of removed users' prompts, by role."""
    chat, embedding = Ledger(store.local, Role.CHAT), Ledger(store.local, Role.EMBEDDING)
    asked, embedded = _asked(chat), _asked(embedding)
    titles, interests, profiles = _Lists(), _Lists(), _Lists()
    histories: list[list[list[str]]] = []
    for dataset, told in people.items():
        for clusters in _clusters_of(store, dataset):
            rows = titles_by_interest(told.data, read_clusters(store, clusters))
            titles.add(rows, "titles", told)
            gone = rows.filter(~pl.Series(told.stays[rows[col.USER_INDEX].to_numpy()]))
            by_user = gone.group_by(col.USER_INDEX, maintain_order=True).agg("titles")
            histories += by_user["titles"].to_list()
        for manifest in _profiles_of(store, dataset):
            folder = store.path(manifest)
            rows = pl.read_parquet(folder / INTERESTS_FILE, glob=False)
            by_user = rows.group_by(col.USER_INDEX, maintain_order=True).agg(INTEREST)
            interests.add(by_user, INTEREST, told)
            rows = pl.read_parquet(folder / PROFILES_FILE, glob=False)
            profiles.add(rows.with_columns(pl.concat_list(PROFILE)), PROFILE, told)
    # Answers of a run that ended before writing its artifact are in the ledger only.
    unwritten = list(_answered(chat, asked, histories))
    interests.add_gone(unwritten)
    analyses = _keys(asked, _renderings(_ANALYSES, titles.own))
    summaries = _keys(asked, _renderings(_SUMMARIES, interests.own))
    answered = chat.answers(summaries)["text"].drop_nulls()
    profiles.add_gone((text,) for text in answered)
    profiles.add_gone((joined_interests(texts),) for texts in unwritten)
    texts = [text for (text,) in profiles.own]
    vectors = embedded.filter(pl.col(PROMPT).is_in(texts))[col.KEY]
    return {Role.CHAT: pl.concat([analyses, summaries]), Role.EMBEDDING: vectors}


def _asked(ledger: Ledger) -> pl.DataFrame:
    return questions(ledger).select(col.KEY, MODEL, PARAMETERS, PROMPT).unique(col.KEY).collect()


def _clusters_of(store: Store, dataset: ArtifactRef) -> list[ArtifactRef]:
    """Returns the clusters that may have been used for a dataset's profiles."""
    embeddings = [
        manifest.ref
        for manifest in store.artifacts(Kind.ITEM_EMBEDDINGS)
        if dataset in manifest.parents.values()
    ]
    return [
        manifest.ref
        for manifest in store.artifacts(Kind.CLUSTERS)
        if any(parent in embeddings for parent in manifest.parents.values())
    ]


def _profiles_of(store: Store, dataset: ArtifactRef) -> list[ArtifactRef]:
    return [
        manifest.ref
        for manifest in store.artifacts(Kind.USER_PROFILES)
        if manifest.parents.get("dataset") == dataset
    ]


def _answered(
    ledger: Ledger, asked: pl.DataFrame, histories: list[list[list[str]]]
) -> Iterator[Texts]:
    """Yields the answers of each model by person and interest."""
    prompts = {
        (tuple(titles), template): _document(template(titles))
        for history in histories
        for titles in history
        for template in _ANALYSES
    }
    found = asked.filter(pl.col(PROMPT).is_in(list(prompts.values())))
    answers = dict(ledger.answers(found[col.KEY]).select(col.KEY, "text").iter_rows())
    for _, same in found.group_by(MODEL, PARAMETERS):
        text_of = {
            prompt: answers.get(key) for key, prompt in same.select(col.KEY, PROMPT).iter_rows()
        }
        for history in histories:
            for template in _ANALYSES:
                told = [text_of.get(prompts[tuple(titles), template]) for titles in history]
                if any(told):
                    yield tuple(text for text in told if text)


def _renderings(templates: Sequence[Template], lists: set[Texts]) -> list[str]:
    return [_document(template(texts)) for texts in sorted(lists) for template in templates]


def _keys(asked: pl.DataFrame, rendered: list[str]) -> pl.Series:
    return asked.filter(pl.col(PROMPT).is_in(rendered))[col.KEY]


def _document(prompt: ChatPrompt) -> str:
    """Returns a prompt in the ledger's format."""
    return json.dumps(prompt.model_dump(), ensure_ascii=False)
