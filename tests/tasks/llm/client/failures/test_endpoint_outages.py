"""Servers that are down or ask for patience: the client waits and loses nothing."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from artifacts.ledger.answers import Role
from tasks.llm.client.ask import complete
from tasks.llm.client.failures import retries
from tasks.llm.client.jobs import Failure, Outcome
from tasks.llm.client.stop import EndpointDownError
from tasks.llm.providers.dummy_endpoint import (
    running_dummy_endpoint,
)
from tests.fakes import CHAT, Fault, FaultPlan, faulty_endpoint
from tests.tasks.llm.client.asking_a_server import TEXTS, asked, assert_right_texts, question
from tests.tasks.shops.small_shop import spec_of

pytestmark = pytest.mark.usefixtures("quick_retries")


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
        with pytest.raises(EndpointDownError, match="run again"):
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


@pytest.mark.parametrize("concurrency", [1, 2, 4])
@pytest.mark.parametrize("max_retries", [1, 3])
def test_an_outage_costs_nothing_where_too_few_prompts_are_asked_at_once_to_show_it(
    monkeypatch: pytest.MonkeyPatch, concurrency: int, max_retries: int
) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.0)  # Retries precede new prompts.
    plan = FaultPlan(script=(None, *(Fault.SERVER_ERROR,) * 8))
    with faulty_endpoint(plan) as server:
        spec = spec_of(server.base_url, Role.CHAT, concurrency=concurrency, max_retries=max_retries)
        assert_right_texts(asked([f"tea {number}" for number in range(12)], spec))


def test_a_last_prompt_that_always_fails_fails_for_good_after_a_control_is_answered() -> None:
    plan = FaultPlan(by_word={"mill": (Fault.SERVER_ERROR,) * 10_000})
    with faulty_endpoint(plan) as server:
        found = asked(["tea", "mill"], spec_of(server.base_url, Role.CHAT, concurrency=1))
        assert server.requests_for("mill") == 6  # Four tries, a trial and a try after the control.
    assert_right_texts({"tea": found["tea"]})
    assert isinstance(found["mill"], Failure)


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
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", first_wait)
    monkeypatch.setattr(retries, "LONGEST_WAIT_SECONDS", 1.0)
    plan = FaultPlan(script=(fault,) * 2, retry_after_s=retry_after_s)
    with faulty_endpoint(plan) as server:
        before = time.monotonic()
        assert_right_texts(asked(TEXTS[:1], spec_of(server.base_url, Role.CHAT, max_retries=2)))
        assert time.monotonic() - before >= at_least


def test_a_wait_of_hours_that_a_server_asks_for_ends_the_run() -> None:
    plan = FaultPlan(script=(Fault.RATE_LIMITED,), retry_after_s=7200)
    with faulty_endpoint(plan) as server:
        spec = spec_of(server.base_url, Role.CHAT, concurrency=1)
        with pytest.raises(EndpointDownError, match="Slow down"):
            asked(TEXTS, spec)
        assert server.requests_to(CHAT) == 1
