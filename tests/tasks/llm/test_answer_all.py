"""What is paid for, once; what failed, again; what was killed, only what was in flight."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from artifacts import columns as col
from artifacts.ledger.answers import Answer, Role
from artifacts.ledger.ledger import Ledger
from artifacts.store import Store
from tasks.llm.answer_all import (
    MixedVectorsError,
    TooManyFailuresError,
    chat_keys,
    embedding_keys,
    outcome_of,
)
from tasks.llm.client.failures import retries
from tasks.llm.client.failures.refusals import EndpointRefusedError
from tasks.llm.providers.dummy_endpoint import running_app, write_answer
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.llm_config import LlmConfig
from tests.fakes import CHAT, EMBEDDINGS, Fault, FaultPlan, faulty_endpoint
from tests.flows.server.prefect_servers import ServerLogin
from tests.tasks.llm.asking import ask, chat_at, embed_all, keys_of, prompts_of
from tests.tasks.shops.small_shop import endpoint_of, spec_of

InFlow = Callable[[Callable[[], Any]], Any]
TEXTS = [f"tea number {number}" for number in range(9)]


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(retries, "LONGEST_WAIT_SECONDS", 0.05)


def test_equal_prompts_are_asked_once_and_a_second_run_asks_nothing(
    store: Store, in_flow: InFlow
) -> None:
    config = LlmConfig(shard_size=4)
    with faulty_endpoint() as server:
        endpoint = chat_at(server.base_url)
        first = in_flow(lambda: ask(TEXTS * 3, endpoint, store, config))
        assert server.requests_to(CHAT) == 9
        second = ask(TEXTS * 2, endpoint, store, config)  # Nothing to ask: needs no flow either.
        assert server.requests_to(CHAT) == 9
    assert (first.usage.prompts, first.usage.merged, first.usage.requests) == (27, 18, 9)
    assert (second.usage.merged, second.usage.reused, second.usage.requests) == (9, 9, 0)
    assert first.usage.completion_tokens > 0
    assert second.usage.completion_tokens == 0
    texts = dict(zip(keys_of(TEXTS, endpoint), TEXTS, strict=True))
    assert first.answers.height == second.answers.height == 9
    for key, answer in first.answers.select(col.KEY, "text").iter_rows():
        assert answer == write_answer(texts[key], 50)[0]


def test_the_length_limit_the_model_and_its_parameters_are_part_of_a_question() -> None:
    endpoint = chat_at("http://127.0.0.1:9/v1")
    prompts = prompts_of(["a"])
    keys = [
        chat_keys(prompts, endpoint, 50),
        chat_keys(prompts, endpoint, 51),
        chat_keys(prompts, Endpoint("other", {}, (), endpoint.spec), 50),
        chat_keys(prompts, Endpoint(endpoint.model, {"temperature": 0.1}, (), endpoint.spec), 50),
    ]
    assert len({table[col.KEY][0] for table in keys}) == 4
    assert chat_keys(prompts, endpoint, 50).equals(keys[0])


def test_a_failure_is_recorded_with_its_reason_and_asked_again_next_time(
    store: Store, in_flow: InFlow
) -> None:
    with faulty_endpoint(FaultPlan(refuse="number 3")) as server:
        endpoint = chat_at(server.base_url)
        first = in_flow(lambda: ask(TEXTS, endpoint, store))
        bad = keys_of(TEXTS[3:4], endpoint)
        assert first.failures[col.KEY].to_list() == bad
        assert "refused word" in first.failures[col.REASON][0]
        assert first.answers.height == 8
        held = Ledger(store.local, Role.CHAT).answers(pl.Series(bad))
        assert held.is_empty()
        server.plan = FaultPlan()
        second = in_flow(lambda: ask(TEXTS, endpoint, store))
        # Refused twice; if no answer came in between, a trial, a control and the prompt again.
        assert 9 + 1 + 1 <= server.requests_to(CHAT) <= 9 + 1 + 3 + 1
    assert second.failures.is_empty()
    assert second.answers.height == 9
    assert outcome_of(first.failures) != outcome_of(second.failures) == "complete"


def test_too_many_failures_end_the_stage_and_the_good_answers_are_kept(
    store: Store, in_flow: InFlow
) -> None:
    with faulty_endpoint(FaultPlan(refuse="number 3")) as server:
        endpoint = chat_at(server.base_url)
        with pytest.raises(TooManyFailuresError, match=r"1 of 9 .*refused word"):
            in_flow(lambda: ask(TEXTS, endpoint, store, LlmConfig(max_failed_share=0.1)))
        server.plan = FaultPlan()
        in_flow(lambda: ask(TEXTS, endpoint, store, LlmConfig(max_failed_share=0.1)))
        # Refused twice; if no answer came in between, a trial, a control and the prompt again.
        assert 9 + 1 + 1 <= server.requests_to(CHAT) <= 9 + 1 + 3 + 1


def test_a_failed_share_at_its_limit_is_allowed(store: Store, in_flow: InFlow) -> None:
    with faulty_endpoint(FaultPlan(refuse="number 3")) as server:
        endpoint = chat_at(server.base_url)
        found = in_flow(lambda: ask(TEXTS, endpoint, store, LlmConfig(max_failed_share=1 / 9)))
    assert found.failures.height == 1


def test_shards_together_never_exceed_the_configured_concurrency(
    store: Store, in_flow: InFlow
) -> None:
    for concurrency, name in ((1, "one"), (3, "three"), (4, "four")):
        with faulty_endpoint(FaultPlan(latency_s=0.02)) as server:
            texts = [f"{name} {text}" for text in TEXTS]
            endpoint = chat_at(server.base_url, concurrency)
            in_flow(lambda e=endpoint, t=texts: ask(t, e, store, LlmConfig(shard_size=2)))
            assert 1 <= server.peak_in_flight <= concurrency
            assert server.requests_to(CHAT) == 9


def test_a_refusal_of_everything_is_raised_through_the_shards_and_leaves_no_spool(
    store: Store, in_flow: InFlow
) -> None:
    with faulty_endpoint() as server:
        endpoint = endpoint_of(spec_of(server.base_url, Role.CHAT, model="no-such-model"))
        with pytest.raises(EndpointRefusedError, match="no-such-model"):
            in_flow(lambda: ask(TEXTS, endpoint, store, LlmConfig(shard_size=3)))
    assert list(store.workspace("spool").iterdir()) == []


def test_what_a_killed_run_spooled_is_deleted_and_what_a_living_one_did_is_not(
    store: Store, in_flow: InFlow
) -> None:
    spool = store.workspace("spool")
    dead, living = spool / "dead.parquet", spool / "living.parquet"
    dead.touch()
    living.touch()
    with faulty_endpoint() as server, living.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        endpoint = chat_at(server.base_url)
        assert in_flow(lambda: ask(TEXTS, endpoint, store)).answers.height == 9
    assert list(spool.iterdir()) == [living]


def test_a_shard_that_fails_ends_those_not_begun_and_waits_for_the_one_beside_it(
    store: Store, in_flow: InFlow
) -> None:
    app, all_asked, refused = FastAPI(openapi_url=None), asyncio.Event(), asyncio.Event()
    asked: set[str] = set()

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> JSONResponse:
        text = (await request.json())["messages"][-1]["content"]
        asked.add(text)
        if asked >= set(TEXTS[:3]):
            all_asked.set()
        if text == TEXTS[1]:
            await refused.wait()
            await asyncio.sleep(0.5)
        if text == TEXTS[4]:
            await all_asked.wait()
            refused.set()
            return JSONResponse({"error": {"message": "no"}}, 401)
        message = {"role": "assistant", "content": "fine"}
        return JSONResponse({"choices": [{"index": 0, "message": message}]})

    with running_app(app) as server:
        endpoint = chat_at(server.base_url)
        with pytest.raises(EndpointRefusedError):
            in_flow(lambda: ask(TEXTS, endpoint, store, LlmConfig(shard_size=3)))
        assert not asked & set(TEXTS[6:])
        keys = pl.Series(col.KEY, keys_of(TEXTS[:3], endpoint))
        assert Ledger(store.local, Role.CHAT).missing(keys).is_empty()
    assert list(store.workspace("spool").iterdir()) == []


def test_vectors_of_another_width_than_the_ledgers_never_enter_it(
    store: Store, in_flow: InFlow
) -> None:
    with faulty_endpoint() as server:
        endpoint = endpoint_of(spec_of(server.base_url, batch_size=1, concurrency=2))
        in_flow(lambda: embed_all(TEXTS[:2], endpoint, store))
        wrong = (Fault.WRONG_LENGTH,) * 1_000
        server.plan = FaultPlan(by_word={"tea": wrong})
        found = in_flow(lambda: embed_all(TEXTS[:8], endpoint, store))
        assert found.answers.height == 2
        assert found.failures.height == 6
        assert "383" in found.failures[col.REASON][0]
        server.plan = FaultPlan()
        mended = in_flow(lambda: embed_all(TEXTS[:8], endpoint, store))
        assert server.requests_to(EMBEDDINGS) == 2 + 3 * 6 + 6
    assert mended.answers["vector"].bin.size().to_list() == [384 * 4] * 8


def test_a_ledger_with_two_widths_is_refused(store: Store) -> None:
    endpoint = endpoint_of(spec_of("http://127.0.0.1:9/v1"))
    keyed = embedding_keys(TEXTS[:2], endpoint)
    with Ledger(store.local, Role.EMBEDDING).journal() as journal:
        for key, width in zip(keyed[col.KEY], (5, 6), strict=True):
            journal.append(Answer(key, None, np.ones(width, np.float32), "stop", 1, 0))
    with pytest.raises(MixedVectorsError, match=r"\[5, 6\]"):
        _ = embed_all(TEXTS[:2], endpoint, store).answers


def test_a_killed_run_pays_afterwards_only_for_what_was_in_flight(
    store: Store, in_flow: InFlow, closed_server: ServerLogin
) -> None:
    texts = [f"tea number {number}" for number in range(400)]
    # Slow enough that the kill comes in the middle of a shard.
    with faulty_endpoint(FaultPlan(latency_s=0.03)) as server:
        victim = subprocess.Popen(
            [
                sys.executable,
                "-W",
                "ignore",
                "-m",
                "tests.tasks.llm.run_to_kill",
                server.base_url,
                store.root,
            ],
            env={**_environment(), **closed_server.variables},
        )
        try:
            while server.requests_to(CHAT) < 120 and victim.poll() is None:
                time.sleep(0.01)
            assert victim.poll() is None, "the run ended before it could be killed"
        finally:
            victim.send_signal(signal.SIGKILL)
            victim.wait()
        paid = sum(server.good_answers_for(text) for text in texts)
        assert 0 < paid < 400
        server.plan = FaultPlan()
        found = in_flow(lambda: ask(texts, chat_at(server.base_url), store))
        assert found.answers.height == 400
        again = sum(server.good_answers_for(text) for text in texts) - 400
    assert again <= 4, (paid, again)
    assert found.usage.reused > 0


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
