"""One of several runs on a store: one_run URL STORE FIRST LAST asks the questions in between."""

import sys

from artifacts.store import Store
from tasks.llm.settings.llm_config import LlmConfig
from tasks.llm.shards import shard_run
from tests.tasks.llm.asking import ask, chat_at
from tests.tasks.shops.small_shop import InlineShards


def run(url: str, store: str, first: int, last: int) -> None:
    """Asks, and prints how many were asked and how many found."""
    shard_run.answer_shard = InlineShards()  # pyright: ignore[reportAttributeAccessIssue]
    texts = [f"tea number {number}" for number in range(first, last)]
    found = ask(texts, chat_at(url, 4), Store(store), LlmConfig(shard_size=40))
    assert found.answers.height == len(texts), found
    print(found.usage.requests, found.usage.reused)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
