"""Asks nine questions in batches of four."""

from artifacts.ledger.answers import Role
from artifacts.store import Store
from prompts.render import ChatPrompt, Message
from tasks.llm.answer_all import Answered, answer_all, chat_keys
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.batch_config import BatchConfig
from tasks.llm.settings.llm_config import LlmConfig
from tasks.llm.shards.shard import AskingStep
from tests.tasks.shops.small_shop import endpoint_of, spec_of

WORDS = ("oolong", "sencha", "mate", "rooibos", "chai", "assam", "matcha", "ceylon", "jasmine")
TEXTS = [f"{word} tea number {number}" for number, word in enumerate(WORDS)]
QUICK = BatchConfig(poll_seconds=0.02, max_lines=4)


def chat_at(base_url: str) -> Endpoint:
    return endpoint_of(spec_of(base_url, Role.CHAT, max_retries=1))


def ask(
    server_url: str,
    store: Store,
    batch: BatchConfig | None = QUICK,
    texts: list[str] = TEXTS,
    max_words: int | None = None,
) -> Answered:
    endpoint = chat_at(server_url)
    prompts = [ChatPrompt(messages=(Message(role="user", content=text),)) for text in texts]
    config = LlmConfig(batch=batch, max_failed_share=1.0)
    keyed = chat_keys(prompts, endpoint, 50)
    return answer_all(AskingStep("test", Role.CHAT, endpoint, config, store, 50, max_words), keyed)
