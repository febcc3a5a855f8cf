"""What stages need to run: a Prefect API for the shards, and leave to ask endpoints."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.llm.client.stop import allow_asking
from tasks.llm.shards import shard_run
from tests.tasks.shops.small_shop import InlineShards

Result = TypeVar("Result")


@pytest.fixture
def in_flow(prefect_server: str) -> Callable[[Callable[[], Any]], Any]:
    """Runs a function where its tasks can be mapped."""

    def run(work: Callable[[], Result]) -> Result:
        runner = ThreadPoolTaskRunner(max_workers=2)

        @flow(name="test", task_runner=runner, validate_parameters=False)  # pyright: ignore
        def around() -> list[Result]:
            return [work()]

        return around()[0]

    return run


@pytest.fixture
def inline_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what stages make of answers: how shards run is the claim of others."""
    monkeypatch.setattr(shard_run, "answer_shard", InlineShards())


@pytest.fixture(autouse=True)
def asking() -> Iterator[None]:
    """`stop_asking` is the process's: one test's interrupt must not end the next one's asking."""
    allow_asking()
    yield
    allow_asking()
