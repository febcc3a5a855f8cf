"""How near the LLM stage comes to a bare client: both against a local server that answers at once.

    python benchmarks/endpoint_ceiling.py --prompts 4000
    python benchmarks/endpoint_ceiling.py --role embedding --prompts 20000

The server is a process of its own. *Bare* is a loop of as many workers over `AsyncOpenAI` as the
stage has requests in flight; it keeps nothing. *Stage* is `answer_all`: ledger, journal, checks,
limits and Prefect included. Each measurement is a process of its own; bare and stage take turns,
and medians count. On a busy machine read ``cpu_ratio``: CPU time of the client a prompt, which is
what bounds both. `refresh_memory.py` measures memory.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import openai
import polars as pl
import typer
from figures import JsonFile, keep
from own_process import in_own_process, instant_server
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console
from rich.table import Table

from artifacts.ledger.answers import Role
from artifacts.store import Store
from flows.server.api import prefect_api
from prompts.render import ChatPrompt, Message
from tasks.llm.answer_all import answer_all, chat_keys, embedding_keys
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import EndpointSpec, LlmConfig
from tasks.llm.shards.shard import SHARDS_IN_FLIGHT, AskingStep

BATCH_SIZE = 64
MAX_TOKENS, MAX_WORDS = 80, 50
PIECE = {Role.CHAT: 4096, Role.EMBEDDING: 16_384}
MODEL = "instant"


def main(
    prompts: Annotated[int, typer.Option(min=1, help="Prompts of each measurement.")] = 4000,
    role: Annotated[list[Role] | None, typer.Option(help="chat, embedding; both.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Of bare and stage each.")] = 3,
    json_file: JsonFile = None,
) -> None:
    """Print the ratio of stage to bare for each role."""
    with instant_server() as (url, _):
        figures = [_compared(url, one, prompts, concurrency, rounds) for one in role or Role]
    _print(figures)
    keep(figures, json_file)


class _Clock:
    """Wall-clock and this process's own CPU time; the second is the same on a busy machine."""

    def __init__(self) -> None:
        self.seconds, self.cpu_seconds = -time.perf_counter(), -time.process_time()

    def stop(self) -> None:
        self.seconds += time.perf_counter()
        self.cpu_seconds += time.process_time()


def _compared(
    url: str, role: Role, prompts: int, concurrency: int, rounds: int
) -> dict[str, object]:
    measured: dict[str, list[dict[str, float]]] = {"bare": [], "stage": []}
    for _ in range(rounds):
        for kind, measure in (("bare", _bare), ("stage", _stage)):
            clock = in_own_process(measure, url, role, prompts, concurrency)
            found = {
                "prompts_per_second": prompts / clock.seconds,
                "cpu_ms": 1000 * clock.cpu_seconds / prompts,
            }
            measured[kind].append(found)

    def middle(kind: str, figure: str) -> float:
        return median(found[figure] for found in measured[kind])

    return {
        "role": role.value,
        "prompts": prompts,
        "concurrency": concurrency,
        "bare_per_second": middle("bare", "prompts_per_second"),
        "stage_per_second": middle("stage", "prompts_per_second"),
        "ratio": middle("stage", "prompts_per_second") / middle("bare", "prompts_per_second"),
        "bare_cpu_ms": middle("bare", "cpu_ms"),
        "stage_cpu_ms": middle("stage", "cpu_ms"),
        "cpu_ratio": middle("bare", "cpu_ms") / middle("stage", "cpu_ms"),
        "all": measured,
    }


def _bare(url: str, role: Role, prompts: int, concurrency: int) -> _Clock:
    clock = _Clock()
    asyncio.run(_asked_bare(url, role, prompts, concurrency))
    clock.stop()
    return clock


async def _asked_bare(url: str, role: Role, prompts: int, concurrency: int) -> None:
    numbers = iter(range(0, prompts, 1 if role is Role.CHAT else BATCH_SIZE))
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

        async def work() -> None:
            for number in numbers:
                if role is Role.CHAT:
                    await client.chat.completions.create(
                        model=MODEL,
                        messages=[
                            {"role": "system", "content": _SYSTEM},
                            {"role": "user", "content": _text(number)},
                        ],
                        max_tokens=MAX_TOKENS,
                    )
                else:
                    stop = min(number + BATCH_SIZE, prompts)
                    await client.embeddings.create(
                        model=MODEL,
                        input=[_text(i) for i in range(number, stop)],
                        encoding_format="base64",
                    )

        await asyncio.gather(*(work() for _ in range(concurrency)))


def _stage(url: str, role: Role, prompts: int, concurrency: int) -> _Clock:
    spec = EndpointSpec(
        base_url=url,
        model=MODEL,
        concurrency=concurrency,
        timeout_seconds=60,
        max_retries=3,
        batch_size=BATCH_SIZE,
    )
    endpoint = Endpoint(MODEL, {}, (), lambda: spec)
    clocks: list[_Clock] = []

    @flow(name="ceiling", task_runner=ThreadPoolTaskRunner(max_workers=SHARDS_IN_FLIGHT))  # pyright: ignore
    def run(root: str) -> None:
        clock = _Clock()
        store = Store(root)
        pieces = _pieces(role, prompts, endpoint)
        limits = (MAX_TOKENS, MAX_WORDS)
        answer_all(AskingStep("bench", role, endpoint, LlmConfig(), store, *limits), pieces)
        clock.stop()
        clocks.append(clock)

    with TemporaryDirectory() as folder, prefect_api(Path(folder) / "prefect.log"):
        run(folder)
    return clocks[0]


def _pieces(role: Role, prompts: int, endpoint: Endpoint) -> Iterator[pl.DataFrame]:
    for start in range(0, prompts, PIECE[role]):
        texts = [_text(number) for number in range(start, min(start + PIECE[role], prompts))]
        if role is Role.EMBEDDING:
            yield embedding_keys(texts, endpoint)
        else:
            yield chat_keys([_question(text) for text in texts], endpoint, MAX_TOKENS)


_SYSTEM = "You describe the interests of a person in one short sentence. " * 8


def _question(text: str) -> ChatPrompt:
    system = Message(role="system", content=_SYSTEM)
    return ChatPrompt(messages=(system, Message(role="user", content=text)))


def _text(number: int) -> str:
    return f"The person chose item {number}:\n" + "- Moka Pot, Six Cups, Stainless Steel\n" * 8


def _print(figures: list[dict[str, object]]) -> None:
    table = Table(*(name for name in figures[0] if name != "all"))
    for row in figures:
        cells = [value for name, value in row.items() if name != "all"]
        table.add_row(*(f"{v:,.3f}" if isinstance(v, float) else str(v) for v in cells))
    Console().print(table)


if __name__ == "__main__":
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    typer.run(main)
