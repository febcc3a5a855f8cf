"""Batching of concurrent requests into one forward pass.

While one batch is computed in a thread, the next one is collected. Eight requests in one pass cost
little more than one, so a batch waits briefly for as many requests as the last one had. A single
client does not wait.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch

from model.data.sequences import IntArray
from model.scoring.top_k import Recommendations
from tasks.serving.state import ServingState, Wish

MOST_AT_ONCE = 32
GATHERING_SECONDS = 0.002
"""Maximum wait after the first request of a batch, a fraction of a forward pass."""


@dataclass(frozen=True)
class ScoringJob:
    """A history of item indices in a state, and the requested domains."""

    state: ServingState
    history: IntArray
    domains: tuple[int, ...]
    k: int
    exclude_seen: bool


Picks = dict[int, tuple[list[int], list[float]]]
"""By domain number: item indices, best first, and their scores."""


_Waiting = tuple[ScoringJob, asyncio.Future[Picks]]


class Batcher:
    """One worker thread for the model. Use as an async context."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(
            1, "model", initializer=torch.set_num_threads, initargs=(1,)
        )

    async def __aenter__(self) -> "Batcher":
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._worker.cancel()
        with suppress(asyncio.CancelledError):
            await self._worker
        self._thread.shutdown()

    async def ask(self, job: ScoringJob) -> Picks:
        """Returns the top items; raises the model's error."""
        answer: asyncio.Future[Picks] = asyncio.get_running_loop().create_future()
        await self._queue.put((job, answer))
        return await answer

    async def _work(self) -> None:
        expected = 1
        while True:
            batch = await self._gathered(expected)
            await self._answer(batch)
            expected = min(len(batch) + self._queue.qsize(), MOST_AT_ONCE)

    async def _gathered(self, expected: int) -> list[_Waiting]:
        """Returns the waiting requests, up to `expected` after a short wait."""
        batch = [await self._queue.get()]
        with suppress(TimeoutError):  # Fewer concurrent requests than before.
            async with asyncio.timeout(GATHERING_SECONDS):
                while len(batch) < expected:
                    batch.append(await self._queue.get())
        while len(batch) < MOST_AT_ONCE and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        jobs = [job for job, _ in batch]
        try:
            running = asyncio.get_running_loop().run_in_executor(self._thread, answer_jobs, jobs)
            picks = await running
        except Exception as error:  # noqa: BLE001 - raised by each request of the batch
            picks = [error] * len(batch)
        for (_, answer), pick in zip(batch, picks, strict=True):
            if answer.done():  # The client has disconnected.
                continue
            if isinstance(pick, Exception):
                answer.set_exception(pick)
            else:
                answer.set_result(pick)


def answer_jobs(jobs: Sequence[ScoringJob]) -> list[Picks | Exception]:
    """Returns the recommendations of each job, or its error.

    Jobs with equal options on one state share a pass and its error.
    """
    alike: dict[tuple[int, tuple[int, ...], bool], list[int]] = {}
    for row, job in enumerate(jobs):
        alike.setdefault((id(job.state), job.domains, job.exclude_seen), []).append(row)
    answers: list[Picks | Exception] = [{} for _ in jobs]
    for rows in alike.values():
        try:
            found = _answer_alike([jobs[row] for row in rows])
        except Exception as error:  # noqa: BLE001 - raised by these requests
            found = [error] * len(rows)
        for row, answer in zip(rows, found, strict=True):
            answers[row] = answer
    return answers


def _answer_alike(jobs: list[ScoringJob]) -> list[Picks]:
    state, domains = jobs[0].state, jobs[0].domains
    sequences = state.sequences([job.history for job in jobs])
    wish = Wish(max(job.k for job in jobs), jobs[0].exclude_seen)
    found = state.best(sequences, np.arange(len(jobs)), domains, wish)
    return [
        {domain: _picked(found[domain], row, job.k) for domain in domains}
        for row, job in enumerate(jobs)
    ]


def _picked(best: Recommendations, row: int, k: int) -> tuple[list[int], list[float]]:
    items, scores = best.items[row, :k], best.scores[row, :k]
    real = items > 0
    return items[real].tolist(), scores[real].tolist()
