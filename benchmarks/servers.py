"""What it takes to ask servers as they are: one row an imitated server.

    PREFECT_LOGGING_LEVEL=CRITICAL python benchmarks/servers.py
    python benchmarks/servers.py --only Azure --json servers.json

Each server of `tests/imitated_providers.py` runs in this process on a real socket, and is asked
through a whole stage: ledger, shards and Prefect included. `requests` are those that arrived;
`least` is the smallest number possible with the batches that the server takes, shard by shard. A
hopeless server may be asked twenty times. Exits with 1 if a prompt of a healthy one is lost or paid
twice, or if a server was asked more than 1.05 times what is needed, or than twenty times.
"""

import math
import os
import re
import sys
import textwrap
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from figures import JsonFile, keep
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts.ledger.answers import Role
from artifacts.store import Store
from flows.server.api import prefect_api
from prompts.render import ChatPrompt, Message
from tasks.llm.answer_all import answer_all, chat_keys, embedding_keys
from tasks.llm.client.failures.refusals import EndpointRefusedError
from tasks.llm.client.stop import EndpointDownError
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import EndpointSpec, LlmConfig
from tasks.llm.shards.shard import SHARDS_IN_FLIGHT, AskingStep
from tests.imitated_providers import HEALTHY, Case
from tests.imitated_servers import EMBEDDINGS, Books, imitated
from tests.tasks.llm.client.hopeless_providers import HOPELESS

KEY_VARIABLE = "LLM4CDSR_API_KEY"
MAX_TOKENS, MAX_WORDS = 80, 50
MOST_REQUESTS, MOST_RATIO = 20, 1.05
OUTAGE_SECONDS = 6.0
PROMPTS = {Role.CHAT: 400, Role.EMBEDDING: 6_400}
Row = dict[str, object]
CONCURRENCY = {Role.CHAT: 32, Role.EMBEDDING: 8}


