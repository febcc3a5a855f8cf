"""Outages that do not look like one: no prompt is given up, and no limit is learnt from them."""

import itertools

import pytest

from artifacts.ledger.answers import Role
from tasks.llm.client.failures import retries
from tasks.llm.client.servers import circuit_breaker, open_servers
from tests.imitated_servers import Call, Imitation, Reply, Rule, error, imitated
from tests.tasks.llm.client.asking_imitations import ask, spec_at

pytestmark = pytest.mark.usefixtures("quick_retries")

ANSWERS_OF_NONE = {
    "an error's words": Reply(200, {"error": {"message": "upstream failed"}}),
    "a text": Reply(200, b"backend is restarting", content_type="text/plain"),
    "no body": Reply(200, b""),
    "null": Reply(200, None),
    "no choice": Reply(200, {"choices": []}),
    "an empty answer": Reply(
        200, {"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}
    ),
    "half an answer": Reply(200, b'{"choices": [{"message": {"con'),
    "400": error(400, "upstream request failed"),
    "500 about a field": error(500, "invalid temperature of device 3"),
    "500 about a length": error(500, "the prompt waited too long in the queue"),
}
FAILED_BATCHES = {
    "500": error(500, "internal error"),
    "500 with a number": error(500, "batch scheduler: worker 3 exited with code 9"),
    "500 about a length": error(500, "the input waited too long in the queue"),
    "400": error(400, "upstream request failed"),
    "no vectors": Reply(200, {"data": [], "object": "list"}),
    "503 in the body": Reply(200, {"code": 503, "message": "x"}),
}


@pytest.fixture(autouse=True)
def long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.0)  # Tries are used up within the outage.
    monkeypatch.setattr(circuit_breaker, "LONGEST_PAUSE", 0.05)


def outage(reply: Reply, after: int, requests: int) -> Rule:
    """Answers ``after`` requests, then gives ``requests`` times that reply, then answers."""
    numbers = itertools.count()

    def rule(call: Call) -> Reply | None:
        return reply if after <= next(numbers) < after + requests else None

    return rule


@pytest.mark.parametrize(("concurrency", "prompts", "after"), [(1, 12, 4), (4, 12, 11)])
@pytest.mark.parametrize("name", ANSWERS_OF_NONE)
def test_no_prompt_is_given_up(name: str, concurrency: int, prompts: int, after: int) -> None:
    rule = outage(ANSWERS_OF_NONE[name], after, 16)
    with imitated(Imitation("x", (rule,))) as server:
        texts = [f"question {number}" for number in range(prompts)]
        answers, failures = ask(texts, spec_at(server, concurrency=concurrency))
        assert failures == []
        assert len(answers) == prompts
        assert all("temperature" in call.body for call in server.calls)


@pytest.mark.parametrize(("concurrency", "after"), [(1, 1), (1, 3), (3, 1)])
@pytest.mark.parametrize("name", FAILED_BATCHES)
def test_no_limit_of_batches_is_learnt(name: str, concurrency: int, after: int) -> None:
    rule = outage(FAILED_BATCHES[name], after, 7 + concurrency)
    with imitated(Imitation("x", (rule,))) as server:
        texts = ["a", *(f"text {number}" for number in range(639))]
        answers, failures = ask(
            texts, spec_at(server, Role.EMBEDDING, concurrency=concurrency, batch_size=64)
        )
        assert (len(answers), failures) == (640, [])
        assert [known.dialect.batch_limit for known in open_servers._known.values()] == [None]


@pytest.mark.parametrize("name", ANSWERS_OF_NONE)
def test_the_answers_of_one_server_do_not_give_up_the_prompts_of_another(name: str) -> None:
    broken = outage(ANSWERS_OF_NONE[name], 3, 10_000)
    with imitated(Imitation("x", (broken,))) as one, imitated(Imitation("x")) as two:
        one.base_url = f"{one.base_url},{two.base_url}"
        answers, failures = ask(
            [f"question {number}" for number in range(40)], spec_at(one, concurrency=2)
        )
        assert (len(answers), failures) == (40, [])


def test_a_prompt_that_is_refused_alone_is_sent_twice_and_others_once() -> None:
    def rule(call: Call) -> Reply | None:
        return error(400, "invalid prompt") if call.texts == ["question 5"] else None

    with imitated(Imitation("x", (rule,))) as server:
        texts = [f"question {number}" for number in range(40)]
        answers, failures = ask(texts, spec_at(server, concurrency=1))
        assert [failure.key for failure in failures] == ["question 5"]
        assert (len(answers), server.requests) == (39, 41)
