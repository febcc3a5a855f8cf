"""Stage 2, items to vectors: rendering and embedding of every item's text (METHOD 1).

Items without text or with a failed embedding get the mean of their domain and a flag; no item is
dropped.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.kinds.dataset import read_dataset
from artifacts.kinds.item_vectors import STATUS, EmbeddingStatus, write_item_embeddings
from artifacts.ledger.answers import Role
from artifacts.manifest import ArtifactRef, Identity, Kind, identity
from artifacts.store import Store
from artifacts.user_error import UserError
from prompts.render import ItemText, Language, item_prompt, prompt_version
from tasks.frame.stage import StageResult, stage_result, stage_task
from tasks.llm.answer_all import (
    PROMPT,
    Answered,
    common_reasons,
    embedding_keys,
    outcome_of,
    vectors_by_row,
)
from tasks.llm.planned import answer_planned
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import LlmConfig
from tasks.llm.shards.shard import AskingStep

SLICE_ITEMS = 16_384
"""Items per slice of rendered prompts."""

TEXT_FIELDS = (col.TITLE, col.BRAND, col.PRICE, col.CATEGORIES, col.DESCRIPTION)
"""Fields of an item that its text has."""


class NothingEmbeddedError(UserError, RuntimeError):
    """A domain has no embedded item, so there is no mean for its other items."""


@stage_task("embed items")
def embed_items(
    dataset: ArtifactRef, endpoint: Endpoint, config: LlmConfig, store_root: str
) -> StageResult:
    """Returns the item embeddings of a dataset; sends only texts that are not in the ledger.

    Raises:
        EndpointRefusedError, EndpointDownError, TooManyFailuresError, NothingEmbeddedError.
    """
    started = time.monotonic()
    store = Store(store_root)
    wanted = embeddings_identity(dataset, endpoint, config)
    if found := store.find(wanted):
        return stage_result(store, "embed items", found, started, reused=True)
    items = read_dataset(store, dataset).items
    _refuse_mute_domains(items, config.language)
    planned = [
        pl.DataFrame(schema={col.ITEM_INDEX: items.schema[col.ITEM_INDEX], col.KEY: pl.String})
    ]
    step = AskingStep("embed items", Role.EMBEDDING, endpoint, config, store)
    plan = ItemPrompts(endpoint, config.language)
    blocks = items.select(col.ITEM_INDEX, *TEXT_FIELDS).iter_slices(SLICE_ITEMS)
    answered = answer_planned(step, plan, blocks, planned.append)
    keyed = pl.concat(planned)
    status = _item_status(items, keyed, answered)
    made = wanted.model_copy(update={"outcome": outcome_of(answered.failures)})
    if store.find(made) is None:
        with store.create(made) as draft:
            vectors = _fill_with_domain_means(_vectors(items.height, keyed, answered), status)
            write_item_embeddings(draft.path, vectors, status.drop(col.DOMAIN))
            draft.notes.extend(endpoint.notes)
            draft.counts.update(_counts(status, vectors.shape[1]))
    return stage_result(store, "embed items", made.ref, started, reused=False, usage=answered.usage)


def embeddings_identity(dataset: ArtifactRef, endpoint: Endpoint, config: LlmConfig) -> Identity:
    """Returns the identity of item embeddings: items, template, model."""
    parameters = {
        "model": endpoint.model,
        "parameters": endpoint.parameters,
        "language": config.language.value,
        "template": prompt_version(config.language, "item"),
    }
    return identity(Kind.ITEM_EMBEDDINGS, parameters, {"dataset": dataset})


def item_texts(items: pl.DataFrame, language: Language) -> pl.DataFrame:
    """Returns ``item_index, prompt`` of every item; the prompt is empty without usable text."""
    prompts = pl.Series(PROMPT, list(_prompts(items, language)), pl.String)
    return items.select(col.ITEM_INDEX).with_columns(prompts)


def _prompts(items: pl.DataFrame, language: Language) -> Iterator[str]:
    for title, brand, price, categories, description in items.select(TEXT_FIELDS).iter_rows():
        text = ItemText(
            title=title,
            brand=brand,
            price=price,
            categories=tuple(category for category in categories or () if category),
            description=description,
        )
        yield item_prompt(text, language)


@dataclass(frozen=True)
class ItemPrompts:
    """Plan: items of a block to ``item_index, key, prompt`` of those with a text."""

    endpoint: Endpoint
    language: Language

    def __call__(self, items: pl.DataFrame) -> Iterator[pl.DataFrame]:
        texts = item_texts(items, self.language).filter(pl.col(PROMPT) != "")
        keyed = embedding_keys(texts[PROMPT].to_list(), self.endpoint)
        yield texts.select(col.ITEM_INDEX).hstack(keyed)


def _refuse_mute_domains(items: pl.DataFrame, language: Language) -> None:
    """Raises `NothingEmbeddedError` for a domain without text, before paid requests."""
    for (domain,), own in items.group_by(col.DOMAIN, maintain_order=True):
        if not any(_prompts(own, language)):
            raise NothingEmbeddedError(
                f"no item of the domain {domain} has a usable text; give --items a file with its "
                "titles"
            )


def _item_status(items: pl.DataFrame, keyed: pl.DataFrame, answered: Answered) -> pl.DataFrame:
    known = keyed.select(col.ITEM_INDEX, col.KEY).join(answered.failures, on=col.KEY, how="left")
    status = (
        pl.when(pl.col(col.KEY).is_null())
        .then(pl.lit(EmbeddingStatus.NO_TEXT.value))
        .when(pl.col(col.REASON).is_not_null())
        .then(pl.lit(EmbeddingStatus.FAILED.value))
        .otherwise(pl.lit(EmbeddingStatus.EMBEDDED.value))
    )
    return (
        items.select(col.ITEM_INDEX, col.DOMAIN)
        .join(known, on=col.ITEM_INDEX, how="left", maintain_order="left")
        .select(col.ITEM_INDEX, col.DOMAIN, status.alias(STATUS), col.REASON)
    )


def _vectors(items: int, keyed: pl.DataFrame, answered: Answered) -> np.ndarray:
    blocks = keyed.select(col.ITEM_INDEX, col.KEY).iter_slices(answered.lookup_rows)
    vectors, is_embedded = vectors_by_row(answered, blocks, col.ITEM_INDEX, items + 1)
    if not is_embedded.any():
        raise NothingEmbeddedError(
            f"no item could be embedded: {_reasons(answered.failures[col.REASON])}"
        )
    return vectors


def _fill_with_domain_means(vectors: np.ndarray, status: pl.DataFrame) -> np.ndarray:
    is_embedded = pl.col(STATUS) == EmbeddingStatus.EMBEDDED.value
    for (domain,), rows in status.group_by(col.DOMAIN, maintain_order=True):
        embedded = rows.filter(is_embedded)[col.ITEM_INDEX].to_numpy()
        others = rows.filter(~is_embedded)[col.ITEM_INDEX].to_numpy()
        if len(embedded) and not len(others):
            continue  # The mean copies the domain's vectors.
        if not len(embedded):
            raise NothingEmbeddedError(
                f"no item of the domain {domain} could be embedded: {_reasons(rows[col.REASON])}"
            )
        vectors[others] = vectors[embedded].mean(axis=0)
    return vectors


def _reasons(reasons: pl.Series) -> str:
    """Returns the most frequent reasons, including missing text."""
    return common_reasons(reasons.fill_null("no text")) or "none has text"


def _counts(status: pl.DataFrame, width: int) -> dict[str, int | float]:
    found = dict(status[STATUS].value_counts().iter_rows())
    return {
        "items": status.height,
        "without_text": found.get(EmbeddingStatus.NO_TEXT.value, 0),
        "failed": found.get(EmbeddingStatus.FAILED.value, 0),
        "width": width,
    }
