"""A run of its own that asks 400 questions: run_to_kill URL STORE."""

import sys

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from artifacts.store import Store
from tasks.llm.settings.llm_config import LlmConfig
from tests.tasks.llm.asking import ask, chat_at


@flow(task_runner=ThreadPoolTaskRunner(max_workers=2))  # pyright: ignore
def run() -> None:
    """Asks."""
    texts = [f"tea number {number}" for number in range(400)]
    ask(texts, chat_at(sys.argv[1], 4), Store(sys.argv[2]), LlmConfig(shard_size=50))


if __name__ == "__main__":
    run()
