"""What fails every prompt alike ends the stage, with its reason, before many are asked."""

import logging
import time

import pytest

from artifacts.ledger.answers import Answer, Role
from tasks.llm.client.failures.refusals import EndpointRefusedError
from tasks.llm.client.jobs import Outcome
from tasks.llm.client.servers.lanes import PROBE_REQUESTS
from tasks.llm.client.stop import EndpointDownError
from tests.imitated_servers import Imitation, Reply, after, always, error, imitated, page
from tests.tasks.llm.client.asking_imitations import KEY_VARIABLE, ask, spec_at
from tests.tasks.llm.client.hopeless_providers import HOPELESS

pytestmark = pytest.mark.usefixtures("quick_retries")

QUESTIONS = [f"question {number}" for number in range(200)]
TEXTS = [f"text {number}" for number in range(1280)]

SAID = {
    "no credit (402)": "no credit left.*Insufficient Balance",
    "no credit (429)": "no credit left.*exceeded your current quota",
    "wrong key (401)": "refuses the key.*LLM4CDSR_API_KEY.*Incorrect API key",
    "forbidden (403)": "refuses the key.*Country not supported",
    "wrong model (404)": "no model m",
    "wrong model (400)": "no model m",
    "a web page": "no API at this URL.*Open WebUI",
    "another route (405)": "no API at this URL.*Method Not Allowed",
    "an error with status 200": "rate limited upstream",
    "an error without a code, status 200": "upstream failed",
    "429 all day": "Rate limit reached",
    "429 all day, Retry-After 1": "slow down",
    "500 always": "The server had an error",
    "503 always": "upstream down",
    "a field that must be sent": "enable_thinking must be set.*_PARAMETERS",
    "a configured field refused": "refuses the field top_k of LLM4CDSR_(CHAT|EMBED)_PARAMETERS",
    "all moderated (400)": "content policy",
    "all too long": "maximum context length is 16 tokens.*longer context",
    "nothing but reasoning": "contains only reasoning|0 vectors were returned",
    "empty answers": "the answer is empty|zero or not finite",
    "no JSON": "malformed answer",
    "another server": "redirects to http://127.0.0.1:9/v1",
}


@pytest.mark.parametrize("name", HOPELESS)
@pytest.mark.parametrize("role", Role)
def test_a_hopeless_server_ends_the_stage_with_its_words_after_a_few_requests(
    name: str, role: Role
) -> None:
    case = HOPELESS[name]
    with imitated(case.imitation) as server:
        spec = spec_at(server, role, case, outage_seconds=0.5, concurrency=32)
        with pytest.raises((EndpointRefusedError, EndpointDownError), match=SAID[name]):
            ask(QUESTIONS if role is Role.CHAT else TEXTS, spec)
        assert 1 <= server.requests <= PROBE_REQUESTS


def test_a_rate_limit_that_ends_within_the_time_is_waited_for() -> None:
    begun = time.monotonic()

    def rule(call: object) -> Reply | None:
        return error(429, "slow down") if time.monotonic() - begun < 1.0 else None

    with imitated(Imitation("x", (rule,))) as server:
        answers, failures = ask(QUESTIONS[:20], spec_at(server, outage_seconds=30))
        assert (len(answers), failures) == (20, [])


def test_a_rate_limit_asks_more_slowly_and_costs_no_prompt_its_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    in_second: dict[int, int] = {}

    def rule(call: object) -> Reply | None:
        second = int(time.monotonic() * 5)
        in_second[second] = in_second.get(second, 0) + 1
        return error(429, "Rate limit reached for requests") if in_second[second] > 12 else None

    with imitated(Imitation("x", (rule,))) as server, caplog.at_level(logging.WARNING):
        answers, failures = ask(QUESTIONS[:100], spec_at(server, concurrency=32))
        assert (len(answers), failures) == (100, [])
        assert server.requests < 300
    assert caplog.text.count("limits the rate") == 1


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (error(402, "Insufficient Balance"), "no credit left.*Answers are kept"),
        (error(429, "quota", code="insufficient_quota"), "no credit left"),
        (error(403, "insufficient_user_quota"), "no credit left"),
        (Reply(200, {"error": {"code": 402, "message": "more credits needed"}}), "no credit left"),
        (error(400, "Access denied, your account is in Arrearage", code="Arrearage"), "no credit"),
        (error(401, "the token has expired"), "refuses the key"),
        (error(404, "The model `m` has been deprecated", code="model_not_found"), "no model m"),
        (page(), "no API at this URL"),
        (error(403, "Forbidden"), "refuses the key"),
    ],
    ids=str,
)
def test_what_begins_in_the_middle_ends_the_stage_and_what_was_answered_is_kept(
    end: Reply, said: str
) -> None:
    found: list[Outcome] = []
    with imitated(Imitation("x", (after(20, end),))) as server:
        with pytest.raises(EndpointRefusedError, match=said):
            ask(QUESTIONS, spec_at(server, concurrency=4), found)
        assert server.requests <= 20 + 20
    assert sum(isinstance(outcome, Answer) for outcome in found) == 20


def test_texts_that_are_forbidden_from_the_middle_on_are_not_asked_one_by_one() -> None:
    texts = [f"text {number}" for number in range(192)]
    with imitated(Imitation("x", (after(2, error(403, "Access denied")),))) as server:
        with pytest.raises(EndpointRefusedError, match=r"refuses the key.*Access denied"):
            ask(texts, spec_at(server, Role.EMBEDDING, concurrency=4, outage_seconds=3))
        assert server.requests <= 2 + 30


def test_one_prompt_that_a_firewall_answers_with_a_page_fails_alone() -> None:
    for blocked in (page(403), page(406), page(200), error(403, "blocked")):

        def rule(call, blocked: Reply = blocked) -> Reply | None:  # noqa: ANN001
            return blocked if call.texts[0] in ("question 9", "question 31") else None

        with imitated(Imitation("x", (rule,))) as server:
            answers, failures = ask(QUESTIONS, spec_at(server))
            assert {failure.key for failure in failures} == {"question 9", "question 31"}
            assert len(answers) == 198


def test_a_wait_that_a_server_asks_for_is_kept_but_not_for_longer_than_an_outage() -> None:
    with imitated(Imitation("x", (always(Reply(429, {}, {"retry-after": "90"})),))) as server:
        with pytest.raises(EndpointDownError):
            ask(QUESTIONS, spec_at(server, outage_seconds=60))
        assert server.requests == 1
    asked_at: list[float] = []

    def rule(call: object) -> Reply | None:
        asked_at.append(time.monotonic())
        return Reply(503, {}, {"retry-after-ms": "400"}) if len(asked_at) == 1 else None

    with imitated(Imitation("x", (rule,))) as server:
        ask(QUESTIONS[:3], spec_at(server))
    assert asked_at[1] - asked_at[0] >= 0.4


def test_the_key_is_told_to_no_reader_of_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sk-secret-0123456789")
    for reply in (
        error(401, "bad key sk-secret-0123456789"),
        error(400, "refused for sk-secret-0123456789"),
        Reply(200, {"error": "sk-secret-0123456789 failed"}),
        Reply(500, b"sk-secret-0123456789", content_type="text/plain"),
    ):
        with (
            imitated(Imitation("x", (always(reply),))) as server,
            pytest.raises((EndpointRefusedError, EndpointDownError)) as raised,
        ):
            ask(QUESTIONS, spec_at(server, outage_seconds=0.3))
        assert "sk-secret" not in str(raised.value)
