"""Embedding of new items with the catalogue's model, template and ledger.

Runs outside of flows, in one process. Texts in the ledger are not sent again.
"""

import logging

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts import columns as col
from artifacts.ledger.answers import Answer, Role, vectors_of
from artifacts.ledger.ledger import open_ledger
from artifacts.store import Store
from artifacts.user_error import UserError
from prompts.render import Language, prompt_version
from tasks.embed import item_texts
from tasks.llm.answer_all import PROMPT, embedding_keys
from tasks.llm.client.ask import embed, require_server
from tasks.llm.client.jobs import EmbeddingRequest, Failure, Outcome
from tasks.llm.providers.endpoints import Endpoint
from tasks.serving.served_release import ReleaseFacts

logger = logging.getLogger("llm4cdsr")


class OtherEmbedderError(UserError, ValueError):
    """The configured model or template is not the catalogue's."""


class LedgerEmbedder:
    """An `ItemEmbedder` that reads the ledger first, then the endpoint, and stores answers."""

    def __init__(self, store: Store, endpoint: Endpoint, facts: ReleaseFacts) -> None:
        """Raises `OtherEmbedderError`, because vectors of different models are not comparable."""
        self._language = Language(str(facts.embedding["language"]))
        mine = {
            "model": endpoint.model,
            "parameters": endpoint.parameters,
            "template": prompt_version(self._language, "item"),
        }
        for name, value in mine.items():
            if facts.embedding[name] != value:
                raise OtherEmbedderError(
                    f"the catalogue was embedded with {name} {facts.embedding[name]!r}, and new "
                    f"items would be with {value!r}; configure the same, or run the pipeline"
                )
        self._ledger = open_ledger(store, Role.EMBEDDING)
        self._endpoint = endpoint

    def embed(self, items: pl.DataFrame) -> NDArray[np.float32]:
        """Returns vectors (rows, width); NaN for empty or failed texts, which are counted in the
        log.

        The width is 0 without any vector.

        Raises:
            EndpointRefusedError, EndpointDownError: earlier answers are kept.
        """
        numbered = items.with_row_index(col.ITEM_INDEX)
        texts = item_texts(numbered, self._language).filter(pl.col(PROMPT) != "")
        keys = embedding_keys(texts[PROMPT].to_list(), self._endpoint)
        keyed = texts.select(col.ITEM_INDEX).hstack(keys)
        self._ask(keyed.unique(col.KEY, maintain_order=True))
        found = keyed.join(self._ledger.answers(keyed[col.KEY]), on=col.KEY)
        if found.is_empty():
            logger.warning("new items: none has a usable text; give at least titles")
            return np.full((items.height, 0), np.nan, np.float32)
        answered = vectors_of(found)
        vectors = np.full((items.height, answered.shape[1]), np.nan, np.float32)
        vectors[found[col.ITEM_INDEX].to_numpy()] = answered
        return vectors

    def _ask(self, keyed: pl.DataFrame) -> None:
        self._ledger.recover()
        rows = self._ledger.unanswered(keyed)
        if rows.is_empty():
            return
        spec = self._endpoint.spec()
        require_server(spec)
        requests = [EmbeddingRequest(*row) for row in rows.select(col.KEY, PROMPT).iter_rows()]
        failed: list[str] = []
        with self._ledger.journal() as journal:

            def keep(outcomes: list[Outcome]) -> None:
                journal.append(*(good for good in outcomes if isinstance(good, Answer)))
                failed.extend(bad.reason for bad in outcomes if isinstance(bad, Failure))

            embed(requests, spec, keep)
        logger.info("new items: %d texts embedded, %d failed", len(requests), len(failed))
        for reason in sorted(set(failed))[:3]:
            logger.warning("new items: %s", reason)
