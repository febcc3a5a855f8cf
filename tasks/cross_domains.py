"""Cross-domain questions to the LLM: preferences in other domains of users of a cluster's items.

Answers are short lists of product types, embedded in the space of items and compared with items of
the target domain. The number of questions grows with the catalogue, not with users. Clusters
without a usable answer are skipped; they never fail a refresh.
"""

import time
from typing import NamedTuple

import numpy as np
import polars as pl
from pydantic import Field

from artifacts import columns as col
from artifacts.kinds.clusters import TITLES, central_titles, read_clusters
from artifacts.kinds.crossing_answers import (
    ANSWER,
    QUESTION_SCHEMA,
    SOURCE,
    CrossingAnswers,
    write_crossing_answers,
)
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.ledger.answers import Role
from artifacts.manifest import ArtifactRef, Identity, Kind, identity
from artifacts.store import Store
from artifacts.strict import Strict
from prompts.render import Language, cross_prompt, prompt_version
from tasks.frame.stage import StageResult, stage_result, stage_task
from tasks.llm.answer_all import answer_all, chat_keys, embedding_keys, outcome_of, vectors_by_row
from tasks.llm.providers.endpoints import Endpoint, Endpoints
from tasks.llm.settings.llm_config import LlmConfig
from tasks.llm.shards.shard import AskingStep

TITLES_SHOWN, SOLD_SHOWN = 12, 6
"""Numbers of titles in a question: of chosen items, and of the target domain."""
ANSWER_TOKENS, ANSWER_WORDS = 60, 40
STAGE = "cross domains"

_ROW = "row"


class CrossingConfig(Strict):
    """Settings of cross-domain questions."""

    enabled: bool = Field(
        default=False, description="Send a question per cluster and pair of domains."
    )
    items: int = Field(
        default=0,
        ge=0,
        description="Number of most popular items per domain with their own questions.",
    )


class CrossQuestions(NamedTuple):
    """``source, domain, cluster, item_index, key`` of questions, and ``key, prompt``."""

    placed: pl.DataFrame
    asked: pl.DataFrame


@stage_task(STAGE)
def cross_domains(
    dataset: ArtifactRef,
    clusters: ArtifactRef,
    endpoints: Endpoints,
    llm: LlmConfig,
    config: CrossingConfig,
    store_root: str,
) -> StageResult:
    """Returns the embedded answers; sends only questions that are not in the ledger.

    Raises:
        EndpointRefusedError, EndpointDownError, BudgetReachedError.
    """
    started = time.monotonic()
    store = Store(store_root)
    wanted = crossings_identity(dataset, clusters, endpoints, llm, config)
    if found := store.find(wanted):
        return stage_result(store, STAGE, found, started, reused=True)
    data, grouped = read_dataset(store, dataset), read_clusters(store, clusters)
    placed, asked = cross_questions(data, grouped, endpoints.chat, llm.language, config)
    lenient = llm.model_copy(update={"max_failed_share": 1.0})
    limits = (ANSWER_TOKENS, ANSWER_WORDS)
    step = AskingStep(STAGE, Role.CHAT, endpoints.chat, lenient, store, *limits)
    answered = answer_all(step, asked)
    # The answer is the first line, because small models continue with further questions.
    listed = pl.col("text").str.strip_chars().str.split("\n").list.first()
    texts = answered.answers.select(col.KEY, listed.alias(ANSWER))
    rows = placed.join(texts, on=col.KEY, how="left", maintain_order="left").drop(col.KEY)
    rows = rows.with_columns(pl.when(pl.col(ANSWER) != "").then(ANSWER)).with_row_index(_ROW, 1)
    told = rows.filter(pl.col(ANSWER).is_not_null())
    keyed = told.select(_ROW).hstack(embedding_keys(told[ANSWER].to_list(), endpoints.embedding))
    step = AskingStep("embed crossings", Role.EMBEDDING, endpoints.embedding, lenient, store)
    embedded = answer_all(step, keyed.drop(_ROW))
    vectors, is_embedded = vectors_by_row(embedded, [keyed], _ROW, rows.height + 1)
    made = CrossingAnswers(vectors, _answers_of(data, grouped, rows, is_embedded))
    failures = pl.concat([answered.failures, embedded.failures])
    actual = wanted.model_copy(update={"outcome": outcome_of(failures)})
    if store.find(actual) is None:
        with store.create(actual) as draft:
            write_crossing_answers(draft.path, rows, failures, made)
            draft.notes.extend(endpoints.chat.notes)
            counts = {"questions": rows.height, "answered": int(is_embedded.sum())}
            draft.counts.update({**counts, "failed": failures.height})
    usage = answered.usage + embedded.usage
    return stage_result(store, STAGE, actual.ref, started, reused=False, usage=usage)


