"""Prompts a second of one Ray worker process and of two, and what each process spends on a prompt.

    python benchmarks/ray_workers.py

Two cases, in turns. *instant*: the server answers at once, so that the client's CPU is the limit,
and all processes share the machine's cores. *latency*: the server answers after a fixed time, so
that the requests a worker has in flight are the limit, as with a language model. CPU time is that
of the measured step: the driver is the run's process; *Ray* is its scheduler, head and agents.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import polars as pl
import typer
from figures import JsonFile, keep
from own_process import instant_server
from process_cpu import cpu_seconds_by_process, cpu_seconds_of
from rich.console import Console
from rich.table import Table

from artifacts.ledger.answers import Role
from artifacts.store import Store
from prompts.render import ChatPrompt, Message
from tasks.frame.prefect_link import send_nothing_more
from tasks.llm.answer_all import chat_keys
from tasks.llm.planned import answer_planned
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import EndpointSpec, LlmConfig
from tasks.llm.shards.shard import AskingStep

BLOCK = 2_048
WATCH_SECONDS = 1.0
PARTS = ("server", "driver", "workers", "Ray")
app = typer.Typer(add_completion=False)


@app.callback(help=__doc__, invoke_without_command=True)
def main(
    context: typer.Context,
    prompts: Annotated[int, typer.Option(min=1, help="Of an instant run.")] = 40_000,
    latency_prompts: Annotated[int, typer.Option(min=0, help="Of a run with latency.")] = 6_400,
    latency: Annotated[float, typer.Option(help="Seconds until an answer.")] = 0.2,
    concurrency: Annotated[int, typer.Option(help="Requests of a process, with latency.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Of each case; medians count.")] = 3,
    threads: Annotated[bool, typer.Option(help="Also the engine of threads, without Ray.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Ask each time with an empty ledger, in a process of its own."""
    if context.invoked_subcommand is not None:
        return
    cases = {"instant": (prompts, 64, 0.0), "latency": (latency_prompts, concurrency, latency)}
    found: dict[str, dict[int, list[dict[str, float]]]] = {}
    for _ in range(rounds):
        for case, (count, in_flight, seconds) in cases.items():
            for processes in (0, 1, 2) if threads else (1, 2):
                if count:
                    run = _measured(processes, count, in_flight, seconds)
                    found.setdefault(case, {}).setdefault(processes, []).append(run)
    for case, runs in found.items():
        _print(case, runs)
    keep(found, json_file)


def _measured(processes: int, prompts: int, concurrency: int, latency: float) -> dict[str, float]:
    with instant_server("--latency", str(latency)) as (url, server):
        command = [sys.executable, __file__, "one", url, str(server)]
        engine = "ray" if processes else "threads"
        chosen = {"LLM4CDSR_ENGINE": engine, "LLM4CDSR_RAY_PROCESSES": str(max(1, processes))}
        said = subprocess.run(
            [*command, str(prompts), str(concurrency)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **chosen},
        ).stdout
    return json.loads(said.splitlines()[-1])


@app.command(hidden=True)
def one(url: str, server: int, prompts: int, concurrency: int) -> None:
    """Asks once; prints prompts per second and CPU milliseconds per prompt as a line of JSON."""
    send_nothing_more()
    spec = EndpointSpec(
        role=Role.CHAT,
        base_url=url,
        model="instant",
        concurrency=concurrency,
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
            with _cpu_by_part(server) as spent:
                made = answer_planned(step, plan, blocks, lambda rows: None)
                seconds = time.monotonic() - started
        asked = made.usage.requests
    told = {part: 1000 * spent[part] / asked for part in PARTS}
    print(json.dumps({"a_second": asked / seconds, **told}))


@contextmanager
def _cpu_by_part(server: int) -> Iterator[dict[str, float]]:
    """Gives the CPU seconds of the block by part, once it has ended.

    Watched all the time, because Ray ends idle workers and starts others.
    """
    spent: dict[str, float] = {}
    before, last = _cpu_by_process(server), dict[int, tuple[str, float]]()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_SECONDS):
            last.update(_cpu_by_process(server))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield spent
    finally:
        ended.set()
        watching.join()
    last.update(_cpu_by_process(server))
    spent.update(dict.fromkeys(PARTS, 0.0))
    for process, (part, seconds) in last.items():
        spent[part] += seconds - before.get(process, (part, 0.0))[1]


def _cpu_by_process(server: int) -> dict[int, tuple[str, float]]:
    """Returns the part and the CPU seconds of each process."""
    found = {server: ("server", cpu_seconds_of(server))}
    for process, seconds in cpu_seconds_by_process().items():
        try:
            title = Path(f"/proc/{process}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # It ended while we looked.
        part = "workers" if title.startswith(b"ray::") else "Ray"
        found[process] = ("driver" if process == os.getpid() else part, seconds)
    return found


def _print(case: str, runs: dict[int, list[dict[str, float]]]) -> None:
    table = Table("processes", "prompts a second", *PARTS, title=f"{case}: CPU ms a prompt")
    middle = {
        count: {name: median(run[name] for run in of) for name in of[0]}
        for count, of in runs.items()
    }
    for count, row in middle.items():
        cells = (f"{row[part]:.3f}" for part in PARTS)
        table.add_row(str(count) if count else "threads", f"{row['a_second']:,.0f}", *cells)
    Console().print(table)
    ratios = [two["a_second"] / one["a_second"] for one, two in zip(runs[1], runs[2], strict=True)]
    told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"two against one: {median(ratios):.2f} times the prompts a second ({told})")
    apart = 2 * middle[1]["workers"] / middle[2]["workers"]
    print(f"calculated from the CPU time of workers, if each had a core of its own: {apart:.2f}")


if __name__ == "__main__":
    app()
