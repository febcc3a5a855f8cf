"""Gets answers for a table of prompts: ledger first, then the endpoint, shard by shard.

Equal prompts are asked once, whoever needs them. What the ledger lacks is spooled to a file
and spread over shards; each shard is one Prefect task run that writes its answers to the
ledger as they arrive (DESIGN, decisions 2 and 3). Kill it at any moment: a rerun pays only
for the answers that were in flight.
"""

import json
import logging
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run
from pydantic import BaseModel, ConfigDict, JsonValue

from artifacts import columns as col
from artifacts.answers import Answer, Role, answer_keys
from artifacts.claims import PROMPT, PROMPT_SCHEMA
from artifacts.fingerprint import fingerprint_of
from artifacts.ledger import Ledger
from artifacts.manifest import COMPLETE
from artifacts.store import Store
from prompts.render import ChatPrompt
from tasks import asking_loop, progress
from tasks.asking_turns import Question, ask_in_turns
from tasks.batch_asking import ask_in_batches, refuse_budget_in_batches
from tasks.batch_config import BatchConfig
from tasks.batch_files import Asked
from tasks.batch_folders import Collected
from tasks.budget import BudgetReached, spending_of
from tasks.endpoint import (
    ChatRequest,
    EmbeddingRequest,
    Failure,
    Outcome,
    complete,
    embed,
    require_server,
)
from tasks.endpoint_lanes import open_lanes
from tasks.endpoints import Endpoint
from tasks.llm_config import EndpointSpec, LlmConfig, api_key
from tasks.stage import LlmUsage
from tasks.vllm_metrics import load_shown

SHARDS_IN_FLIGHT = 2
"""Shards that run at once and share the endpoint's slots: while one waits for its last answers
the other keeps the server busy. Flows size their task runner by it."""
PIECE_ROWS = 65_536
"""Prompts that are looked up, spooled and asked together: what memory a stage needs for them
does not grow with their number."""

FAILURE_SCHEMA = pl.Schema({col.KEY: pl.String, col.REASON: pl.String})

logger = logging.getLogger("llm4cdsr")


class TooManyFailures(RuntimeError):
    """More prompts of a stage failed than the configuration allows."""


class MixedVectors(RuntimeError):
    """The ledger holds vectors of different lengths under one model's name."""


@dataclass(frozen=True)
class Answered:
    """What came of a table of prompts: ``keys`` are distinct; ``failures`` key and reason."""

    ledger: Ledger
    keys: pl.Series
    failures: pl.DataFrame
    usage: LlmUsage

    @cached_property
    def answers(self) -> pl.DataFrame:
        """One row a key that has an answer (`ANSWER_SCHEMA`), read when first asked for.

        Raises:
            MixedVectors: they came from different models of one name.
        """
        found = self.ledger.answers(self.keys)
        if (lengths := found["vector"].bin.size().drop_nulls().unique()).len() > 1:
            raise MixedVectors(
                f"the ledger has vectors of {sorted(lengths // 4)} numbers for one model's name, "
                f"so more than one model answers to it; mend that, delete {self.ledger.folder} "
                "and run again"
            )
        return found


class Shard(BaseModel):
    """A slice of spooled prompts, and where and how to ask them. Travels to workers as data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    number: int
    of: int
    role: Role
    spool: str
    start: int
    stop: int
    spec: EndpointSpec
    max_tokens: int
    max_words: int | None
    width: int | None
    store_root: str
    progress_token: str
    spending_token: str


class ShardOutcome(BaseModel):
    """What was paid, and the prompts that failed as ``(key, reason)``.

    ``over_budget`` says which limit ended the shard before all was asked, if one did.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt_tokens: int
    completion_tokens: int
    failures: tuple[tuple[str, str], ...]
    usd: float = 0.0
    answered: int = 0
    over_budget: str | None = None


