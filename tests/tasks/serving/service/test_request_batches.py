"""Who asks together is answered together; who asks alone waits for nobody."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from tasks.serving.service import request_batches
from tasks.serving.service.request_batches import Batcher, Picks, ScoringJob
from tasks.serving.state import ServingState

NOBODYS = cast(ServingState, None)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that were answered, each job with its own k."""
    found: list[int] = []

    def answer(jobs: Sequence[ScoringJob]) -> list[Picks | Exception]:
        found.append(len(jobs))
        if any(job.k == 13 for job in jobs):
            raise ValueError("no luck")
        return [{0: ([job.k], [1.0])} for job in jobs]

    monkeypatch.setattr(request_batches, "answer_jobs", answer)
    return found


def job(k: int) -> ScoringJob:
    return ScoringJob(NOBODYS, np.zeros(0, np.int64), (0,), k, exclude_seen=True)


async def ask_again_and_again(batcher: Batcher, k: int, times: int) -> list[Picks]:
    return [await batcher.ask(job(k)) for _ in range(times)]


def test_a_lone_asker_never_waits(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_batches, "GATHERING_SECONDS", 3600)

    async def main() -> list[Picks]:
        async with Batcher() as batcher:
            return await ask_again_and_again(batcher, 5, 4)

    assert asyncio.run(main()) == [{0: ([5], [1.0])}] * 4
    assert sizes == [1, 1, 1, 1]


def test_those_who_ask_again_and_again_come_to_share_a_pass(
    sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_batches, "GATHERING_SECONDS", 0.5)

    async def main() -> list[list[Picks]]:
        async with Batcher() as batcher:
            askers = (ask_again_and_again(batcher, k, 4) for k in (1, 2, 3))
            return await asyncio.gather(*askers)

    for k, answers in zip((1, 2, 3), asyncio.run(main()), strict=True):
        assert answers == [{0: ([k], [1.0])}] * 4  # everyone their own
    assert sum(sizes) == 12
    assert sizes.count(3) >= 2


def test_an_error_reaches_who_asked_and_the_next_are_answered(sizes: list[int]) -> None:
    async def main() -> Picks:
        async with Batcher() as batcher:
            with pytest.raises(ValueError, match="no luck"):
                await batcher.ask(job(13))
            return await batcher.ask(job(4))

    assert asyncio.run(main()) == {0: ([4], [1.0])}
    assert sizes == [1, 1]


def test_a_fault_reaches_only_those_who_asked_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(jobs: list[ScoringJob]) -> list[Picks]:
        if any(job.k == 13 for job in jobs):
            raise ValueError("no luck")
        return [{0: ([job.k], [1.0])} for job in jobs]

    monkeypatch.setattr(request_batches, "_answer_alike", answer)
    monkeypatch.setattr(request_batches, "GATHERING_SECONDS", 0.5)
    stranger = replace(job(4), exclude_seen=False)

    async def main() -> list[Picks | BaseException]:
        async with Batcher() as batcher:
            asked = (batcher.ask(each) for each in (job(13), job(4), stranger))
            return await asyncio.gather(*asked, return_exceptions=True)

    unlucky, alike, other = asyncio.run(main())
    assert isinstance(unlucky, ValueError)
    assert isinstance(alike, ValueError)
    assert other == {0: ([4], [1.0])}
