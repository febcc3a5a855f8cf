"""How near our stage comes to `vllm bench serve`, both against the real local vLLM pair.

    python benchmarks/vllm_ratio.py --interactions events.parquet --items items.parquet

Both ask the same prompts of the same server with as many requests in flight: interests of real
histories (one user message, because the bench sends no other), and item texts in the batches of
the stage. The bench streams its answers and keeps nothing; *ours* is `answer_all`: ledger,
journal, checks and Prefect included. They take turns, the first one changes from round to round,
and the server forgets its cached prefixes before each. Temperature is 0, so that both get about
the same answers; the ratio of chat is one of written tokens a second all the same, because in
batches of other sizes bfloat16 rounds otherwise.

On a machine with other work read ``cpu ratio``: CPU time a token or text, of the servers and, of
ours, of this process and Prefect's server too. The bench's own process is left out, as what it
takes to start cannot be told from what it takes to ask.
"""

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import httpx
import polars as pl
import typer
from figures import JsonFile, keep
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from process_cpu import living_cpu_seconds
from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from artifacts import columns as col
from artifacts.ledger.answers import Role
from artifacts.store import Store
from flows.server.api import prefect_api
from flows.settings import Settings
from prompts.render import ChatPrompt, ItemText, Language, Message, analyze_prompt, item_prompt
from tasks.llm.answer_all import answer_all, chat_keys, embedding_keys
from tasks.llm.providers.endpoints import (
    LOCAL_CHAT_PARAMETERS,
    LOCAL_EMBEDDING_PARAMETERS,
    Endpoint,
)
from tasks.llm.providers.local_setup import LocalEnvironment, ensure_local_environment
from tasks.llm.providers.local_vllm import LocalVllm
from tasks.llm.settings.llm_config import ChatConfig, EmbeddingConfig, EndpointSpec, LlmConfig
from tasks.llm.shards.shard import SHARDS_IN_FLIGHT, AskingStep

WANTED = 0.95
PARAMETERS: dict[Role, dict[str, JsonValue]] = {
    Role.CHAT: {"temperature": 0.0, **LOCAL_CHAT_PARAMETERS},
    Role.EMBEDDING: LOCAL_EMBEDDING_PARAMETERS,
}
BACKENDS = {
    Role.CHAT: ("openai-chat", "/v1/chat/completions"),
    Role.EMBEDDING: ("openai-embeddings", "/v1/embeddings"),
}
BENCH = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
"""What `vllm bench serve` runs; the command itself asks for metadata that CPU builds lack."""


@dataclass(frozen=True)
class Served:
    """One server of the pair, and the prompts that both sides ask of it.

    ``prompts`` of a chat server are single texts; of an embedding server a request's texts each.
    """

    role: Role
    url: str
    model: str
    tokenizer: Path
    python: Path
    concurrency: int
    max_tokens: int
    prompts: list[list[str]]

    @property
    def texts(self) -> list[str]:
        return [text for request in self.prompts for text in request]


@dataclass(frozen=True)
class Measured:
    """Of one side in one round. ``done``: tokens written, or texts embedded."""

    seconds: float
    cpu_seconds: float
    done: int

    @property
    def speed(self) -> float:
        return self.done / self.seconds

    @property
    def cheapness(self) -> float:
        return self.done / self.cpu_seconds


