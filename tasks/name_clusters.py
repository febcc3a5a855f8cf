"""Names of item clusters by the LLM, from their most central titles.

The names are shown in the report only. Clusters without a usable name never fail a refresh.
"""

import time
from typing import NamedTuple

import polars as pl

from artifacts import columns as col
from artifacts.kinds.clusters import (
    NAME,
    TITLES,
    central_titles,
    read_clusters,
    write_cluster_names,
)
from artifacts.kinds.dataset import read_dataset
from artifacts.ledger.answers import Role
from artifacts.manifest import ArtifactRef, Identity, Kind, identity
from artifacts.store import Store
from prompts.render import Language, name_cluster_prompt, one_line, prompt_version
from tasks.frame.stage import StageResult, stage_result, stage_task
from tasks.llm.answer_all import answer_all, chat_keys, outcome_of
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import LlmConfig
from tasks.llm.shards.shard import AskingStep

TITLES_SHOWN = 12
NAME_TOKENS, NAME_WORDS = 24, 12
"""Limits of an answer; a longer name is cut to its first line."""
NAME_CHARACTERS = 48
STAGE = "name clusters"


class NameQuestions(NamedTuple):
    """``cluster, key`` of the prompts, and ``key, prompt``."""

    clusters: pl.DataFrame
    asked: pl.DataFrame


@stage_task(STAGE)
def name_clusters(
    dataset: ArtifactRef, clusters: ArtifactRef, endpoint: Endpoint, llm: LlmConfig, store_root: str
) -> StageResult:
    """Returns the names of the clusters; sends only prompts that are not in the ledger.

    Raises:
        EndpointRefusedError, EndpointDownError, BudgetReachedError.
    """
    started = time.monotonic()
    store = Store(store_root)
    wanted = names_identity(dataset, clusters, endpoint, llm)
    if found := store.find(wanted):
        return stage_result(store, STAGE, found, started, reused=True)
    placed, asked = name_questions(store, dataset, clusters, endpoint, llm.language)
    lenient = llm.model_copy(update={"max_failed_share": 1.0})
    step = AskingStep(STAGE, Role.CHAT, endpoint, lenient, store, NAME_TOKENS, NAME_WORDS)
    answered = answer_all(step, asked)
    names = _names(placed, answered.answers)
    actual = wanted.model_copy(update={"outcome": outcome_of(answered.failures)})
    if store.find(actual) is None:
        with store.create(actual) as draft:
            write_cluster_names(draft.path, names, answered.failures)
            draft.notes.extend(endpoint.notes)
            draft.counts.update({"named": names.height, "failed": answered.failures.height})
    return stage_result(store, STAGE, actual.ref, started, reused=False, usage=answered.usage)


def names_identity(
    dataset: ArtifactRef, clusters: ArtifactRef, endpoint: Endpoint, llm: LlmConfig
) -> Identity:
    """Returns the identity of names: titles, clusters, template, model, limits."""
    parameters = {
        "chat": [endpoint.model, endpoint.parameters],
        "limits": [TITLES_SHOWN, NAME_TOKENS, NAME_WORDS, NAME_CHARACTERS],
        "template": prompt_version(llm.language, "name_cluster"),
        "language": llm.language.value,
    }
    parents = {"dataset": dataset, "clusters": clusters}
    return identity(Kind.CLUSTER_NAMES, parameters, parents)


def name_questions(
    store: Store,
    dataset: ArtifactRef,
    clusters: ArtifactRef,
    endpoint: Endpoint,
    language: Language,
) -> NameQuestions:
    """Returns the naming prompts, one per cluster with titles."""
    data = read_dataset(store, dataset)
    central = central_titles(data, read_clusters(store, clusters), TITLES_SHOWN)
    prompts = [name_cluster_prompt(titles, language) for titles in central[TITLES].to_list()]
    asked = chat_keys(prompts, endpoint, NAME_TOKENS)
    return NameQuestions(central.select(col.CLUSTER).hstack(asked.select(col.KEY)), asked)


def _names(placed: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    named = placed.join(answers, on=col.KEY, how="inner", maintain_order="left")
    names = [_as_name(text) for text in named["text"].to_list()]
    return named.select(col.CLUSTER, pl.Series(NAME, names, pl.String)).filter(pl.col(NAME) != "")


def _as_name(text: str) -> str:
    """Returns the first line without quotation marks and full stop."""
    first = text.strip().split("\n")[0]
    return one_line(first, NAME_CHARACTERS).strip(" .\"'“”「」《》。*#-")
