"""Does every item end answered or quarantined when a server fails for three requests in ten?

    python benchmarks/faults.py --prompts 2000
    python benchmarks/faults.py --rate 0.6 --json faults.json

The server runs in this process on a real socket and keeps books: 429 with and without
Retry-After, 500, slow answers, cut connections, malformed JSON, empty texts, vectors of a wrong
length, with NaN, in another order. One prompt in a hundred is refused for good. Exits with 1 if
a prompt is lost, answered wrongly, or asked again after its answer was there.
"""

import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from figures import JsonFile, keep
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts.ledger.answers import Role, vectors_of
from artifacts.store import Store
from flows.server.api import prefect_api
from prompts.render import ChatPrompt, Message
from tasks.llm.answer_all import Answered, answer_all, chat_keys, embedding_keys
from tasks.llm.providers import dummy_models
from tasks.llm.providers.dummy_endpoint import embed_texts, write_answer
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import EndpointSpec, LlmConfig
from tasks.llm.shards.shard import SHARDS_IN_FLIGHT, AskingStep
from tests.fakes import Fault, FaultPlan, FaultyServer, faulty_endpoint

MAX_TOKENS = 80
REFUSED = "unspeakable"
COMMON = (
    Fault.RATE_LIMITED,
    Fault.RATE_LIMITED_WITHOUT_HINT,
    Fault.SERVER_ERROR,
    Fault.SLOW,
    Fault.CUT,
    Fault.MALFORMED_JSON,
)
KINDS = {
    Role.CHAT: (*COMMON, Fault.EMPTY_TEXT),
    Role.EMBEDDING: (*COMMON, Fault.WRONG_LENGTH, Fault.NAN, Fault.REORDERED),
}
MODELS = {Role.CHAT: dummy_models.CHAT_MODEL, Role.EMBEDDING: dummy_models.EMBEDDING_MODEL}


def main(
    prompts: Annotated[int, typer.Option(min=100, help="Prompts of each role.")] = 2000,
    rate: Annotated[float, typer.Option(min=0, max=0.9, help="Share that fails.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Of the faults.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Print what became of every prompt, and what the server counted."""
    with TemporaryDirectory() as folder, prefect_api(Path(folder) / "prefect.log"):
        rows = [_measured(role, prompts, rate, seed, Path(folder)) for role in Role]
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
    keep(rows, json_file)
    if any(row["lost"] or row["wrong"] or row["asked_again"] for row in rows):
        raise typer.Exit(1)


def _measured(role: Role, prompts: int, rate: float, seed: int, folder: Path) -> dict[str, object]:
    texts = [_text(number) for number in range(prompts)]
    plan = FaultPlan(
        rate=rate, kinds=KINDS[role], seed=seed, refuse=REFUSED, slow_s=0.2, retry_after_s=0.1
    )
    with faulty_endpoint(plan) as server:
        started = time.perf_counter()
        answered, keys = _asked(role, texts, server, Store(folder / role.value))
        seconds = time.perf_counter() - started
        paid = Counter({text: server.good_answers_for(text) for text in texts})
        faults = sum(exchange.fault is not None for exchange in server.answered)
        requests = len(server.answered)
    failed = set(answered.failures["key"])
    held = answered.answers
    done = set(held["key"])
    return {
        "role": role.value,
        "prompts": prompts,
        "requests": requests,
        "faults": faults,
        "answered": len(done),
        "quarantined": len(failed),
        "lost": len(set(keys) - done - failed),
        "wrong": _wrong(role, dict(zip(keys, texts, strict=True)), answered),
        # A batch that held a refused text was answered in halves: none of it is paid twice.
        "asked_again": sum(max(0, times - 1) for times in paid.values()),
        "reasons": len(set(answered.failures["reason"])),
        "seconds": round(seconds, 1),
    }


def _asked(
    role: Role, texts: list[str], server: FaultyServer, store: Store
) -> tuple[Answered, list[str]]:
    spec = EndpointSpec(
        base_url=server.base_url,
        model=MODELS[role],
        concurrency=16,
        timeout_seconds=20,
        max_retries=6,
        batch_size=16,
    )
    endpoint = Endpoint(spec.model, {}, (), lambda: spec)
    if role is Role.CHAT:
        asked = [ChatPrompt(messages=(Message(role="user", content=text),)) for text in texts]
        keyed = chat_keys(asked, endpoint, MAX_TOKENS)
    else:
        keyed = embedding_keys(texts, endpoint)
    found: list[Answered] = []

    @flow(name="faults", task_runner=ThreadPoolTaskRunner(max_workers=SHARDS_IN_FLIGHT))  # pyright: ignore
    def run() -> None:
        lenient = LlmConfig(max_failed_share=1.0)
        step = AskingStep("faults", role, endpoint, lenient, store, MAX_TOKENS)
        found.append(answer_all(step, keyed))

    run()
    return found[0], keyed["key"].to_list()


def _wrong(role: Role, text_of: dict[str, str], answered: Answered) -> int:
    """Counts answers that are not what a server without faults would have said."""
    held = answered.answers
    texts = [text_of[key] for key in held["key"]]
    if role is Role.CHAT:
        right = [write_answer(text, MAX_TOKENS)[0] for text in texts]
        return sum(said != wanted for said, wanted in zip(held["text"], right, strict=True))
    return int((np.abs(vectors_of(held) - embed_texts(texts)).max(axis=1) > 0).sum())


def _text(number: int) -> str:
    word = REFUSED if number % 100 == 7 else "fine"
    return f"item {number}: a {word} espresso cup"


if __name__ == "__main__":
    typer.run(main)
