"""Kills a stage again and again: nothing is lost, and each kill costs what was in flight at most.

A server process that counts its answers is asked by a stage process, which is ended with
``kill -9`` at seeded random moments and started anew, until every prompt is answered. Afterwards
the ledger must be sound, and the answers that the server gave beyond one a prompt at most the
concurrency for each kill. Exits with 1 where that does not hold.

    python benchmarks/kill.py --prompts 20000 --kills 20
"""

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from figures import JsonFile, tell

from artifacts import columns as col
from artifacts.ledger.answers import Role
from artifacts.ledger.check import verify
from artifacts.ledger.claims import PROMPT
from artifacts.ledger.ledger import Ledger
from artifacts.store import Store
from tasks.llm import answer_all
from tasks.llm.providers.dummy_endpoint import build_app, running_app
from tasks.llm.providers.dummy_models import CHAT_MODEL
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import EndpointSpec, LlmConfig
from tasks.llm.shards import shard_run
from tasks.llm.shards.shard import AskingStep, Shard, ShardOutcome

LIMIT = 40
ASK_SHARD = shard_run.answer_shard.fn
# A stage process starts at once: its modules are loaded already where it is forked from.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "rich.table",
        "tasks.llm.shards.shard_run",
        "tasks.llm.answer_all",
        "tasks.llm.providers.dummy_endpoint",
    ]
)


class InlineShards:
    """Runs shards one after the other: what Prefect does between them is not what is killed."""

    def map(self, shards: list[Shard]) -> "InlineShards":
        self._outcomes = [ASK_SHARD(shard) for shard in shards]
        return self

    def result(self, raise_on_failure: bool = True) -> list[ShardOutcome]:
        return self._outcomes


def main(
    prompts: Annotated[int, typer.Option(min=1, help="Distinct prompts.")] = 20_000,
    kills: Annotated[int, typer.Option(min=0, help="How often the stage is killed.")] = 20,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 32,
    delay: Annotated[float, typer.Option(min=0, help="Seconds the server takes an answer.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the moments of the kills.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Kill, restart, count."""
    answered = CONTEXT.Value("q", 0)
    url, stop = CONTEXT.Queue(), CONTEXT.Event()
    server = CONTEXT.Process(target=_serve, args=(answered, url, stop, delay))
    server.start()
    try:
        with TemporaryDirectory() as root:
            figures = _kill_until_done(
                url.get(timeout=120), Path(root), prompts, kills, concurrency, seed, answered
            )
    finally:
        stop.set()
        server.join()
    tell(figures, json_file)
    if not (figures["holds"] and figures["ledger_sound"]):
        raise typer.Exit(1)


def _kill_until_done(
    url: str,
    root: Path,
    prompts: int,
    kills: int,
    concurrency: int,
    seed: int,
    answered,  # noqa: ANN001 - a shared number of multiprocessing has no public type
) -> dict[str, object]:
    draw = random.Random(seed)
    # Each kill comes after a random number of further answers, so that all fall into the work.
    steps = sorted(draw.sample(range(1, prompts), kills))
    paid_at_kills: list[int] = []
    started = time.monotonic()
    for step in steps:
        victim = CONTEXT.Process(target=_stage, args=(url, str(root), prompts, concurrency))
        victim.start()
        while answered.value < step + len(paid_at_kills) and victim.is_alive():
            time.sleep(0.001)
        if victim.pid is not None and victim.is_alive():
            os.kill(victim.pid, signal.SIGKILL)
            paid_at_kills.append(answered.value)
        victim.join()
    last = CONTEXT.Process(target=_stage, args=(url, str(root), prompts, concurrency))
    last.start()
    last.join()
    found = verify(Ledger(root, Role.CHAT))
    twice = answered.value - prompts
    return {
        "prompts": prompts,
        "kills": len(paid_at_kills),
        "concurrency": concurrency,
        "server_answers": answered.value,
        "paid_twice": twice,
        "paid_twice_a_kill": twice / max(1, len(paid_at_kills)),
        "allowed_a_kill": concurrency,
        "holds": last.exitcode == 0 and 0 <= twice <= concurrency * len(paid_at_kills),
        "ledger_answers": found.answers,
        "ledger_sound": found.answers == prompts and not found.trouble and not found.twice,
        "seconds": time.monotonic() - started,
    }


def _serve(answered, url, stop: Event, delay: float) -> None:  # noqa: ANN001
    import asyncio

    app = build_app()

    @app.middleware("http")
    async def count(request, answer):  # noqa: ANN001, ANN202
        await asyncio.sleep(delay)
        response = await answer(request)
        if request.url.path.endswith("/chat/completions") and response.status_code == 200:
            with answered.get_lock():
                answered.value += 1
        return response

    with running_app(app) as running:
        url.put(running.base_url)
        stop.wait()


def _stage(url: str, root: str, prompts: int, concurrency: int) -> None:
    shard_run.answer_shard = InlineShards()  # pyright: ignore[reportAttributeAccessIssue]
    spec = EndpointSpec(
        base_url=url, model=CHAT_MODEL, concurrency=concurrency, timeout_seconds=60, max_retries=2
    )
    endpoint = Endpoint(CHAT_MODEL, {}, (), lambda: spec)
    texts = [f"- the title of item {number}" for number in range(prompts)]
    table = answer_all.chat_keys([_prompt(text) for text in texts], endpoint, LIMIT)
    step = AskingStep("kill", Role.CHAT, endpoint, LlmConfig(), Store(root), LIMIT)
    found = answer_all.answer_all(step, table.select(col.KEY, PROMPT))
    missing = len(found.keys) - found.answers.height
    raise SystemExit(1 if missing else 0)


def _prompt(text: str) -> answer_all.ChatPrompt:
    return answer_all.ChatPrompt.model_validate({"messages": [{"role": "user", "content": text}]})


if __name__ == "__main__":
    typer.run(main)