def main(
    interactions: Annotated[Path, typer.Option(help="The dump's interactions (Parquet).")],
    items: Annotated[Path, typer.Option(help="The dump's items (Parquet).")],
    chat_prompts: Annotated[int, typer.Option(min=1, help="Interests asked for a round.")] = 256,
    texts: Annotated[int, typer.Option(min=1, help="Item texts embedded a round.")] = 2048,
    rounds: Annotated[int, typer.Option(min=1, help="Of bench and ours each.")] = 3,
    role: Annotated[list[Role] | None, typer.Option(help="chat, embedding; both.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Start the pair, ask it by turns, print the ratios."""
    dump = pl.read_parquet(interactions), pl.read_parquet(items)
    prompts = {
        Role.CHAT: [[text] for text in _interest_prompts(*dump, chat_prompts)],
        Role.EMBEDDING: _batches(_item_texts(dump[1], texts), EmbeddingConfig().batch_size),
    }
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"  # Gives the servers a way to forget their cache.
    environment = ensure_local_environment(Settings().local_vllm, report=print)
    figures: list[dict[str, JsonValue]] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with (
            LocalVllm(environment, place, report=print) as pair,
            prefect_api(place / "prefect.log"),
        ):
            for one in role or list(Role):
                served = _served(one, pair, environment, prompts[one])
                figures.append(_compared(served, rounds, place))
    _print(figures)
    keep(figures, json_file)


def _served(
    role: Role, pair: LocalVllm, environment: LocalEnvironment, prompts: list[list[str]]
) -> Served:
    is_chat = role is Role.CHAT
    return Served(
        role=role,
        url=pair.base_url(role),
        model=pair.model_name(role),
        tokenizer=environment.chat_model_dir if is_chat else environment.embedding_model_dir,
        python=environment.python,
        concurrency=ChatConfig().concurrency if is_chat else EmbeddingConfig().concurrency,
        max_tokens=ChatConfig().analyze_tokens,
        prompts=prompts,
    )


def _compared(served: Served, rounds: int, place: Path) -> dict[str, JsonValue]:
    sides = [("bench", _bench), ("ours", _ours)]
    found: dict[str, list[Measured]] = {"bench": [], "ours": []}
    _ours(served, place / f"{served.role}-warm")
    for number in range(rounds):
        for name, measure in sides if number % 2 else sides[::-1]:
            _forget_prefixes(served.url)
            measured = measure(served, place / f"{served.role}-{name}-{number}")
            found[name].append(measured)
            print(
                f"{served.role}, round {number + 1}, {name}: {measured.done:,} in "
                f"{measured.seconds:,.1f} s, {measured.cpu_seconds:,.1f} CPU s",
                flush=True,
            )
    bench, ours = (median(one.speed for one in found[name]) for name in ("bench", "ours"))
    cheap = {name: median(one.cheapness for one in all_) for name, all_ in found.items()}
    by_round = [
        mine.speed / theirs.speed
        for mine, theirs in zip(found["ours"], found["bench"], strict=True)
    ]
    return {
        "role": served.role,
        "prompts": len(served.texts),
        "in flight": served.concurrency,
        "counted": "tokens written a second" if served.role is Role.CHAT else "texts a second",
        "bench": bench,
        "ours": ours,
        "ratio": ours / bench,
        "by round": [round(ratio, 3) for ratio in by_round],
        "cpu ratio": cheap["ours"] / cheap["bench"],
        "cpu seconds": {n: [round(one.cpu_seconds, 2) for one in a] for n, a in found.items()},
        "seconds": {name: [round(one.seconds, 2) for one in all_] for name, all_ in found.items()},
        "done": {name: [one.done for one in all_] for name, all_ in found.items()},
    }


def _bench(served: Served, place: Path) -> Measured:
    place.mkdir()
    asked = place / "prompts.json"
    requests = [r[0] if served.role is Role.CHAT else r for r in served.prompts]
    turns = [{"conversations": [{"value": request}, {"value": "-"}]} for request in requests]
    asked.write_text(json.dumps(turns), encoding="utf-8")
    backend, endpoint = BACKENDS[served.role]
    options = {
        "backend": backend,
        "base-url": served.url.removesuffix("/v1"),
        "endpoint": endpoint,
        "model": served.model,
        "tokenizer": str(served.tokenizer),
        "dataset-name": "sharegpt",
        "dataset-path": str(asked),
        "sharegpt-output-len": str(served.max_tokens),
        "num-prompts": str(len(requests)),
        "max-concurrency": str(served.concurrency),
        "extra-body": json.dumps(PARAMETERS[served.role]),
        "ready-check-timeout-sec": "0",
        "result-dir": str(place),
        "result-filename": "result.json",
    }
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    command = [str(served.python), "-c", BENCH, *flags, "--disable-shuffle", "--save-result"]
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    cpu = -living_cpu_seconds()
    done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
    cpu += living_cpu_seconds()
    if done.returncode:
        raise SystemExit(done.stderr)
    result = json.loads((place / "result.json").read_text(encoding="utf-8"))
    if result["completed"] != len(requests):
        raise SystemExit(f"the bench completed {result['completed']} of {len(requests)} requests")
    return Measured(result["duration"], cpu, result.get("total_output_tokens", len(served.texts)))


def _ours(served: Served, place: Path) -> Measured:
    spec = EndpointSpec(
        base_url=served.url,
        model=served.model,
        concurrency=served.concurrency,
        timeout_seconds=600,
        max_retries=LlmConfig().max_retries,
        batch_size=EmbeddingConfig().batch_size,
        parameters=PARAMETERS[served.role],
    )
    endpoint = Endpoint(served.model, PARAMETERS[served.role], (), lambda: spec)
    measured: list[Measured] = []

    @flow(name="vllm ratio", task_runner=ThreadPoolTaskRunner(max_workers=SHARDS_IN_FLIGHT))  # pyright: ignore
    def run() -> None:
        started, cpu = time.perf_counter(), -living_cpu_seconds()
        if served.role is Role.CHAT:
            asked = [ChatPrompt(messages=(_said(text),)) for text in served.texts]
            keyed = chat_keys(asked, endpoint, served.max_tokens)
        else:
            keyed = embedding_keys(served.texts, endpoint)
        args = (endpoint, LlmConfig(max_failed_share=0), Store(place), served.max_tokens)
        answered = answer_all(AskingStep("ratio", served.role, *args), keyed)
        seconds = time.perf_counter() - started
        done = answered.usage.completion_tokens or keyed.height
        measured.append(Measured(seconds, cpu + living_cpu_seconds(), done))

    run()
    return measured[0]


def _said(text: str) -> Message:
    return Message(role="user", content=text)


def _forget_prefixes(url: str) -> None:
    reply = httpx.post(f"{url.removesuffix('/v1')}/reset_prefix_cache", timeout=60)
    if not reply.raise_for_status().json()["success"]:
        raise SystemExit("the server still holds requests; is somebody else asking it?")


def _interest_prompts(interactions: pl.DataFrame, items: pl.DataFrame, count: int) -> list[str]:
    """The analyzer's prompts of the first users, as one text each."""
    titles = (
        interactions.sort(col.USER_ID, col.TIMESTAMP)
        .join(items.select(col.ITEM_ID, col.TITLE).drop_nulls(), on=col.ITEM_ID)
        .group_by(col.USER_ID, col.DOMAIN, maintain_order=True)
        .agg(col.TITLE)
        .head(count)[col.TITLE]
        .to_list()
    )
    asked = [analyze_prompt(row, Language.ENGLISH).messages for row in titles]
    return ["\n".join(message.content for message in messages) for messages in asked]


def _item_texts(items: pl.DataFrame, count: int) -> list[str]:
    titles = items[col.TITLE].drop_nulls().unique(maintain_order=True).head(count)
    return [item_prompt(ItemText(title=title), Language.ENGLISH) for title in titles]


def _batches(texts: list[str], size: int) -> list[list[str]]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def _print(figures: list[dict[str, JsonValue]]) -> None:
    shown = ("role", "prompts", "counted", "bench", "ours", "ratio", "by round", "cpu ratio")
    table = Table(*shown)
    for row in figures:
        cells = (row[name] for name in shown)
        table.add_row(*(f"{v:,.3f}" if isinstance(v, float) else str(v) for v in cells))
    Console().print(table)
    print(f"wanted: a ratio of {WANTED} or more")


if __name__ == "__main__":
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    typer.run(main)
