"""A shard of prompts, and what came of it: what travels between a stage and who asks for it."""

from artifacts.ledger.answers import Role
from artifacts.strict import Strict
from tasks.llm.settings.llm_config import EndpointSpec

SHARDS_IN_FLIGHT = 2
"""Shards that run at once and share the endpoint's slots: while one waits for its last answers
the other keeps the server busy. Flows size their task runner by it."""


class AnswerLimits(Strict):
    """What an answer must keep to; of a completion tokens and words, of a vector its width."""

    max_tokens: int
    max_words: int | None
    width: int | None


class Shard(Strict):
    """A slice of spooled prompts, and where and how to ask them. Travels to workers as data."""

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
    """What was paid, and the prompts that failed as ``(key, reason)``.

    ``over_budget`` says which limit ended the shard before all was asked, if one did.
    """

    prompt_tokens: int
    completion_tokens: int
    failures: tuple[tuple[str, str], ...]
    usd: float = 0.0
    answered: int = 0
    over_budget: str | None = None
