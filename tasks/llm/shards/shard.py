"""The data of prompts to be answered: a step of a stage, its shards, and their outcomes."""

from dataclasses import dataclass

from artifacts.ledger.answers import Role
from artifacts.store import Store
from artifacts.strict import Strict
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import EndpointSpec, LlmConfig

SHARDS_IN_FLIGHT = 2
"""Concurrent shards, which share the endpoint's slots: while one waits for its last answers, the
other keeps the server busy. Flows size their task runner by it."""


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


class AnswerLimits(Strict):
    """Limits of answers: tokens and words of completions, width of vectors."""

    max_tokens: int
    max_words: int | None
    width: int | None


class Shard(Strict):
    """A slice of spooled prompts with the endpoint and its parameters, serialised to workers."""

    label: str
    number: int
    of: int
    role: Role
    spool: str
    start: int
    stop: int
    spec: EndpointSpec
    limits: AnswerLimits
    store_root: str
    progress_token: str
    spending_token: str


class ShardOutcome(Strict):
    """Cost and failed prompts as ``(key, reason)``. ``over_budget``: the limit that ended the shard
    early, if any."""

    prompt_tokens: int
    completion_tokens: int
    failures: tuple[tuple[str, str], ...]
    usd: float = 0.0
    answered: int = 0
    over_budget: str | None = None
