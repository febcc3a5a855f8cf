"""Load of vLLM servers, shown beside a stage's progress bar.

Other servers lack these ``/metrics``: they are queried once, and no load is shown.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tasks.frame.progress import Progress
from tasks.llm.settings.llm_config import EndpointSpec

POLL_SECONDS = 2.0
RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
TOKENS = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")


class ServerLoad(NamedTuple):
    """Running and queued requests; input and output tokens since the server's start."""

    running: int
    waiting: int
    tokens: int


@contextmanager
def load_shown(spec: EndpointSpec, bar: Progress) -> Iterator[None]:
    """Shows the servers' load beside the progress bar during the block."""
    roots = [url.removesuffix("/v1") for url in spec.urls if url is not None]
    ended = threading.Event()
    # Prefect keeps its settings in the context. In a thread without it, Prefect would start another
    # server for the progress updates.
    poll = threading.Thread(target=copy_context().run, args=(_poll, roots, bar, ended), daemon=True)
    poll.start()
    try:
        yield
    finally:
        ended.set()
        poll.join()


def parse_load(text: str) -> ServerLoad | None:
    """Returns the load in a ``/metrics`` page, None if it is not vLLM's."""
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0.0) + sample.value
    if RUNNING not in values:
        return None
    tokens = sum(int(values.get(name, 0)) for name in TOKENS)
    return ServerLoad(int(values[RUNNING]), int(values.get(WAITING, 0)), tokens)


def note_of(load: ServerLoad, earlier: ServerLoad, seconds: float) -> str:
    """Returns the load as a short text, with tokens per second since ``earlier``."""
    rate = (
        max(0, load.tokens - earlier.tokens) / seconds
    )  # A restarted server has reset its counters.
    return f"{load.running} running, {load.waiting} waiting, {rate:,.0f} tokens/s"


def _poll(roots: list[str], bar: Progress, ended: threading.Event) -> None:
    earlier, at = _load(roots), time.monotonic()
    while earlier is not None and not ended.wait(POLL_SECONDS):
        if (load := _load(roots)) is None:
            continue  # Temporarily down; the circuit breaker reports it.
        now = time.monotonic()
        bar.advance(0, note_of(load, earlier, now - at))
        earlier, at = load, now


def _load(roots: list[str]) -> ServerLoad | None:
    loads = []
    for root in roots:
        try:
            page = httpx.get(f"{root}/metrics", timeout=POLL_SECONDS, trust_env=False)
            found = parse_load(page.raise_for_status().text)
        except (httpx.HTTPError, ValueError):
            return None
        if found is None:
            return None
        loads.append(found)
    return ServerLoad(*map(sum, zip(*loads, strict=True))) if loads else None
