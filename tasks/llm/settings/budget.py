"""Budget, spending and prices of a run.

A request reserves its maximum cost before it is sent and settles the actual cost with its answer,
so requests in flight cannot exceed the budget. A budget covers one run in one process (task runner:
threads).
"""

import math
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakValueDictionary

from pydantic import Field

from artifacts.strict import Strict
from artifacts.user_error import UserError

MILLION = 1_000_000

BYTES_PER_TOKEN_AT_LEAST = 3
"""Bytes per token for reservations: English has about 4, Chinese about 3; fewer are rare."""


class Price(Strict):
    """USD per million tokens."""

    prompt: float = Field(ge=0, description="Input tokens.")
    completion: float = Field(default=0.0, ge=0, description="Output tokens.")

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Returns the cost of the tokens in USD."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / MILLION


FREE = Price(prompt=0.0)

PRICES: Mapping[str, Price] = {
    "gpt-4o-mini": Price(prompt=0.15, completion=0.60),
    "gpt-4o": Price(prompt=2.50, completion=10.00),
    "gpt-4.1-mini": Price(prompt=0.40, completion=1.60),
    "gpt-4.1-nano": Price(prompt=0.10, completion=0.40),
    "text-embedding-3-small": Price(prompt=0.02),
    "text-embedding-3-large": Price(prompt=0.13),
}
"""OpenAI's list prices; LLM4CDSR_PRICES overrides or extends them. Costs of other models are
reported as unknown, never as 0."""


class Budget(Strict):
    """Limits of one run; None means no limit."""

    max_usd: float | None = Field(default=None, gt=0, description="US dollars.")
    max_tokens: int | None = Field(default=None, gt=0, description="Tokens read and written.")
    max_requests: int | None = Field(default=None, gt=0, description="HTTP requests.")


class BudgetReachedError(RuntimeError):
    """The run's budget does not allow another request. Answers are kept."""


class UnusableBudgetError(UserError, ValueError):
    """A limit that the run cannot keep: without a price, in batches, or in other processes."""


@dataclass(frozen=True)
class Cost:
    """Cost of one or several requests."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.usd + other.usd,
        )

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(
            self.requests - other.requests,
            self.prompt_tokens - other.prompt_tokens,
            self.completion_tokens - other.completion_tokens,
            self.usd - other.usd,
        )


NOTHING = Cost()


class Spending:
    """Spent and reserved amounts of one run, with its budget. Thread-safe."""

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = budget or Budget()
        self.token = uuid.uuid4().hex
        self._settled = NOTHING
        self._reserved = NOTHING
        self._lock = threading.Lock()
        _known[self.token] = self

    @property
    def spent(self) -> Cost:
        """Returns the settled cost, without requests in flight."""
        return self._settled

    def reserve(self, most: Cost) -> None:
        """Sets aside what a request may cost at most.

        Raises:
            BudgetReachedError: the reservation exceeds the remaining budget.
        """
        with self._lock:
            after = self._settled + self._reserved + most
            if limit := _exceeded(self.budget, after):
                raise BudgetReachedError(f"the budget of {limit} is reached")
            self._reserved += most

    def settle(self, reserved: Cost, paid: Cost) -> None:
        """Replaces a reservation by the actual cost."""
        with self._lock:
            self._reserved -= reserved
            self._settled += paid


class Purse:
    """Access of one shard to the run's spending: prices and counts its requests."""

    def __init__(self, spending: Spending, price: Price | None) -> None:
        self.paid = NOTHING
        self._spending = spending
        self._price = price

    def reserve(self, prompt_tokens: int, completion_tokens: int) -> Cost:
        """Reserves the maximum cost of a request; raises `BudgetReachedError`."""
        most = self.cost(prompt_tokens, completion_tokens)
        self._spending.reserve(most)
        return most

    def settle(self, reserved: Cost, paid: Cost) -> None:
        """Settles a request and releases the rest of its reservation."""
        self.paid += paid
        self._spending.settle(reserved, paid)

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Cost:
        """Returns the cost of one request; 0 USD for an unknown price."""
        usd = self._price.usd(prompt_tokens, completion_tokens) if self._price else 0.0
        return Cost(1, prompt_tokens, completion_tokens, usd)


def spending_of(token: str) -> Spending:
    """Returns the spending of a run by its token; an unlimited one for a run of another process."""
    return _known.get(token) or Spending()


def price_of(model: str, prices: Mapping[str, Price]) -> Price | None:
    """Returns a model's price: configured, else from the built-in list, else None."""
    return prices.get(model) or PRICES.get(model)


def tokens_at_most(text: str) -> int:
    """Returns an upper estimate of a text's tokens."""
    return math.ceil(len(text.encode(errors="replace")) / BYTES_PER_TOKEN_AT_LEAST)


def _exceeded(budget: Budget, cost: Cost) -> str | None:
    tokens = cost.prompt_tokens + cost.completion_tokens
    if budget.max_usd is not None and cost.usd > budget.max_usd:
        return f"${budget.max_usd:,.4g}"
    if budget.max_tokens is not None and tokens > budget.max_tokens:
        return f"{budget.max_tokens:,} tokens"
    if budget.max_requests is not None and cost.requests > budget.max_requests:
        return f"{budget.max_requests:,} requests"
    return None


_known: WeakValueDictionary[str, Spending] = WeakValueDictionary()
