"""Each fault of the faulty server really happens on the wire."""

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from tests.fakes import (
    CHAT,
    EMBEDDINGS,
    Fault,
    FaultDoesNotApplyError,
    FaultPlan,
    FaultyServer,
    faulty_endpoint,
)

TITLES = ["Moka Pot", "Yoga Strap", "Trail Vest"]


class Caller:
    """A plain HTTP client of the two model routes, without retries."""

    def __init__(self, http: httpx.Client, server: FaultyServer) -> None:
        self.http = http
        self.server = server

    def embed(self, texts: list[str], encoding: str = "float") -> httpx.Response:
        body = {"model": "dummy-embedding", "input": texts, "encoding_format": encoding}
        return self.http.post("/embeddings", json=body)

    def chat(self, prompt: str) -> httpx.Response:
        messages = [{"role": "user", "content": prompt}]
        return self.http.post(
            "/chat/completions", json={"model": "dummy-chat", "messages": messages}
        )


@contextmanager
def calling(plan: FaultPlan) -> Iterator[Caller]:
    with (
        faulty_endpoint(plan) as server,
        httpx.Client(base_url=server.base_url, timeout=30) as http,
    ):
        yield Caller(http, server)


def vectors_of(reply: httpx.Response) -> list[list[float]]:
    return [entry["embedding"] for entry in reply.json()["data"]]


def test_without_a_plan_it_answers_as_the_dummy_endpoint_does() -> None:
    with calling(FaultPlan()) as caller:
        assert len(vectors_of(caller.embed(TITLES))) == 3
        assert "dummy endpoint" in caller.chat("- espresso").text
        assert caller.http.get("/models").status_code == 200


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [
        (Fault.RATE_LIMITED, 429, "3"),
        (Fault.RATE_LIMITED_WITHOUT_HINT, 429, None),
        (Fault.SERVER_ERROR, 500, None),
    ],
)
def test_an_error_status_comes_once_and_then_the_answer(
    fault: Fault, status: int, retry_after: str | None
) -> None:
    with calling(FaultPlan(script=(fault,), retry_after_s=3)) as caller:
        refused = caller.chat("espresso")
        assert (refused.status_code, refused.headers.get("retry-after")) == (status, retry_after)
        assert caller.chat("espresso").status_code == 200


def test_a_cut_connection_gives_no_answer_and_the_next_request_gets_one() -> None:
    with calling(FaultPlan(script=(None, Fault.CUT))) as caller:
        assert caller.chat("espresso").status_code == 200
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            caller.chat("espresso")
        assert caller.chat("espresso").status_code == 200
        assert [exchange.status for exchange in caller.server.answered] == [200, None, 200]


def test_a_slow_answer_outlasts_the_patience_of_the_client() -> None:
    with calling(FaultPlan(script=(Fault.SLOW,), slow_s=30)) as caller:
        caller.http.timeout = httpx.Timeout(0.2)
        with pytest.raises(httpx.ReadTimeout):
            caller.chat("espresso")


def test_a_slow_answer_is_right_when_waited_for() -> None:
    with calling(FaultPlan(script=(Fault.SLOW,), slow_s=0.05)) as caller:
        assert caller.chat("espresso").text.count("espresso") == 1


def test_malformed_json_comes_with_status_200() -> None:
    with calling(FaultPlan(script=(Fault.MALFORMED_JSON,))) as caller:
        reply = caller.embed(TITLES)
        assert reply.status_code == 200
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            reply.json()


def test_an_empty_text_is_an_answer_with_status_200() -> None:
    with calling(FaultPlan(script=(Fault.EMPTY_TEXT,))) as caller:
        reply = caller.chat("espresso")
        assert reply.status_code == 200
        assert reply.json()["choices"][0]["message"]["content"] == ""


def test_a_wrong_length_lacks_one_number_of_the_last_vector() -> None:
    with calling(FaultPlan(script=(Fault.WRONG_LENGTH,))) as caller:
        assert [len(vector) for vector in vectors_of(caller.embed(TITLES))] == [384, 384, 383]


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_a_nan_stands_in_the_last_vector_only(encoding: str) -> None:
    with calling(FaultPlan(script=(Fault.NAN,))) as caller:
        entries = caller.embed(TITLES, encoding).json()["data"]
        received = [
            np.frombuffer(base64.b64decode(entry["embedding"]), "<f4")
            if encoding == "base64"
            else np.array(entry["embedding"])
            for entry in entries
        ]
        assert [int(np.isnan(vector).sum()) for vector in received] == [0, 0, 1]


