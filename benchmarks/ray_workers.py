"""Prompts a second of one Ray worker process and of two, against a server that answers at once.

python benchmarks/ray_workers.py --prompts 40000
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import polars as pl
import typer

from artifacts.ledger.answers import Role
from artifacts.store import Store
from prompts.render import ChatPrompt, Message
from tasks.frame.prefect_link import send_nothing_more
from tasks.llm.answer_all import chat_keys
from tasks.llm.asking_step import AskingStep
from tasks.llm.planned import answer_planned
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import EndpointSpec, LlmConfig

BLOCK = 2_048
app = typer.Typer(add_completion=False)


@app.command()
def main(
    prompts: Annotated[int, typer.Option(min=1)] = 40_000,
    processes: Annotated[
        str, typer.Option(help="Worker processes, comma-separated; 0: threads, without Ray.")
    ] = "0,1,2",
    one: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Ask each time with an empty ledger, in a process of its own."""
    if one is not None:
        _ask(one, prompts)
        return
    for count in processes.split(","):
        server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("instant_server.py"))],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            command = [sys.executable, __file__, "--prompts", str(prompts), "--one", url]
            engine = "ray" if int(count) else "threads"
            chosen = {"LLM4CDSR_ENGINE": engine, "LLM4CDSR_RAY_PROCESSES": str(max(1, int(count)))}
            print(f"{count} Ray processes:", flush=True)
            subprocess.run(command, check=True, env={**os.environ, **chosen})
        finally:
            server.kill()
            server.wait()


def _ask(url: str, prompts: int) -> None:
    send_nothing_more()
    spec = EndpointSpec(
        role=Role.CHAT,
        base_url=url,
        model="instant",
        concurrency=64,
        timeout_seconds=60,
        max_retries=1,
    )
    endpoint = Endpoint("instant", {}, (), lambda: spec)

    def plan(block: pl.DataFrame) -> Iterator[pl.DataFrame]:
        texts = [
            ChatPrompt(messages=(Message(role="user", content=f"tea number {number}"),))
            for number in block["number"]
        ]
        yield chat_keys(texts, endpoint, 50)

    with TemporaryDirectory() as folder:
        # The first step starts the workers and loads the code there.
        for label, numbers in (("warm", range(-4_000, 0)), ("measured", range(prompts))):
            step = AskingStep(label, Role.CHAT, endpoint, LlmConfig(), Store(Path(folder)), 50)
            blocks = pl.DataFrame({"number": numbers}).iter_slices(BLOCK)
            started = time.monotonic()
            made = answer_planned(step, plan, blocks, lambda rows: None)
            seconds = time.monotonic() - started
        print(f"{made.usage.requests:,} prompts, {made.usage.requests / seconds:,.0f} per second")


if __name__ == "__main__":
    app()
