"""The client: every fault ends in the right answer or in a reason, and in nothing else."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from artifacts.ledger.answers import Answer, Role
from tasks.llm.client.ask import complete
from tasks.llm.client.checks.answer_checks import TOO_LONG
from tasks.llm.client.jobs import ChatRequest, Failure, Outcome
from tasks.llm.providers.dummy_endpoint import (
    running_app,
)
from tests.fakes import CHAT, EMBEDDINGS, Fault, FaultPlan, faulty_endpoint
from tests.tasks.llm.client.asking_a_server import (
    TEXTS,
    answering,
    asked,
    assert_right_texts,
    assert_right_vectors,
    embedded,
    question,
)
from tests.tasks.shops.small_shop import spec_of

pytestmark = pytest.mark.usefixtures("quick_retries")


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
    most = 2 if fault is Fault.REORDERED else 6  # The second fault may meet the same batch.
    assert server.requests_to(EMBEDDINGS) <= most


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
        (Fault.WRONG_COUNT, "0 vectors were returned for 1|No embedding data"),
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
        # Of 7, 6, 3, 2 and 1 texts: the first that is refused as a whole is tried with one text.
        # Alone once more, as a trial, and after the control, as no other text is left.
        assert server.requests_for("espresso mill") <= 5 + 3
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
    '{"data": [',
    [],
    {},
    {"data": None},
    {"data": [None]},
    {"data": [{"index": 0, "embedding": "%%%"}]},
    {"data": [{"index": 0, "embedding": {"a": 1}}]},
    {"choices": []},
    {"choices": [None]},
    {"choices": [{"message": None}]},
    {"choices": [{"message": {"content": [7]}}]},
]


@pytest.mark.parametrize("body", STRANGE_BODIES, ids=str)
def test_an_answer_of_any_other_shape_is_a_failure_with_a_reason(body: object) -> None:
    with running_app(answering(200, body)) as server:
        spec = spec_of(server.base_url)
        found = [embedded(TEXTS[:1], spec), asked(TEXTS[:1], spec)]
    for outcomes in found:
        (outcome,) = outcomes.values()
        assert isinstance(outcome, Failure)
        assert outcome.reason


def test_one_server_error_too_many_splits_a_batch_instead_of_losing_it() -> None:
    texts = [f"tea {number}" for number in range(40)]
    plan = FaultPlan(by_word={"tea 3": (Fault.SERVER_ERROR,) * 2})
    with faulty_endpoint(plan) as server:
        spec = spec_of(server.base_url, batch_size=20, concurrency=1, max_retries=1)
        assert_right_vectors(embedded(texts, spec))


def test_a_prompt_that_is_too_long_says_so() -> None:
    message = "This model's maximum context length is 2048 tokens"
    body = {"error": {"message": message, "code": "context_length_exceeded"}}
    with running_app(answering(400, body)) as server:
        (failed,) = asked(TEXTS[:1], spec_of(server.base_url, Role.CHAT)).values()
    assert isinstance(failed, Failure)
    assert failed.reason.startswith("the prompt is too long for the model")


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