def test_a_zero_vector_has_the_right_length() -> None:
    with calling(FaultPlan(script=(Fault.ZERO_VECTOR,))) as caller:
        assert vectors_of(caller.embed(TITLES))[-1] == [0.0] * 384


def test_reordered_embeddings_are_right_when_sorted_by_index() -> None:
    with calling(FaultPlan(script=(Fault.REORDERED,))) as caller:
        shuffled = caller.embed(TITLES).json()["data"]
        assert [entry["index"] for entry in shuffled] == [2, 1, 0]
        assert shuffled[::-1] == caller.embed(TITLES).json()["data"]


def test_a_wrong_count_misses_the_last_vector() -> None:
    with calling(FaultPlan(script=(Fault.WRONG_COUNT,))) as caller:
        assert len(vectors_of(caller.embed(TITLES))) == 2


def test_faults_by_word_leave_other_prompts_alone() -> None:
    with calling(FaultPlan(by_word={"yoga": (Fault.SERVER_ERROR,)})) as caller:
        statuses = [caller.chat(prompt).status_code for prompt in ("tea", "yoga mat", "yoga mat")]
        assert statuses == [200, 500, 200]


def test_a_refused_word_is_a_bad_request_every_time() -> None:
    with calling(FaultPlan(refuse="Yoga")) as caller:
        assert [caller.embed(TITLES).status_code for _ in range(3)] == [400, 400, 400]
        assert caller.embed(["Moka Pot"]).status_code == 200


def test_requests_are_counted_by_route_and_by_prompt() -> None:
    with calling(FaultPlan(script=(Fault.SERVER_ERROR,))) as caller:
        caller.embed(TITLES)
        caller.embed(TITLES[:1])
        caller.chat("espresso")
        server = caller.server
        assert (server.requests_to(EMBEDDINGS), server.requests_to(CHAT)) == (2, 1)
        assert [server.requests_for(text) for text in (*TITLES, "espresso")] == [2, 1, 1, 1]
        assert [server.good_answers_for(text) for text in (*TITLES, "espresso")] == [1, 0, 0, 1]


def test_seeded_faults_do_not_depend_on_the_order_of_arrival() -> None:
    prompts = [f"prompt number {number}" for number in range(40)]

    def faults(order: list[str]) -> dict[str, Fault | None]:
        with calling(FaultPlan(rate=0.5, kinds=(Fault.SERVER_ERROR,), seed=3)) as caller:
            for prompt in order:
                caller.chat(prompt)
            return {entry.prompts[0]: entry.fault for entry in caller.server.answered}

    drawn = faults(prompts)
    assert drawn == faults(prompts[::-1])
    assert 10 < sum(fault is not None for fault in drawn.values()) < 30


def test_seeded_faults_of_one_request_end() -> None:
    plan = FaultPlan(rate=1.0, kinds=(Fault.SERVER_ERROR,), faults_per_request=2)
    with calling(plan) as caller:
        assert [caller.chat("espresso").status_code for _ in range(4)] == [500, 500, 200, 200]


def test_latency_delays_every_answer_and_the_peak_in_flight_is_counted() -> None:
    def gives_up(caller: Caller, prompt: str) -> bool:
        with pytest.raises(httpx.ReadTimeout):
            caller.chat(prompt)
        return True

    # Answers never come in time, so all four requests are in flight whatever the clock does.
    with calling(FaultPlan(latency_s=60)) as caller, ThreadPoolExecutor(4) as pool:
        caller.http.timeout = httpx.Timeout(10, read=0.5)
        prompts = ["tea", "coffee", "milk", "water"]
        assert all(pool.map(lambda prompt: gives_up(caller, prompt), prompts))
        assert caller.server.peak_in_flight == 4
        assert caller.server.answered == []


def test_a_fault_at_a_route_that_cannot_show_it_fails_the_test() -> None:
    with (
        pytest.raises(FaultDoesNotApplyError, match="NAN at /v1/chat"),
        calling(FaultPlan(script=(Fault.NAN,))) as caller,
    ):
        caller.chat("espresso")
