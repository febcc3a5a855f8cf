"""Answers requests that arrive together with one pass of the model.

While one batch is computed in a thread the next one gathers; nobody waits for a clock. Eight
requests in one pass cost little more than one, so latency under load stays near that of an idle
service.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch

from model.recommend import Recommendations
from model.sequences import IntArray
from tasks.serving.state import ServingState, Wish

MOST_AT_ONCE = 32


@dataclass(frozen=True)
class Job:
    """A history of item indices in a state, and the domains to look in."""

    state: ServingState
    history: IntArray
    domains: tuple[int, ...]
    k: int
    exclude_seen: bool


Picks = dict[int, tuple[list[int], list[float]]]
"""By domain number: item indices, best first, and their scores."""


class Batcher:
    """One worker thread for the model. Use as an async context."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[Job, asyncio.Future[Picks]]] = asyncio.Queue()
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

    async def ask(self, job: Job) -> Picks:
        """Returns the best items; raises what the model raised."""
        answer: asyncio.Future[Picks] = asyncio.get_running_loop().create_future()
        await self._queue.put((job, answer))
        return await answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._queue.get()]
            while len(batch) < MOST_AT_ONCE and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            jobs = [job for job, _ in batch]
            try:
                picks = await loop.run_in_executor(self._thread, answer_jobs, jobs)
            except Exception as error:  # noqa: BLE001 - handed to every asker, who raises it
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), pick in zip(batch, picks, strict=True):
                if not answer.done():  # Its asker may have gone.
                    answer.set_result(pick)


def answer_jobs(jobs: Sequence[Job]) -> list[Picks]:
    """Returns the picks of each job; jobs that ask alike of one state share a pass."""
    alike: dict[tuple[int, tuple[int, ...], bool], list[int]] = {}
    for row, job in enumerate(jobs):
        alike.setdefault((id(job.state), job.domains, job.exclude_seen), []).append(row)
    picks: list[Picks] = [{} for _ in jobs]
    for rows in alike.values():
        for row, found in zip(rows, _answer_alike([jobs[row] for row in rows]), strict=True):
            picks[row] = found
    return picks


def _answer_alike(jobs: list[Job]) -> list[Picks]:
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
