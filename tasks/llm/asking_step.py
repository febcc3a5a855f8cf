"""A step of a stage: its model role, and the plan of prompts that grow with users or items."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl

from artifacts import columns as col
from artifacts.ledger.answers import Role
from artifacts.ledger.claims import PROMPT_SCHEMA
from artifacts.store import Store
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import LlmConfig

Plan = Callable[[pl.DataFrame], Iterator[pl.DataFrame]]
"""Renders the prompts of a block: yields rows with ``key, prompt`` and columns of its own. Rows
without a prompt have null in both. It must be serialisable, without servers or open files."""

Place = Callable[[pl.DataFrame], None]
"""Receives the planned rows without ``prompt``, in the order of the blocks."""


@dataclass(frozen=True)
class AskingStep:
    """Model, settings and limits of the prompts of one step."""

    label: str
    role: Role
    endpoint: Endpoint
    config: LlmConfig
    store: Store
    max_tokens: int = 0
    max_words: int | None = None


def prompts_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Returns ``key, prompt`` of the planned rows that have a prompt."""
    return rows.filter(pl.col(col.KEY).is_not_null()).select(list(PROMPT_SCHEMA))
