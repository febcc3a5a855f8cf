"""When a server counts as down, and how it is found again. Times are given, no clock is read."""

from tasks.llm.client.circuit_breaker import FIRST_PAUSE, LONGEST_PAUSE, Breaker


def opened(now: float = 100.0) -> Breaker:
    breaker = Breaker(failed_jobs=3)
    breaker.failed(1, now, nobody_there=True)
    return breaker


def test_one_prompt_that_always_fails_does_not_make_a_server_down() -> None:
    breaker = Breaker(failed_jobs=3)
    for moment in range(50):
        breaker.failed(7, moment, nobody_there=False)
    assert not breaker.is_open
    assert breaker.wait(50.0) == 0.0


def test_several_prompts_in_a_row_do_and_a_success_in_between_starts_the_count_anew() -> None:
    breaker = Breaker(failed_jobs=3)
    breaker.failed(1, 0.0, nobody_there=False)
    breaker.failed(2, 0.0, nobody_there=False)
    breaker.succeeded(0.5)
    breaker.failed(3, 1.0, nobody_there=False)
    breaker.failed(4, 1.0, nobody_there=False)
    assert not breaker.is_open
    breaker.failed(5, 2.0, nobody_there=False)
    assert breaker.is_open
    assert breaker.down_since == 2.0


def test_only_one_trial_is_out_at_a_time_and_its_success_lets_everyone_in() -> None:
    breaker = opened(100.0)
    assert breaker.wait(100.0) == FIRST_PAUSE
    assert breaker.wait(100.0 + FIRST_PAUSE) == 0.0
    breaker.begin(2)
    assert breaker.wait(1000.0) is None
    breaker.succeeded(100.0 + FIRST_PAUSE)
    assert breaker.wait(100.0) == 0.0
    assert breaker.down_since is None


def test_each_failed_trial_doubles_the_pause_up_to_a_limit_and_keeps_when_it_began() -> None:
    breaker, now, pauses = opened(0.0), 0.0, []
    for _ in range(8):
        now += breaker.wait(now) or 0.0
        breaker.begin(1)
        breaker.failed(1, now, nobody_there=True)
        pauses.append(breaker.wait(now))
    assert pauses[:3] == [2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    assert breaker.down_since == 0.0


def test_late_failures_of_requests_sent_before_it_went_down_change_nothing() -> None:
    breaker = opened(0.0)
    breaker.failed(2, 0.4, nobody_there=True)
    assert breaker.wait(FIRST_PAUSE) == 0.0


def test_late_answers_to_requests_sent_before_it_went_down_do_not_let_everyone_in() -> None:
    breaker = opened(100.0)
    breaker.succeeded(99.9)
    assert breaker.is_open
    assert breaker.wait(100.0) == FIRST_PAUSE


def test_a_trial_that_is_cancelled_leaves_the_place_to_another() -> None:
    breaker = opened(0.0)
    breaker.begin(1)
    breaker.abandon(1)
    assert breaker.wait(10.0) == 0.0


def test_a_rate_limit_keeps_everyone_away_as_long_as_the_server_says() -> None:
    breaker = Breaker()
    breaker.rate_limited(10.0, 4.0)
    breaker.rate_limited(11.0, 1.0)
    assert breaker.wait(11.0) == 3.0
    assert breaker.wait(14.0) == 0.0
    assert breaker.down_since == 10.0
