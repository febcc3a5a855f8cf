"""What ends the asking: no such model, no credit, a budget, a stop; what was paid for is kept."""

import asyncio
import threading
import time

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from artifacts.ledger.answers import Answer, Role
from tasks.llm.client.ask import complete
from tasks.llm.client.checks.answer_checks import TOO_LONG
from tasks.llm.client.failures.refusals import EndpointRefusedError
from tasks.llm.client.jobs import ChatRequest, Outcome
from tasks.llm.client.stop import AskingStoppedError, stop_asking
from tasks.llm.providers.dummy_endpoint import (
    running_app,
    running_dummy_endpoint,
)
from tasks.llm.settings.budget import Budget, Price, Spending
from tests.fakes import CHAT, FaultPlan, faulty_endpoint
from tests.tasks.llm.client.asking_a_server import (
    TEXTS,
    CountedRequests,
    answering,
    asked,
    embedded,
    question,
)
from tests.tasks.shops.small_shop import spec_of

pytestmark = pytest.mark.usefixtures("quick_retries")


def test_an_unknown_model_is_named() -> None:
    with running_dummy_endpoint() as server:
        spec = spec_of(server.base_url, model="no-such-model")
        with pytest.raises(EndpointRefusedError, match="no model no-such-model"):
            embedded(TEXTS, spec)


def test_an_account_without_credit_ends_the_run_at_once_with_its_reason() -> None:
    body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    with running_app(counted := CountedRequests(answering(429, body))) as server:  # type: ignore[arg-type]
        with pytest.raises(EndpointRefusedError, match="no credit"):
            asked(TEXTS, spec_of(server.base_url, Role.CHAT, concurrency=1))
        assert counted.requests == 1


@pytest.mark.parametrize("end", ["refused", "stopped"])
def test_a_long_answer_is_kept_where_the_run_ends_before_its_shorter_version(end: str) -> None:
    app, shorter_asked = FastAPI(openapi_url=None), threading.Event()

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        if len((await request.json())["messages"]) == 1:
            message = {"role": "assistant", "content": "a b c d e"}
            return JSONResponse({"choices": [{"index": 0, "message": message}]})
        shorter_asked.set()
        await asyncio.sleep(0 if end == "refused" else 5)
        return JSONResponse({"error": {"message": "no"}}, 401)

    def on_wait() -> None:
        if end == "stopped" and shorter_asked.is_set():
            stop_asking()

    found: list[Outcome] = []
    asked_for = ChatRequest("long", question("hello").prompt, 50, 3)
    with running_app(app) as server, pytest.raises((EndpointRefusedError, AskingStoppedError)):
        complete([asked_for], spec_of(server.base_url, Role.CHAT), found.extend, on_wait=on_wait)
    (long,) = found
    assert isinstance(long, Answer)
    assert (long.text, long.finish_reason) == ("a b c d e", TOO_LONG)


def test_a_budget_of_requests_is_kept_exactly_and_the_rest_is_not_asked() -> None:
    texts = [f"tea {number}" for number in range(60)]
    found: list[Outcome] = []
    spending = Spending(Budget(max_requests=20))
    with faulty_endpoint(FaultPlan(latency_s=0.005)) as server:
        spec = spec_of(server.base_url, Role.CHAT, concurrency=8)
        ended = complete([question(text) for text in texts], spec, found.extend, spending)
        assert server.requests_to(CHAT) == 20
    assert len(found) == 20
    assert ended.over_budget == "the budget of 20 requests is reached"
    assert ended.paid.requests == spending.spent.requests == 20


def test_a_budget_in_dollars_is_not_exceeded_by_what_is_in_flight() -> None:
    texts = [f"tea {number}" for number in range(60)]
    found: list[Outcome] = []
    price = Price(prompt=10.0, completion=1000.0)
    spending = Spending(Budget(max_usd=0.5))
    with faulty_endpoint(FaultPlan(latency_s=0.005)) as server:
        spec = spec_of(server.base_url, Role.CHAT, concurrency=8)
        spec = spec.model_copy(update={"price": price})
        ended = complete([question(text) for text in texts], spec, found.extend, spending)
        assert server.requests_to(CHAT) == len(found) < 60
    assert ended.over_budget is not None
    # Eight requests in flight may hold 50 tokens each, so at most 8 × $0.051 is left unspent.
    assert 0.5 - 8 * 0.051 < spending.spent.usd <= 0.5


def test_a_limit_of_requests_a_minute_spreads_them() -> None:
    texts = [f"tea {number}" for number in range(24)]
    with faulty_endpoint() as server:
        spec = spec_of(server.base_url, Role.CHAT, concurrency=8)
        spec = spec.model_copy(update={"requests_per_minute": 200.0})
        started = time.monotonic()
        asked(texts, spec)
        # A burst of 20, then 200 a minute: the other 4 need 1.2 s. No machine is too slow for it.
        assert time.monotonic() - started > 1.0


def test_stop_asking_ends_a_run_that_waits_for_an_answer() -> None:
    with faulty_endpoint(FaultPlan(latency_s=60)) as server:
        stopper = threading.Timer(0.3, stop_asking)
        stopper.start()
        with pytest.raises(AskingStoppedError):
            asked(TEXTS, spec_of(server.base_url, Role.CHAT))
        stopper.join()


def test_an_error_of_the_one_who_keeps_answers_is_raised_as_it_is() -> None:
    def keep(outcomes: list[Outcome]) -> None:
        raise OSError(28, "no space left")

    with running_dummy_endpoint() as server, pytest.raises(OSError, match="no space"):
        complete([question(text) for text in TEXTS], spec_of(server.base_url, Role.CHAT), keep)
