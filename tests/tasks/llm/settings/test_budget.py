"""Money is counted before it is spent."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.llm.settings.budget import (
    NOTHING,
    Budget,
    BudgetReachedError,
    Cost,
    Price,
    Purse,
    Spending,
    price_of,
    spending_of,
    tokens_at_most,
)


def test_prices_are_per_million_tokens() -> None:
    assert Price(prompt=2.0, completion=8.0).usd(500_000, 250_000) == 1.0 + 2.0


def test_a_configured_price_counts_before_the_list_and_an_unknown_model_has_none() -> None:
    mine = Price(prompt=9.0)
    assert price_of("gpt-4o-mini", {"gpt-4o-mini": mine}) == mine
    assert price_of("gpt-4o-mini", {}) == Price(prompt=0.15, completion=0.60)
    assert price_of("someones-model", {}) is None


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(max_usd=1.0), r"\$1 "),
        (Budget(max_tokens=100), "100 tokens"),
        (Budget(max_requests=2), "2 requests"),
    ],
)
def test_a_reservation_that_does_not_fit_is_refused_and_takes_nothing(
    budget: Budget, said: str
) -> None:
    spending = Spending(budget)
    spending.reserve(Cost(2, 40, 40, 0.8))
    with pytest.raises(BudgetReachedError, match=said):
        spending.reserve(Cost(1, 20, 20, 0.3))
    spending.settle(Cost(2, 40, 40, 0.8), Cost(1, 10, 5, 0.1))
    spending.reserve(Cost(1, 20, 20, 0.3))
    assert spending.spent == Cost(1, 10, 5, 0.1)


def test_many_threads_never_exceed_a_budget() -> None:
    spending = Spending(Budget(max_requests=500))

    def spend(_: int) -> int:
        purse = Purse(spending, None)
        try:
            reserved = purse.reserve(1, 1)
        except BudgetReachedError:
            return 0
        purse.settle(reserved, purse.cost(1, 1))
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(spend, range(2000))) == 500
    assert spending.spent.requests == 500


def test_a_request_that_failed_costs_nothing() -> None:
    spending = Spending(Budget(max_requests=1))
    purse = Purse(spending, Price(prompt=1.0))
    purse.settle(purse.reserve(10, 10), NOTHING)
    purse.reserve(10, 10)
    assert purse.paid == NOTHING


def test_shards_of_a_run_share_its_spending_by_token() -> None:
    spending = Spending(Budget(max_requests=1))
    assert spending_of(spending.token) is spending
    assert spending_of("another process's").budget == Budget()


@pytest.mark.parametrize("text", ["", "tea", "摩卡壶适合六杯咖啡" * 9, "🎉" * 5, "\ud83d half"])
def test_reservations_count_more_tokens_than_common_tokenizers(text: str) -> None:
    assert tokens_at_most(text) >= len(text) / 4