def crossings_identity(
    dataset: ArtifactRef,
    clusters: ArtifactRef,
    endpoints: Endpoints,
    llm: LlmConfig,
    config: CrossingConfig,
) -> Identity:
    """Returns the identity of answers: titles, clusters, training events, template, models,
    limits."""
    parameters = {
        "chat": [endpoints.chat.model, endpoints.chat.parameters],
        "embedding": [endpoints.embedding.model, endpoints.embedding.parameters],
        "limits": [TITLES_SHOWN, SOLD_SHOWN, ANSWER_TOKENS, ANSWER_WORDS],
        "template": prompt_version(llm.language, "cross"),
        "language": llm.language.value,
        "items": config.items,
    }
    parents = {"dataset": dataset, "clusters": clusters}
    return identity(Kind.CROSSING_ANSWERS, parameters, parents)


def cross_questions(
    data: Dataset,
    clusters: pl.DataFrame,
    endpoint: Endpoint,
    language: Language,
    config: CrossingConfig,
) -> CrossQuestions:
    """Returns a question per cluster with titles and per popular item, for every other domain."""
    central = {
        domain: central_titles(data, _of_domain(clusters, data, number), TITLES_SHOWN)
        for number, domain in enumerate(data.domains)
    }
    bought = _much_bought(data, config.items)
    sold = {
        domain: _sold(_of_domain(clusters, data, number), central[domain])
        for number, domain in enumerate(data.domains)
    }
    rows, prompts = [], []
    for number, source in enumerate(data.domains):
        own = bought.filter(pl.col(col.ITEM_INDEX).is_between(*_range(data, number)))
        about = [(cluster, None, titles) for cluster, titles in central[source].iter_rows()]
        about += [(None, item, [title]) for item, title in own.iter_rows()]
        for domain in data.domains:
            if domain == source:
                continue
            for cluster, item, titles in about:
                rows.append((source, domain, cluster, item))
                prompts.append(cross_prompt(titles, source, domain, sold[domain], language))
    asked = chat_keys(prompts, endpoint, ANSWER_TOKENS)
    columns = {name: kind for name, kind in QUESTION_SCHEMA.items() if name != ANSWER}
    placed = pl.DataFrame(rows, schema=columns, orient="row")
    return CrossQuestions(placed.hstack(asked.select(col.KEY)), asked)


def _range(data: Dataset, domain: int) -> tuple[int, int]:
    """Returns the first and the last item of a domain."""
    low, high = data.domain_starts[domain : domain + 2].tolist()
    return low + 1, high


def _of_domain(clusters: pl.DataFrame, data: Dataset, domain: int) -> pl.DataFrame:
    return clusters.filter(pl.col(col.ITEM_INDEX).is_between(*_range(data, domain)))


def _sold(clusters: pl.DataFrame, central: pl.DataFrame) -> list[str]:
    """Returns the most central title of each of the largest clusters."""
    sizes = clusters.group_by(col.CLUSTER).len().sort("len", col.CLUSTER, descending=[True, False])
    largest = sizes.join(central, on=col.CLUSTER, maintain_order="left").head(SOLD_SHOWN)
    return largest[TITLES].list.first().to_list()


def _much_bought(data: Dataset, most: int) -> pl.DataFrame:
    """Returns ``item_index, title`` of each domain's most popular items."""
    titled = data.items.select(pl.col(col.ITEM_INDEX).cast(pl.Int32), col.DOMAIN, col.TITLE)
    counts = data.train_events().group_by(col.ITEM_INDEX).len()
    return (
        counts.join(titled.drop_nulls(col.TITLE), on=col.ITEM_INDEX)
        .sort("len", col.ITEM_INDEX, descending=[True, False])
        .group_by(col.DOMAIN, maintain_order=True)
        .head(most)
        .select(col.ITEM_INDEX, col.TITLE)
        .sort(col.ITEM_INDEX)
    )


def _answers_of(
    data: Dataset, clusters: pl.DataFrame, rows: pl.DataFrame, is_embedded: np.ndarray
) -> np.ndarray:
    """Returns `CrossingAnswers.answer_of`: an item's own answer precedes its cluster's."""
    answer_of = np.zeros((len(data.domains), data.items.height + 1), np.int32)
    number_of = {name: number for number, name in enumerate(data.domains)}
    usable = rows.filter(pl.Series(is_embedded[1:]))
    for (source, domain), asked in usable.group_by(SOURCE, col.DOMAIN, maintain_order=True):
        towards = answer_of[number_of[str(domain)]]
        own = _of_domain(clusters, data, number_of[str(source)])
        of_cluster = asked.filter(pl.col(col.ITEM_INDEX).is_null()).drop(col.ITEM_INDEX)
        by_item = own.join(of_cluster, on=col.CLUSTER)
        for found in (by_item, asked.filter(pl.col(col.ITEM_INDEX).is_not_null())):
            towards[found[col.ITEM_INDEX].to_numpy()] = found[_ROW].to_numpy()
    return answer_of
