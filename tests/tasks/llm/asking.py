"""Asks the questions of tests, as stages do."""

from artifacts import columns as col
from artifacts.ledger.answers import Role
from artifacts.store import Store
from prompts.render import ChatPrompt, Message
from tasks.llm.answer_all import Answered, answer_all, chat_keys, embedding_keys
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import LlmConfig
from tasks.llm.shards.shard import AskingStep
from tests.tasks.shops.small_shop import LENIENT, endpoint_of, spec_of


def chat_at(base_url: str, concurrency: int = 4) -> Endpoint:
    return endpoint_of(spec_of(base_url, Role.CHAT, concurrency=concurrency, max_retries=1))


def prompts_of(texts: list[str]) -> list[ChatPrompt]:
    return [ChatPrompt(messages=(Message(role="user", content=text),)) for text in texts]


def ask(
    texts: list[str], endpoint: Endpoint, store: Store, config: LlmConfig = LENIENT
) -> Answered:
    keyed = chat_keys(prompts_of(texts), endpoint, 50)
    return answer_all(AskingStep("test", Role.CHAT, endpoint, config, store, 50), keyed)


def embed_all(
    texts: list[str], endpoint: Endpoint, store: Store, config: LlmConfig = LENIENT
) -> Answered:
    keyed = embedding_keys(texts, endpoint)
    return answer_all(AskingStep("test", Role.EMBEDDING, endpoint, config, store), keyed)


def keys_of(texts: list[str], endpoint: Endpoint) -> list[str]:
    return chat_keys(prompts_of(texts), endpoint, 50)[col.KEY].to_list()
