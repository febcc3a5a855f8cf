"""The client: every fault ends in the right answer or in a reason, and in nothing else."""

import asyncio
import base64
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from artifacts.answers import Answer, Role
from prompts.render import ChatPrompt, Message
from tasks.asking import circuit_breaker, endpoint_tries
from tasks.asking.answer_checks import TOO_LONG
from tasks.asking.asking_end import AskingStopped, EndpointDown, stop_asking
from tasks.asking.budget import Budget, Price, Spending
from tasks.asking.dummy_endpoint import (
    embed_texts,
    running_app,
    running_dummy_endpoint,
    write_answer,
)
from tasks.asking.endpoint import (
    ChatRequest,
    EmbeddingRequest,
    Failure,
    Outcome,
    complete,
    embed,
)
from tasks.asking.endpoint_faults import EndpointRefused
from tasks.asking.llm_config import EndpointSpec
from tests.fakes import CHAT, EMBEDDINGS, Fault, FaultPlan, faulty_endpoint
from tests.tasks.small_shop import spec_of

TEXTS = [f"espresso {word}" for word in ("pot", "cup", "mill", "scale", "filter", "jug", "brush")]
KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits between tries, shortened: their number is what is tested."""
    monkeypatch.setattr(endpoint_tries, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(endpoint_tries, "LONGEST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(circuit_breaker, "FIRST_PAUSE", 0.01)


def embedded(texts: list[str], spec: EndpointSpec, width: int | None = None) -> dict[str, Outcome]:
    """The outcome of every text; that there is exactly one of each is checked."""
    found: list[Outcome] = []
    embed([EmbeddingRequest(text, text) for text in texts], spec, found.extend, width)
    assert sorted(outcome.key for outcome in found) == sorted(texts)
    return {outcome.key: outcome for outcome in found}


def asked(texts: list[str], spec: EndpointSpec) -> dict[str, Outcome]:
    found: list[Outcome] = []
    complete([question(text) for text in texts], spec, found.extend)
    assert sorted(outcome.key for outcome in found) == sorted(texts)
    return {outcome.key: outcome for outcome in found}


def question(text: str) -> ChatRequest:
    return ChatRequest(text, ChatPrompt(messages=(Message(role="user", content=text),)), 50)


def assert_right_vectors(found: dict[str, Outcome]) -> None:
    for text, outcome in found.items():
        assert isinstance(outcome, Answer), outcome
        np.testing.assert_array_equal(outcome.vector, embed_texts([text])[0])


def assert_right_texts(found: dict[str, Outcome]) -> None:
    for text, outcome in found.items():
        assert isinstance(outcome, Answer), outcome
        assert outcome.text == write_answer(text, 50)[0]


EMBEDDING_FAULTS = [fault for fault in Fault if fault not in (Fault.EMPTY_TEXT, Fault.SLOW)]
CHAT_FAULTS = [
    Fault.RATE_LIMITED,
    Fault.RATE_LIMITED_WITHOUT_HINT,
    Fault.SERVER_ERROR,
    Fault.BUSY,
    Fault.CUT,
    Fault.MALFORMED_JSON,
    Fault.EMPTY_TEXT,
]


@pytest.mark.parametrize("fault", EMBEDDING_FAULTS, ids=lambda fault: fault.name)
def test_a_passing_fault_ends_in_the_right_vectors(fault: Fault) -> None:
    with faulty_endpoint(FaultPlan(script=(fault, None, fault))) as server:
        assert_right_vectors(embedded(TEXTS, spec_of(server.base_url, concurrency=1)))
    expected = 2 if fault is Fault.REORDERED else 4
    assert server.requests_to(EMBEDDINGS) == expected


@pytest.mark.parametrize("fault", CHAT_FAULTS, ids=lambda fault: fault.name)
def test_a_passing_fault_ends_in_the_right_text(fault: Fault) -> None:
    with faulty_endpoint(FaultPlan(script=(fault, None, fault))) as server:
        assert_right_texts(asked(TEXTS[:3], spec_of(server.base_url, Role.CHAT)))
    assert server.requests_to(CHAT) == 5


def test_an_answer_slower_than_the_timeout_is_asked_again() -> None:
    plan = FaultPlan(script=(Fault.SLOW,), slow_s=3.0)
    with faulty_endpoint(plan) as server:
        spec = spec_of(server.base_url, Role.CHAT, timeout_seconds=1.0, max_retries=20)
        assert_right_texts(asked(TEXTS[:1], spec))
        assert server.requests_to(CHAT) >= 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.MALFORMED_JSON, "malformed answer"),
        (Fault.WRONG_LENGTH, "vectors of"),
        (Fault.NAN, "not finite"),
        (Fault.ZERO_VECTOR, "zero"),
        (Fault.WRONG_COUNT, "0 vectors came back for 1|No embedding data"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
def test_a_lasting_fault_of_one_text_fails_it_alone_with_its_reason(
    fault: Fault, reason: str
) -> None:
    plan = FaultPlan(by_word={"mill": (fault,) * 100})
    with faulty_endpoint(plan) as server:
        found = embedded(TEXTS, spec_of(server.base_url, batch_size=7, concurrency=1), width=384)
    failed = found.pop("espresso mill")
    assert isinstance(failed, Failure)
    assert any(part in failed.reason for part in reason.split("|")), failed.reason
    assert_right_vectors(found)


def test_a_question_that_is_never_answered_fails_alone() -> None:
    plan = FaultPlan(by_word={"mill": (Fault.EMPTY_TEXT,) * 100})
    with faulty_endpoint(plan) as server:
        found = asked(TEXTS, spec_of(server.base_url, Role.CHAT))
    failed = found.pop("espresso mill")
    assert isinstance(failed, Failure)
    assert failed.reason.startswith("the answer is empty")
    assert_right_texts(found)


def test_a_refused_text_fails_alone_and_its_neighbours_are_answered() -> None:
    with faulty_endpoint(FaultPlan(refuse="mill")) as server:
        found = embedded(TEXTS, spec_of(server.base_url, batch_size=7))
        assert server.requests_for("espresso mill") == 4  # of 7, 3, 2 and 1 texts; or 7, 4, 2, 1
    failed = found.pop("espresso mill")
    assert isinstance(failed, Failure)
    assert "400" in failed.reason
    assert "refused word" in failed.reason
    assert_right_vectors(found)


def test_nothing_is_asked_again_after_success() -> None:
    plan = FaultPlan(rate=0.5, seed=3, kinds=tuple(EMBEDDING_FAULTS), faults_per_request=1)
    with faulty_endpoint(plan) as server:
        found = embedded(TEXTS, spec_of(server.base_url, batch_size=2, concurrency=3))
        assert_right_vectors(found)
        assert [server.good_answers_for(text) for text in TEXTS] == [1] * len(TEXTS)


def test_many_seeded_faults_never_give_a_wrong_answer() -> None:
    texts = [f"tea {number}" for number in range(60)]
    plan = FaultPlan(rate=0.6, seed=11, kinds=tuple(EMBEDDING_FAULTS), faults_per_request=3)
    with faulty_endpoint(plan) as server:
        found = embedded(texts, spec_of(server.base_url, batch_size=5, concurrency=6), width=384)
    assert_right_vectors({t: o for t, o in found.items() if isinstance(o, Answer)})
    assert sum(isinstance(outcome, Answer) for outcome in found.values()) > 30


def test_concurrency_is_used_and_never_exceeded() -> None:
    texts = [f"tea {number}" for number in range(30)]
    with faulty_endpoint(FaultPlan(latency_s=0.05)) as server:
        asked(texts, spec_of(server.base_url, Role.CHAT, concurrency=3))
        assert server.peak_in_flight == 3


def test_no_requests_at_all_is_no_error() -> None:
    with faulty_endpoint() as server:
        assert embedded([], spec_of(server.base_url)) == {}
        assert asked([], spec_of(server.base_url, Role.CHAT)) == {}


def test_a_batch_of_another_width_is_never_an_answer() -> None:
    with running_app(_app(lambda number: 384 if number < 2 else 383)) as server:
        found = embedded(TEXTS, spec_of(server.base_url, batch_size=2, concurrency=1))
    kinds = [type(found[text]) for text in TEXTS]
    assert kinds == [Answer] * 4 + [Failure] * 3
    assert "383" in str(found[TEXTS[-1]])


def test_a_width_known_from_before_is_kept() -> None:
    with running_app(_app(lambda number: 383)) as server:
        found = embedded(TEXTS, spec_of(server.base_url), width=384)
    assert all(isinstance(outcome, Failure) for outcome in found.values())


def test_servers_that_answer_lists_of_numbers_are_understood() -> None:
    with running_app(_app(lambda number: 12, as_list=True)) as server:
        found = embedded(TEXTS, spec_of(server.base_url))
    for outcome in found.values():
        assert isinstance(outcome, Answer)
        np.testing.assert_array_equal(outcome.vector, np.ones(12))


STRANGE_BODIES = [
    "<html>Bad gateway, but 200</html>",
    [],
    {},
    {"data": None},
    {"data": [None]},
    {"data": [{"index": 0, "embedding": "%%%"}]},
    {"data": [{"index": 0, "embedding": {"a": 1}}]},
    {"choices": []},
    {"choices": [None]},
    {"choices": [{"message": None}]},
    {"choices": [{"message": {"content": ["a list"]}}]},
]


@pytest.mark.parametrize("body", STRANGE_BODIES, ids=str)
def test_an_answer_of_any_other_shape_is_a_failure_with_a_reason(body: object) -> None:
    with running_app(_constant(200, body)) as server:
        spec = spec_of(server.base_url)
        found = [embedded(TEXTS[:1], spec), asked(TEXTS[:1], spec)]
    for outcomes in found:
        (outcome,) = outcomes.values()
        assert isinstance(outcome, Failure)
        assert outcome.reason


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("role", Role)
def test_a_refusal_of_everything_is_raised_at_once(
    status: int, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM4CDSR_API_KEY", KEY)
    body = {"error": {"message": f"Incorrect key {KEY}"}}
    with running_app(counted := _Counted(_constant(status, body))) as server:  # type: ignore[arg-type]
        spec = spec_of(server.base_url, role, concurrency=1, key_variable="LLM4CDSR_API_KEY")
        with pytest.raises(EndpointRefused, match="check") as raised:
            (embedded if role is Role.EMBEDDING else asked)(TEXTS, spec)
    assert counted.requests == 1
    assert server.base_url in str(raised.value)
    assert _everything_said_by(raised.value).count(KEY) == 0


def test_an_unknown_model_is_named() -> None:
    with running_dummy_endpoint() as server:
        spec = spec_of(server.base_url, model="no-such-model")
        with pytest.raises(EndpointRefused, match="no model no-such-model"):
            embedded(TEXTS, spec)


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.SERVER_ERROR], ids=lambda fault: fault.name)
def test_a_server_that_goes_away_for_good_ends_the_run_and_costs_no_prompt_its_tries(
    fault: Fault,
) -> None:
    texts = [f"tea {number}" for number in range(60)]
    found: list[Outcome] = []
    with faulty_endpoint() as server:

        def keep(outcomes: list[Outcome]) -> None:
            found.extend(outcomes)
            if len(found) == 10:
                server.plan = FaultPlan(rate=1.0, kinds=(fault,), faults_per_request=10_000)

        spec = spec_of(server.base_url, Role.CHAT, outage_seconds=0.2)
        with pytest.raises(EndpointDown, match="run again"):
            complete([question(text) for text in texts], spec, keep)
    assert_right_texts({outcome.key: outcome for outcome in found})
    assert 10 <= len(found) < 60


def test_an_outage_pauses_the_run_which_then_goes_on_and_loses_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    texts = [f"tea {number}" for number in range(60)]
    found: list[Outcome] = []
    with faulty_endpoint() as server, caplog.at_level(logging.INFO, "llm4cdsr"):

        def keep(outcomes: list[Outcome]) -> None:
            found.extend(outcomes)
            if len(found) == 10:
                broken = (Fault.SERVER_ERROR,) * 8
                server.plan = FaultPlan(by_word={"tea": broken})

        spec = spec_of(server.base_url, Role.CHAT, max_retries=1)
        complete([question(text) for text in texts], spec, keep)
        assert [server.good_answers_for(text) for text in texts] == [1] * 60
    assert_right_texts({outcome.key: outcome for outcome in found})
    assert len(found) == 60
    assert "pausing" in caplog.text
    assert "answers again" in caplog.text


def test_a_server_that_is_started_again_on_its_port_is_found_again() -> None:
    texts = [f"tea {number}" for number in range(40)]
    found: list[Outcome] = []
    ten_are_there, is_down = threading.Event(), threading.Event()

    def keep(outcomes: list[Outcome]) -> None:
        found.extend(outcomes)
        if len(found) == 10:
            ten_are_there.set()
            is_down.wait()

    with ThreadPoolExecutor(1) as pool:
        with running_dummy_endpoint() as server:
            spec = spec_of(server.base_url, Role.CHAT, concurrency=2, max_retries=1)
            asking = pool.submit(complete, [question(text) for text in texts], spec, keep)
            ten_are_there.wait()
        is_down.set()
        with running_dummy_endpoint(server.port):
            asking.result()
    assert_right_texts({outcome.key: outcome for outcome in found})
    assert len(found) == 40


def test_work_is_shared_by_several_urls_and_one_that_is_down_is_left_out() -> None:
    texts = [f"tea {number}" for number in range(60)]
    with faulty_endpoint(FaultPlan(latency_s=0.01)) as one, faulty_endpoint(one.plan) as two:
        urls = f"{one.base_url}, {two.base_url}"
        assert_right_texts(asked(texts, spec_of(urls, Role.CHAT, concurrency=3)))
        assert one.requests_to(CHAT) + two.requests_to(CHAT) == 60
        assert min(one.requests_to(CHAT), two.requests_to(CHAT)) > 15
        assert max(one.peak_in_flight, two.peak_in_flight) <= 4
    with faulty_endpoint() as alive:
        urls = f"{one.base_url},{alive.base_url}"
        assert_right_texts(asked(texts, spec_of(urls, Role.CHAT, max_retries=0)))
        assert alive.requests_to(CHAT) == 60


def test_one_server_error_too_many_splits_a_batch_instead_of_losing_it() -> None:
    texts = [f"tea {number}" for number in range(40)]
    plan = FaultPlan(by_word={"tea 3": (Fault.SERVER_ERROR,) * 2})
    with faulty_endpoint(plan) as server:
        spec = spec_of(server.base_url, batch_size=20, concurrency=1, max_retries=1)
        assert_right_vectors(embedded(texts, spec))


def test_an_account_without_credit_ends_the_run_at_once_with_its_reason() -> None:
    body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    with running_app(counted := _Counted(_constant(429, body))) as server:  # type: ignore[arg-type]
        with pytest.raises(EndpointRefused, match="no credit"):
            asked(TEXTS, spec_of(server.base_url, Role.CHAT, concurrency=1))
        assert counted.requests == 1


def test_a_prompt_that_is_too_long_says_so() -> None:
    message = "This model's maximum context length is 2048 tokens"
    body = {"error": {"message": message, "code": "context_length_exceeded"}}
    with running_app(_constant(400, body)) as server:
        (failed,) = asked(TEXTS[:1], spec_of(server.base_url, Role.CHAT)).values()
    assert isinstance(failed, Failure)
    assert failed.reason.startswith("the prompt is longer than the model reads")


def test_retry_after_is_waited_for_by_everyone_and_costs_no_try() -> None:
    plan = FaultPlan(script=(Fault.RATE_LIMITED,) * 6, retry_after_s=0.05)
    with faulty_endpoint(plan) as server:
        assert_right_texts(asked(TEXTS, spec_of(server.base_url, Role.CHAT, max_retries=0)))


@pytest.mark.parametrize(
    ("fault", "retry_after_s", "first_wait", "at_least"),
    [(Fault.BUSY, 0.2, 0.01, 2 * 0.2), (Fault.RATE_LIMITED, 0.0, 0.2, 0.2 / 2 + 0.4 / 2)],
    ids=["busy", "rate limited for no time"],
)
def test_retry_after_never_makes_tries_follow_each_other_at_once(
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    retry_after_s: float,
    first_wait: float,
    at_least: float,
) -> None:
    monkeypatch.setattr(endpoint_tries, "FIRST_WAIT_SECONDS", first_wait)
    monkeypatch.setattr(endpoint_tries, "LONGEST_WAIT_SECONDS", 1.0)
    plan = FaultPlan(script=(fault,) * 2, retry_after_s=retry_after_s)
    with faulty_endpoint(plan) as server:
        before = time.monotonic()
        assert_right_texts(asked(TEXTS[:1], spec_of(server.base_url, Role.CHAT, max_retries=2)))
        assert time.monotonic() - before >= at_least


def test_a_wait_of_hours_that_a_server_asks_for_ends_the_run() -> None:
    plan = FaultPlan(script=(Fault.RATE_LIMITED,), retry_after_s=7200)
    with faulty_endpoint(plan) as server:
        spec = spec_of(server.base_url, Role.CHAT, concurrency=1)
        with pytest.raises(EndpointDown, match="Slow down"):
            asked(TEXTS, spec)
        assert server.requests_to(CHAT) == 1


def test_an_answer_over_the_word_limit_is_asked_for_once_more_then_kept_and_marked() -> None:
    app, seen = _talker(["one two three four five six", "one two three", "one two three four"])
    with running_app(app) as server:
        found: list[Outcome] = []
        spec = spec_of(server.base_url, Role.CHAT, concurrency=1)
        for key, words in (("kept", 6), ("long", 3)):
            asked_for = ChatRequest(key, question("hello").prompt, 50, words)
            seen.answers = seen.answers if key == "kept" else ["a b c d e f g", "a b c d e"]
            complete([asked_for], spec, found.extend)
    kept, long = found
    assert isinstance(kept, Answer)
    assert isinstance(long, Answer)
    assert (kept.text, kept.finish_reason) == ("one two three four five six", "stop")
    assert (long.text, long.finish_reason) == ("a b c d e", TOO_LONG)
    assert long.completion_tokens == 2 * 7  # Both answers are paid for.
    assert [len(messages) for messages in seen.conversations] == [1, 1, 3]
    assert "at most 3 words" in str(seen.conversations[2][2])


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
    with running_app(app) as server, pytest.raises((EndpointRefused, AskingStopped)):
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
        with pytest.raises(AskingStopped):
            asked(TEXTS, spec_of(server.base_url, Role.CHAT))
        stopper.join()


def test_an_error_of_the_one_who_keeps_answers_is_raised_as_it_is() -> None:
    def keep(outcomes: list[Outcome]) -> None:
        raise OSError(28, "no space left")

    with running_dummy_endpoint() as server, pytest.raises(OSError, match="no space"):
        complete([question(text) for text in TEXTS], spec_of(server.base_url, Role.CHAT), keep)


def test_a_refusal_that_quotes_the_key_does_not_leak_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LLM4CDSR_API_KEY", KEY)
    body = {"error": {"message": f"bad request by {KEY}: too long"}}
    with caplog.at_level(logging.DEBUG), running_app(_constant(400, body)) as server:
        spec = spec_of(server.base_url, Role.CHAT, key_variable="LLM4CDSR_API_KEY")
        found = asked(TEXTS[:1], spec)
    assert "too long" in str(found)
    assert KEY not in str(found)


@dataclass
class _Headers:
    seen: list[str] = field(default_factory=list)


@contextmanager
def header_server() -> Iterator[tuple[str, _Headers]]:
    headers = _Headers()
    app = FastAPI(openapi_url=None)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        headers.seen.append(repr(request.headers.items()))
        message = {"role": "assistant", "content": "fine"}
        return JSONResponse({"choices": [{"index": 0, "message": message}]})

    with running_app(app) as server:
        yield server.base_url, headers


def test_a_server_of_ones_own_is_shown_its_own_key_and_never_openais(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", f"{KEY}-admin")
    monkeypatch.setenv("LLM4CDSR_API_KEY", "own-key-9876")
    with caplog.at_level(logging.DEBUG), header_server() as (base_url, headers):
        asked(["one"], spec_of(base_url, Role.CHAT, key_variable="LLM4CDSR_API_KEY"))
        asked(["two"], spec_of(base_url, Role.CHAT, key_variable=None))
    assert "Bearer own-key-9876" in headers.seen[0]
    assert "Bearer none" in headers.seen[1]
    assert KEY not in "".join(headers.seen)
    assert "own-key-9876" not in caplog.text
    assert KEY not in caplog.text


def _app(width_of: Callable[[int], int], as_list: bool = False) -> FastAPI:
    """Embeddings whose width depends on the number of the request."""
    app = FastAPI(openapi_url=None)
    numbers = iter(range(10_000))

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        texts = (await request.json())["input"]
        vector = np.ones(width_of(next(numbers)), "<f4")
        encoded = vector.tolist() if as_list else base64.b64encode(vector.tobytes()).decode()
        data = [{"index": i, "embedding": encoded} for i in range(len(texts))]
        return JSONResponse({"data": data})

    return app


@dataclass
class _Talk:
    answers: list[str]
    conversations: list[list[object]] = field(default_factory=list)


def _talker(answers: list[str]) -> tuple[FastAPI, _Talk]:
    """A chat model that says what it is told to, one answer after the other."""
    app, talk = FastAPI(openapi_url=None), _Talk(answers)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        talk.conversations.append((await request.json())["messages"])
        message = {"role": "assistant", "content": talk.answers.pop(0)}
        usage = {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({"choices": [choice], "usage": usage})

    return app, talk


def _constant(status: int, body: object) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.post("/v1/{route:path}")
    async def answer(route: str) -> Response:
        if isinstance(body, str):
            return PlainTextResponse(body, status, media_type="text/html")
        return JSONResponse(body, status)

    return app


class _Counted:
    """An ASGI app that counts what it is asked."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.requests = 0

    async def __call__(self, scope, receive, send) -> None:  # noqa: ANN001
        self.requests += scope["type"] == "http"
        await self.app(scope, receive, send)


def _everything_said_by(error: BaseException) -> str:
    """The messages of an error and of all errors behind it, as a traceback would print them."""
    said, current = "", error
    while current is not None:
        said += f"{current} {current!r} "
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
    return said