def chat_keys(prompts: list[ChatPrompt], endpoint: Endpoint, max_tokens: int) -> pl.DataFrame:
    """Returns ``key, prompt`` of questions; the limit of the answer is part of the question."""
    parameters = {**endpoint.parameters, "max_tokens": max_tokens}
    documents = [prompt.model_dump() for prompt in prompts]
    keys = answer_keys(endpoint.model, parameters, documents)
    texts = [json.dumps(document, ensure_ascii=False) for document in documents]
    return pl.DataFrame({col.KEY: keys, PROMPT: texts}, schema=PROMPT_SCHEMA)


def embedding_keys(texts: list[str], endpoint: Endpoint) -> pl.DataFrame:
    """Returns ``key, prompt`` of texts to embed."""
    keys = answer_keys(endpoint.model, endpoint.parameters, texts)
    return pl.DataFrame({col.KEY: keys, PROMPT: texts}, schema=PROMPT_SCHEMA)


def answer_all(
    label: str,
    role: Role,
    prompts: pl.DataFrame | Iterable[pl.DataFrame],
    endpoint: Endpoint,
    config: LlmConfig,
    store: Store,
    max_tokens: int = 0,
    max_words: int | None = None,
) -> Answered:
    """Returns the answers to a table of ``key, prompt``, paying only for what is new.

    A large stage hands its table over in pieces, of which one at a time is held in memory.

    Raises:
        EndpointRefused, EndpointDown: nothing more could be asked; what came is kept.
        BudgetReached: the run may spend no more; what came is kept.
        TooManyFailures: more than ``config.max_failed_share`` of the distinct prompts failed.
    """
    ledger = Ledger(store.local, role)
    if recovered := ledger.recover():
        logger.info("%s: %d answers of an interrupted run recovered", label, recovered)
    limit: dict[str, JsonValue] = {"max_tokens": max_tokens} if role is Role.CHAT else {}
    question = Question(endpoint.model, {**endpoint.parameters, **limit})
    tally = _Tally()

    def ask(mine: pl.DataFrame) -> list[ShardOutcome]:
        width = _known_width(ledger, tally.keys)
        if config.batch is not None:
            log = store.workspace("logs") / f"vllm-run-batch-{role}.log"
            same = Asked(role, *question)
            found = ask_in_batches(
                label, ledger, mine, same, config.batch, width, endpoint.spec, log
            )
            return [_outcome_of_batches(found, mine.height, endpoint, config.batch)]
        limits = _Limits(max_tokens, max_words, width)
        return _ask(label, role, mine, endpoint, config, store, limits)

    refuse_budget_in_batches(config.batch, endpoint.spending.budget)
    for piece in _pieces(prompts, config.batch):
        fresh = tally.count(piece)
        asked, outcomes = ask_in_turns(label, ledger, fresh, question, ask)
        tally.add(asked, outcomes)
        _stop_over_budget(label, tally, endpoint)
    failures = pl.DataFrame(tally.failures, schema=FAILURE_SCHEMA, orient="row")
    _refuse_too_many(label, failures, tally.keys.len(), config)
    return Answered(ledger, tally.keys, failures, tally.usage(endpoint))


def outcome_of(failures: pl.DataFrame) -> str:
    """Returns the outcome part of an identity: complete, or which prompts are missing."""
    if failures.is_empty():
        return COMPLETE
    return f"without-{fingerprint_of(sorted(failures[col.KEY].to_list()))}"


