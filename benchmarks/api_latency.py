"""Milliseconds of a recommendation over HTTP under concurrent clients, beside a bare FastAPI route.

Each client sends its next request as soon as the last one is answered: the hardest case for eight
of them. Server and clients share the cores that this process may use.

    taskset -c 0,1 python benchmarks/api_latency.py --store artifacts/data
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from fastapi import FastAPI
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from tasks.recommender import Recommender
from tasks.serving_messages import Ask

WARM_UP = 50
"""Requests of each client that are not counted."""


def bare_app() -> FastAPI:
    """A service that does nothing but read the same request and answer."""
    app = FastAPI()

    class Answer(BaseModel):
        length: int

    @app.post("/recommendations")
    async def answer(ask: Ask) -> Answer:
        return Answer(length=len(ask.history))

    @app.get("/health")
    async def health() -> Answer:
        return Answer(length=0)

    return app


def main(
    store: Annotated[str, typer.Option(help="Artifact store with a release.")],
    clients: Annotated[int, typer.Option(min=1)] = 8,
    requests: Annotated[int, typer.Option(min=10, help="Of each client.")] = 300,
    k: Annotated[int, typer.Option(min=1, help="Items a domain.")] = 10,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.")
    ] = None,
) -> None:
    """Time requests for every domain after real histories, known by their users' events."""
    histories = _histories(store, clients * requests)
    figures: dict[str, dict[str, float]] = {}
    for name, factory, domains in (
        ("bare FastAPI", "api_latency:bare_app", None),
        ("one domain", "tasks.serving_app:from_environment", histories.domains[:1]),
        ("every domain", "tasks.serving_app:from_environment", None),
    ):
        bodies = [
            json.dumps({"history": items, "k": k, "domains": domains}).encode()
            for items in histories.items
        ]
        with _server(factory, store) as port:
            figures[name] = _measure(port, bodies, clients)
    _print(figures, clients)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2), encoding="utf-8")


class _Histories(BaseModel):
    items: list[list[dict[str, str]]]
    domains: list[str]


def _histories(store: str, count: int) -> _Histories:
    recommender = Recommender.load(store)
    rng = np.random.default_rng(0)
    users = rng.choice(len(recommender.user_ids), count)
    return _Histories(
        items=[
            [{"domain": d, "item_id": i} for d, i in recommender.history(recommender.user_ids[u])]
            for u in users.tolist()
        ],
        domains=list(recommender.catalogue.domains),
    )


@contextmanager
def _server(factory: str, store: str) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", factory, "--app-dir", "benchmarks"]
    command += ["--port", str(port), "--log-level", "warning", "--no-access-log"]
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "LLM4CDSR_STORE": store}
    server = subprocess.Popen(command, env=environment)
    try:
        _wait_for(port, server)
        yield port
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


def _measure(port: int, bodies: list[bytes], clients: int) -> dict[str, float]:
    """Returns percentiles of all clients' requests in milliseconds, and requests a second."""
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        shares = [bodies[number::clients] for number in range(clients)]
        seconds = [s for part in pool.map(lambda share: _ask(port, share), shares) for s in part]
    elapsed = time.perf_counter() - started
    p50, p95, p99 = (1000 * np.percentile(seconds, [50, 95, 99])).tolist()
    return {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "per_second": len(bodies) / elapsed}


def _ask(port: int, bodies: list[bytes]) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    assert connection.sock is not None
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    seconds = []
    for body in [*bodies[:WARM_UP], *bodies]:
        begun = time.perf_counter()
        connection.request("POST", "/recommendations", body, {"content-type": "application/json"})
        reply = connection.getresponse()
        content = reply.read()
        seconds.append(time.perf_counter() - begun)
        if reply.status != 200:
            raise RuntimeError(f"HTTP {reply.status}: {content[:300]!r}")
    return seconds[WARM_UP:]


def _print(figures: dict[str, dict[str, float]], clients: int) -> None:
    table = Table("route", *next(iter(figures.values())), title=f"{clients} clients at once")
    for name, values in figures.items():
        table.add_row(name, *(f"{value:,.1f}" for value in values.values()))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
