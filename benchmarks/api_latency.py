"""Milliseconds of a recommendation over HTTP under concurrent clients, beside a bare FastAPI route.

Each client sends its next request as soon as the last one is answered: the hardest case for eight
of them. Server and clients share the cores that this process may use.

    taskset -c 0,1 python benchmarks/api_latency.py                          # a made-up shop
    taskset -c 0,1 python benchmarks/api_latency.py --store artifacts/data   # what you serve
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import numpy as np
import typer
from fastapi import FastAPI
from figures import JsonFile, keep
from made_up_shop import made_up_histories, made_up_recommender
from process_cpu import cpu_seconds_of
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from flows.cli.entry import OPENMP
from tasks.serving.app import create_app
from tasks.serving.recommender import Recommender
from tasks.serving.service.messages import Ask
from tasks.system.free_port import free_port

WARM_UP = 50
"""Requests of each client that are not counted."""


def bare_app() -> FastAPI:
    """A service that does nothing but read the same request and answer."""
    app = FastAPI()

    class TimedReply(BaseModel):
        length: int

    @app.post("/recommendations")
    async def answer(ask: Ask) -> TimedReply:
        return TimedReply(length=len(ask.history))

    return app


def made_up_app() -> FastAPI:
    """The service over the made-up shop."""
    return create_app(_made_up(os.environ["API_LATENCY_PRESET"]))


def main(
    store: Annotated[
        str | None, typer.Option(help="Artifact store with a release; a made-up shop without.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Model of the made-up shop.")] = "large",
    clients: Annotated[int, typer.Option(min=1)] = 8,
    requests: Annotated[int, typer.Option(min=10, help="Of each client.")] = 300,
    k: Annotated[int, typer.Option(min=1, help="Items a domain.")] = 10,
    json_file: JsonFile = None,
) -> None:
    """Time requests for every domain after real histories, known by their users' events."""
    recommender = _made_up(preset) if store is None else Recommender.load(store)
    histories, names = _histories(recommender, clients * requests), recommender.catalogue.domains
    served = "api_latency:made_up_app" if store is None else "tasks.serving.app:from_environment"
    environment = {"LLM4CDSR_STORE": store or "", "API_LATENCY_PRESET": preset}
    figures: dict[str, dict[str, float]] = {}
    for name, factory, domains in (
        ("bare FastAPI", "api_latency:bare_app", None),
        ("one domain", served, names[:1]),
        ("every domain", served, None),
    ):
        asks = [
            json.dumps({"history": items, "k": k, "domains": domains}).encode()
            for items in histories
        ]
        with _server(factory, environment) as (port, server):
            asyncio.run(_measure(port, asks[: WARM_UP * clients], clients))
            worked = cpu_seconds_of(server)
            figures[name] = asyncio.run(_measure(port, asks, clients))
            worked = cpu_seconds_of(server) - worked
        figures[name]["server_cpu_ms_per_request"] = 1000 * worked / len(asks)
    _print(figures, clients)
    keep(figures, json_file)


def _made_up(preset: str) -> Recommender:
    return made_up_recommender(made_up_histories(), preset)


def _histories(recommender: Recommender, count: int) -> list[list[dict[str, str]]]:
    rng = np.random.default_rng(0)
    users = rng.choice(len(recommender.user_ids), count)
    return [
        [{"domain": d, "item_id": i} for d, i in recommender.history(recommender.user_ids[u])]
        for u in users.tolist()
    ]


@contextmanager
def _server(factory: str, settings: dict[str, str]) -> Iterator[tuple[int, int]]:
    """A server's port and process id."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", factory, "--app-dir", "benchmarks"]
    command += ["--port", str(port), "--log-level", "warning", "--no-access-log"]
    environment = {**OPENMP, **os.environ, **settings}
    server = subprocess.Popen(command, env=environment)
    try:
        _wait_for(port, server)
        yield port, server.pid
    finally:
        server.terminate()
        server.wait(20)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"no server at port {port}; its message is above")


async def _measure(port: int, asks: list[bytes], clients: int) -> dict[str, float]:
    """Returns percentiles of all clients' requests in milliseconds, and requests a second."""
    shares = [asks[number::clients] for number in range(clients)]
    started = time.perf_counter()
    parts = await asyncio.gather(*(_ask(port, share) for share in shares))
    elapsed = time.perf_counter() - started
    p50, p95, p99 = (1000 * np.percentile(np.concatenate(parts), [50, 95, 99])).tolist()
    return {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "per_second": len(asks) / elapsed}


async def _ask(port: int, asks: list[bytes]) -> list[float]:
    """One client on one connection. An HTTP library would take more of the cores than it has to."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    seconds = []
    for body in asks:
        begun = time.perf_counter()
        writer.write(b"POST /recommendations HTTP/1.1\r\nhost: localhost\r\n")
        writer.write(b"content-type: application/json\r\n")
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(body), body))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        content = await reader.readexactly(length)
        seconds.append(time.perf_counter() - begun)
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise RuntimeError(f"{head!r} {content[:300]!r}")
    writer.close()
    await writer.wait_closed()
    return seconds


def _print(figures: dict[str, dict[str, float]], clients: int) -> None:
    table = Table("route", *next(iter(figures.values())), title=f"{clients} clients at once")
    for name, values in figures.items():
        table.add_row(name, *(f"{value:,.1f}" for value in values.values()))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