@dataclass
class _Tally:
    """What came of the pieces so far."""

    keys: pl.Series = field(default_factory=lambda: pl.Series(col.KEY, [], pl.String))
    prompts: int = 0
    asked: int = 0
    outcomes: list[ShardOutcome] = field(default_factory=list)

    def count(self, piece: pl.DataFrame) -> pl.DataFrame:
        """Counts a piece in; returns its prompts that no earlier one equals."""
        fresh = piece.unique(col.KEY, keep="first", maintain_order=True)
        if self.keys.len():
            seen = self.keys.to_frame()
            fresh = fresh.join(seen, on=col.KEY, how="anti", maintain_order="left")
        self.keys = pl.concat([self.keys, fresh[col.KEY]])
        self.prompts += piece.height
        return fresh

    def add(self, asked: int, outcomes: list[ShardOutcome]) -> None:
        self.asked += asked
        self.outcomes += outcomes

    @property
    def failures(self) -> list[tuple[str, str]]:
        return [failure for outcome in self.outcomes for failure in outcome.failures]

    def usage(self, endpoint: Endpoint) -> LlmUsage:
        return LlmUsage(
            prompts=self.prompts,
            merged=self.prompts - self.keys.len(),
            reused=self.keys.len() - self.asked,
            requests=self.asked,
            failed=len(self.failures),
            prompt_tokens=sum(outcome.prompt_tokens for outcome in self.outcomes),
            completion_tokens=sum(outcome.completion_tokens for outcome in self.outcomes),
            usd=sum(outcome.usd for outcome in self.outcomes),
            unpriced=self.asked if endpoint.price is None else 0,
        )


@dataclass(frozen=True)
class _Limits:
    """What an answer must keep to; of a completion tokens and words, of a vector its width."""

    max_tokens: int
    max_words: int | None
    width: int | None


def _pieces(
    prompts: pl.DataFrame | Iterable[pl.DataFrame], batch: BatchConfig | None
) -> Iterable[pl.DataFrame]:
    """Batches are waited for up to a day, so as many as may wait at once are one piece."""
    if batch is not None and not isinstance(prompts, pl.DataFrame):
        prompts = pl.concat(prompts)
    rows = PIECE_ROWS if batch is None else batch.max_lines * batch.in_flight
    return prompts.iter_slices(rows) if isinstance(prompts, pl.DataFrame) else prompts


def _outcome_of_batches(
    found: Collected, asked: int, endpoint: Endpoint, batch: BatchConfig
) -> ShardOutcome:
    price = endpoint.price
    usd = price.usd(found.prompt_tokens, found.completion_tokens) if price else 0.0
    return ShardOutcome(
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
        failures=tuple((failure.key, failure.reason) for failure in found.failures),
        usd=usd * batch.price_share,
        answered=asked - len(found.failures),
    )


def _ask(
    label: str,
    role: Role,
    missing: pl.DataFrame,
    endpoint: Endpoint,
    config: LlmConfig,
    store: Store,
    limits: _Limits,
) -> list[ShardOutcome]:
    spec = endpoint.spec()
    require_server(spec)
    spool = store.workspace("spool") / f"{uuid.uuid4().hex}.parquet"
    # Row groups of a shard's size: who reads one shard decodes no other.
    missing.write_parquet(spool, row_group_size=config.shard_size)
    starts = range(0, missing.height, config.shard_size)
    try:
        with (
            progress.progress(label, missing.height) as bar,
            load_shown(spec, bar),
            # Connections, and what is known of servers that are down, last for all shards.
            asking_loop.held(open_lanes(spec, api_key(spec))),
        ):
            shards = [
                Shard(
                    label=label,
                    number=number,
                    of=len(starts),
                    role=role,
                    spool=str(spool),
                    start=start,
                    stop=min(start + config.shard_size, missing.height),
                    spec=spec,
                    max_tokens=limits.max_tokens,
                    max_words=limits.max_words,
                    width=limits.width,
                    store_root=str(store.local),
                    progress_token=bar.token,
                    spending_token=endpoint.spending.token,
                )
                for number, start in enumerate(starts, start=1)
            ]
            return answer_shard.map(shards).result()  # pyright: ignore[reportReturnType]
    finally:
        spool.unlink()


def _shard_name() -> str:
    shard = task_run.parameters["shard"]
    return f"{shard.label} shard {shard.number}/{shard.of}"