def main(
    only: Annotated[list[str] | None, typer.Option(help="Servers with this in their name.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Print the table."""
    chosen = {
        name: case
        for name, case in {**HEALTHY, **HOPELESS}.items()
        if not only or any(part in name for part in only)
    }
    rows = []
    with TemporaryDirectory() as folder, prefect_api(Path(folder) / "prefect.log"):
        for number, (name, case) in enumerate(chosen.items()):
            for role in Role:
                rows.append(_measured(name, case, role, Path(folder) / f"{number}-{role}"))
                _print(rows[-1])
    Console().print(_markdown(rows), soft_wrap=True, markup=False)
    keep(rows, json_file)
    if not all(row["well"] for row in rows):
        raise typer.Exit(1)


def _measured(name: str, case: Case, role: Role, folder: Path) -> Row:
    os.environ[KEY_VARIABLE] = case.key
    with imitated(case.imitation) as server:
        began = time.perf_counter()
        answered, end = _asked(_spec(server, case, role), Store(folder))
        seconds = time.perf_counter() - began
        largest = _largest(server) if role is Role.EMBEDDING else 1
    prompts = PROMPTS[role]
    least = sum(math.ceil(size / largest) for size in _shards(prompts))
    is_hopeless = name in HOPELESS
    if is_hopeless:
        well = server.requests <= MOST_REQUESTS and bool(end)
    else:
        is_whole = answered == prompts and server.paid_twice == 0
        well = is_whole and server.requests <= MOST_RATIO * least
    return {
        "server": name,
        "role": role.value,
        "prompts": prompts,
        "answered": answered,
        "requests": server.requests,
        "least": None if is_hopeless else least,
        "ratio": None if is_hopeless else server.requests / least,
        "paid_twice": 0 if is_hopeless else server.paid_twice,
        "seconds": seconds,
        "end": _shown(end),
        "well": well,
    }


def _shown(end: str) -> str:
    """The first sentence of what a stage ended with, without the number of a port."""
    first = end.removeprefix("stage: ").partition(". ")[0]
    return textwrap.shorten(re.sub(r"(http://127.0.0.1):\d+", r"\1:PORT", first), 150)


def _shards(prompts: int) -> list[int]:
    """How many prompts each shard of a stage has."""
    size = LlmConfig().shard_size
    return [min(size, prompts - begin) for begin in range(0, prompts, size)]


def _largest(server: Books) -> int:
    """The most texts of one request that was answered."""
    calls = zip(server.calls, server.statuses, strict=True)
    return max(
        (len(call.texts) for call, status in calls if call.route == EMBEDDINGS and status == 200),
        default=1,
    )


def _spec(server: Books, case: Case, role: Role) -> EndpointSpec:
    fields = dict(case.parameters(role))
    usual = {"temperature": 0.2} if role is Role.CHAT else {}
    return EndpointSpec(
        role=role,
        base_url=server.base_url + case.query,
        model="m",
        concurrency=CONCURRENCY[role],
        timeout_seconds=20,
        max_retries=6,
        batch_size=1 if role is Role.CHAT else case.batch_size,
        outage_seconds=OUTAGE_SECONDS,
        key_variable=KEY_VARIABLE,
        parameters={**usual, **fields},
        fixed_fields=tuple(fields),
    )


def _asked(spec: EndpointSpec, store: Store) -> tuple[int, str]:
    """How many prompts are answered, and the reason that ended the stage early, if one did."""
    endpoint = Endpoint(spec.model, dict(spec.parameters), (), lambda: spec)
    count = PROMPTS[spec.role]
    if spec.role is Role.CHAT:
        questions = [_question(number) for number in range(count)]
        keyed = chat_keys(questions, endpoint, MAX_TOKENS)
    else:
        keyed = embedding_keys([f"text {number}" for number in range(count)], endpoint)
    found: list[tuple[int, str]] = []

    @flow(name="servers", task_runner=ThreadPoolTaskRunner(max_workers=SHARDS_IN_FLIGHT))  # pyright: ignore
    def run() -> None:
        lenient = LlmConfig(max_failed_share=1.0)
        step = AskingStep("stage", spec.role, endpoint, lenient, store, MAX_TOKENS, MAX_WORDS)
        try:
            done = answer_all(step, keyed)
            found.append((done.answers.height, ""))
        except (EndpointDownError, EndpointRefusedError) as error:
            found.append((0, str(error)))

    run()
    return found[0]


def _question(number: int) -> ChatPrompt:
    system = Message(role="system", content="You describe a person in one sentence.")
    return ChatPrompt(messages=(system, Message(role="user", content=f"The person {number}?")))


def _markdown(rows: list[Row]) -> str:
    """The tables of docs/providers.md, a row a server."""
    servers: dict[str, dict[str, Row]] = {}
    for row in rows:
        servers.setdefault(str(row["server"]), {})[str(row["role"])] = row
    healthy = [
        "| server | requests a prompt | requests a batch | answered | paid twice | seconds |",
        "|---|---|---|---|---|---|",
    ]
    hopeless = ["| server | requests | seconds | the run ends with |", "|---|---|---|---|"]
    for name, roles in servers.items():
        chat, embedding = roles[Role.CHAT.value], roles[Role.EMBEDDING.value]
        both = (chat, embedding)
        seconds = ", ".join(f"{row['seconds']:.1f}" for row in both)
        if chat["ratio"] is None:
            requests = ", ".join(str(row["requests"]) for row in both)
            hopeless.append(f"| {name} | {requests} | {seconds} | {chat['end']} |")
            continue
        ratios = " | ".join(f"{row['ratio']:.2f}" for row in both)
        answered = ", ".join(f"{row['answered']:,} of {row['prompts']:,}" for row in both)
        twice = sum(int(str(row["paid_twice"])) for row in both)
        healthy.append(f"| {name} | {ratios} | {answered} | {twice} | {seconds} |")
    return "\n".join([*healthy, "", *hopeless])


def _print(row: Row) -> None:
    print({name: round(v, 2) if isinstance(v, float) else v for name, v in row.items()})


if __name__ == "__main__":
    typer.run(main)
