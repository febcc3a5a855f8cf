"""When a server counts as down, and how it is found again. Times are given, no clock is read."""

import itertools

from tasks.llm.client.servers.circuit_breaker import (
    FAILED_AT_FIRST,
    FAILED_ORIGINS,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Breaker,
)

_numbers = itertools.count()


def opened(now: float = 100.0) -> Breaker:
    breaker = Breaker()
    fails(breaker, 1, now, nobody_there=True)
    return breaker


def healthy() -> Breaker:
    breaker = Breaker()
    breaker.succeeded(0.0, 0.0)
    return breaker


def fails(
    breaker: Breaker,
    origin: int,
    now: float,
    *,
    nobody_there: bool = False,
    is_used_up: bool = False,
) -> None:
    number = next(_numbers)
    breaker.failed(origin, number, now, nobody_there=nobody_there, is_used_up=is_used_up)


def test_one_prompt_that_always_fails_makes_a_server_down_only_when_its_tries_are_used_up() -> None:
    breaker = healthy()
    for moment in range(50):
        fails(breaker, 7, moment)
    assert not breaker.is_open
    assert breaker.wait(50.0) == 0.0
    fails(breaker, 7, 50.0, is_used_up=True)
    assert breaker.is_open
    assert breaker.wait(50.0) == FIRST_PAUSE


def test_several_prompts_in_a_row_do_and_a_success_in_between_starts_the_count_anew() -> None:
    breaker = healthy()
    for origin in range(FAILED_ORIGINS - 1):
        fails(breaker, origin, 0.0)
    breaker.succeeded(0.4, 0.5)
    for origin in range(FAILED_ORIGINS - 1):
        fails(breaker, origin, 1.0)
    assert not breaker.is_open
    fails(breaker, 99, 2.0)
    assert breaker.is_open
    assert breaker.troubled_since == 1.0


def test_before_anything_succeeded_fewer_requests_of_whatever_prompt_say_the_same() -> None:
    breaker = Breaker()
    for _ in range(FAILED_AT_FIRST):
        assert not breaker.is_open
        fails(breaker, 7, 0.0)
    assert breaker.is_open


def test_a_prompt_that_failed_before_others_were_sent_and_answered_is_suspect() -> None:
    breaker = Breaker()
    assert not breaker.is_suspect(None)
    assert not breaker.is_suspect(3.0)
    breaker.succeeded(1.0, 2.0)
    assert not breaker.is_suspect(3.0)
    assert not breaker.is_suspect(1.5)
    breaker.succeeded(1.6, 1.8)
    breaker.succeeded(1.2, 2.5)
    assert breaker.is_suspect(1.5)


def test_only_one_trial_is_out_at_a_time_and_its_success_lets_everyone_in() -> None:
    breaker = opened(100.0)
    assert breaker.wait(100.0) == FIRST_PAUSE
    assert breaker.wait(100.0 + FIRST_PAUSE) == 0.0
    breaker.begin(2)
    assert breaker.wait(1000.0) is None
    breaker.succeeded(100.0 + FIRST_PAUSE, 101.0)
    assert breaker.wait(101.0) == 0.0
    assert breaker.troubled_since is None


def test_each_failed_trial_doubles_the_pause_up_to_a_limit_and_keeps_when_it_began() -> None:
    breaker, now, pauses = opened(0.0), 0.0, []
    for number in range(-8, 0):
        now += breaker.wait(now) or 0.0
        breaker.begin(number)
        breaker.failed(1, number, now, nobody_there=True, is_used_up=False)
        pauses.append(breaker.wait(now))
    assert pauses[:3] == [2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    assert breaker.troubled_since == 0.0


def test_late_failures_of_requests_sent_before_it_went_down_change_nothing() -> None:
    breaker = opened(0.0)
    fails(breaker, 2, 0.4, nobody_there=True)
    assert breaker.wait(FIRST_PAUSE) == 0.0


def test_late_answers_to_requests_sent_before_it_went_down_do_not_let_everyone_in() -> None:
    breaker = opened(100.0)
    breaker.succeeded(99.9, 100.0)
    assert breaker.is_open
    assert breaker.wait(100.0) == FIRST_PAUSE


def test_a_trial_that_is_cancelled_leaves_the_place_to_another() -> None:
    breaker = opened(0.0)
    breaker.begin(1)
    breaker.abandon(1)
    assert breaker.wait(10.0) == 0.0


def test_a_rate_limit_keeps_everyone_away_as_long_as_the_server_says() -> None:
    breaker = Breaker()
    assert breaker.rate_limited(9.0, 10.0, 4.0)
    assert not breaker.rate_limited(9.5, 11.0, 1.0)  # Of the same moment: it is no news.
    assert breaker.wait(11.0) == 3.0
    assert breaker.wait(14.0) == 0.0
    assert breaker.troubled_since == 10.0


def test_rate_limits_in_a_row_keep_everyone_away_for_longer_each_time() -> None:
    breaker, now, pauses = Breaker(), 0.0, []
    for _ in range(8):
        breaker.rate_limited(now, now, None)
        pauses.append(breaker.wait(now))
        now += pauses[-1] or 0.0
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    breaker.succeeded(now, now)
    breaker.rate_limited(now, now, None)
    assert breaker.wait(now) == FIRST_PAUSE