@task(name="answer shard", task_run_name=_shard_name, cache_policy=NO_CACHE)
def answer_shard(shard: Shard) -> ShardOutcome:
    """Asks one shard's prompts and keeps every answer in the ledger as it arrives."""
    length = shard.stop - shard.start
    rows = pl.scan_parquet(shard.spool).slice(shard.start, length).collect()
    spending = spending_of(shard.spending_token)
    failures: list[tuple[str, str]] = []
    answered, shown = 0, 0
    with Ledger(Path(shard.store_root), shard.role).journal(shard.spec.model) as journal:

        def keep(outcomes: list[Outcome]) -> None:
            nonlocal answered
            good = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
            journal.append(*good)
            answered += len(good)
            failures.extend((bad.key, bad.reason) for bad in outcomes if isinstance(bad, Failure))

        def show() -> None:
            nonlocal shown
            journal.flush()  # Here, because the asking loop would stand still meanwhile.
            arrived = answered + len(failures)
            progress.advance(shard.progress_token, arrived - shown)
            shown = arrived

        if shard.role is Role.CHAT:
            asked = complete(_chat_requests(rows, shard), shard.spec, keep, spending, show)
        else:
            asked = embed(_embedding_requests(rows), shard.spec, keep, shard.width, spending, show)
    return ShardOutcome(
        prompt_tokens=asked.paid.prompt_tokens,
        completion_tokens=asked.paid.completion_tokens,
        usd=asked.paid.usd,
        failures=tuple(failures),
        answered=answered,
        over_budget=asked.over_budget,
    )


def _known_width(ledger: Ledger, keys: pl.Series) -> int | None:
    """Returns the length of the vectors that the ledger holds for these prompts, if any."""
    vector = ledger.answers(keys.head(4096))["vector"].drop_nulls()
    return len(vector[0]) // 4 if len(vector) else None


def _chat_requests(rows: pl.DataFrame, shard: Shard) -> Iterator[ChatRequest]:
    for key, prompt in rows.select(col.KEY, PROMPT).iter_rows():
        asked = ChatPrompt.model_validate_json(prompt)
        yield ChatRequest(key, asked, shard.max_tokens, shard.max_words)


def _embedding_requests(rows: pl.DataFrame) -> Iterator[EmbeddingRequest]:
    for key, text in rows.select(col.KEY, PROMPT).iter_rows():
        yield EmbeddingRequest(key, text)


def _stop_over_budget(label: str, tally: _Tally, endpoint: Endpoint) -> None:
    """Raises `BudgetReached` where a limit ended the asking: what is missing, and the way on."""
    limit = next((outcome.over_budget for outcome in tally.outcomes if outcome.over_budget), None)
    if limit is None:
        return
    kept = sum(outcome.answered for outcome in tally.outcomes)
    spent = endpoint.spending.spent
    raise BudgetReached(
        f"{label}: {limit} (spent: {spent.requests:,} requests, "
        f"{spent.prompt_tokens + spent.completion_tokens:,} tokens, ${spent.usd:,.4f}). "
        f"{kept:,} prompts of this stage are answered now and kept; "
        f"{tally.asked - kept - len(tally.failures):,} or more are missing, and later stages have "
        "not asked yet. Run again, with the same budget or a larger one, to go on"
    )


def _refuse_too_many(label: str, failures: pl.DataFrame, asked: int, config: LlmConfig) -> None:
    if failures.height <= config.max_failed_share * asked:
        return
    common = failures[col.REASON].value_counts(sort=True).head(3).rows()
    reasons = "; ".join(f"{count} × {reason}" for reason, count in common)
    raise TooManyFailures(
        f"{label}: {failures.height} of {asked} prompts failed, more than the allowed "
        f"{config.max_failed_share:.0%} ({reasons}). The good answers are kept; mend the cause "
        "and run again, or raise max_failed_share"
    )
