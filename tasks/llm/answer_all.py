"""Gets answers for a table of prompts: ledger first, then the endpoint, shard by shard.

Equal prompts are asked once, whoever needs them. What the ledger lacks is spooled to a file
and spread over shards; each shard is one Prefect task run that writes its answers to the
ledger as they arrive (DESIGN, decisions 2 and 3). Kill it at any moment: a rerun pays only
for the answers that were in flight.
"""

import json
import logging
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from artifacts import columns as col
from artifacts.fingerprint import fingerprint_of
from artifacts.ledger.answers import Role, answer_keys
from artifacts.ledger.asking_turns import Question, ask_in_turns
from artifacts.ledger.claims import PROMPT, PROMPT_SCHEMA
from artifacts.ledger.ledger import Ledger
from artifacts.ledger.shared import open_ledger
from artifacts.manifest import COMPLETE
from artifacts.store import Store
from prompts.render import ChatPrompt
from tasks.frame.row_blocks import regrouped
from tasks.frame.stage import LlmUsage
from tasks.llm.client.failures.refusals import EndpointRefusedError
from tasks.llm.client.stop import EndpointDownError, raise_if_stopped
from tasks.llm.keys_met import KeysMet
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.batch_config import refuse_budget_in_batches
from tasks.llm.settings.budget import BudgetReachedError, Cost
from tasks.llm.settings.llm_config import LlmConfig
from tasks.llm.settings.request_fields import chat_fields
from tasks.llm.shards.shard import AnswerLimits, ShardOutcome

PIECE_ROWS = 65_536
"""Prompts that are looked up, spooled and asked together: what memory a stage needs for them
does not grow with their number."""

PIECES_OF_SHARDS = 8
"""Shards that a piece holds at least, so that several run at once however large they are."""

LOOKUPS = 32
"""Times that a stage's answers are looked up at most; each time as many rows are in memory."""

FAILURE_SCHEMA = pl.Schema({col.KEY: pl.String, col.REASON: pl.String})

logger = logging.getLogger("llm4cdsr")


class TooManyFailuresError(RuntimeError):
    """More prompts of a stage failed than the configuration allows."""


class MixedVectorsError(RuntimeError):
    """The ledger holds vectors of different lengths under one model's name."""


@dataclass(frozen=True)
class Answered:
    """What came of a table of prompts: ``keys`` are distinct; ``failures`` key and reason."""

    ledger: Ledger
    keys: KeysMet
    failures: pl.DataFrame
    usage: LlmUsage
    lengths: set[int] = field(default_factory=set)
    """Bytes of the vectors that were looked up."""

    @cached_property
    def answers(self) -> pl.DataFrame:
        """One row a key that has an answer (`ANSWER_SCHEMA`), read when first asked for."""
        return self.answers_to(self.keys.series())

    @property
    def lookup_rows(self) -> int:
        """How many answers are best looked up at a time: each look goes through the whole ledger,
        so there are at most `LOOKUPS` of them, or as few as blocks of `PIECE_ROWS` need."""
        return max(PIECE_ROWS, len(self.keys) // LOOKUPS)

    def answers_to(self, keys: pl.Series) -> pl.DataFrame:
        """Returns the answers to some of the keys, one row a key that has one.

        Raises:
            MixedVectorsError: they came from different models of one name.
        """
        found = self.ledger.answers(keys)
        self.lengths.update(found["vector"].bin.size().drop_nulls().unique())
        if len(self.lengths) > 1:
            raise MixedVectorsError(
                f"the ledger has vectors of {sorted(length // 4 for length in self.lengths)} "
                "numbers for one model's name, so more than one model answers to it; mend that, "
                f"delete {self.ledger.place} and run again"
            )
        return found


def chat_keys(prompts: list[ChatPrompt], endpoint: Endpoint, max_tokens: int) -> pl.DataFrame:
    """Returns ``key, prompt`` of questions; the limit of the answer is part of the question."""
    parameters = chat_fields(max_tokens, endpoint.parameters)
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
        EndpointRefusedError, EndpointDownError: nothing more could be asked; what came is kept.
        BudgetReachedError: the run may spend no more; what came is kept.
        WaitingInBatchError: some were sent in a batch that ``config`` would not collect.
        TooManyFailuresError: more than ``config.max_failed_share`` of the distinct prompts failed.
    """
    ledger = open_ledger(store, role)
    if recovered := ledger.recover():
        logger.info("%s: %d answers of an interrupted run recovered", label, recovered)
    fields = endpoint.parameters
    question = Question(
        endpoint.model, chat_fields(max_tokens, fields) if role is Role.CHAT else fields
    )
    tally = _Tally()

    def ask(mine: pl.DataFrame) -> list[ShardOutcome]:
        # Who asks is imported when something is missing: an unchanged run asks nobody.
        if role is Role.EMBEDDING and tally.width is None:
            tally.width = ledger.width(tally.recent)
        limits = AnswerLimits(max_tokens=max_tokens, max_words=max_words, width=tally.width)
        if config.batch is not None:
            from tasks.llm.batches.batch_files import BatchHeader
            from tasks.llm.batches.batch_run import ask_in_batches

            log = store.workspace("logs") / f"vllm-run-batch-{role}.log"
            same = BatchHeader(role, *question)
            return [ask_in_batches(label, ledger, mine, same, config.batch, limits, endpoint, log)]
        from tasks.llm.batches.batch_folders import refuse_to_pay_twice
        from tasks.llm.shards.shard_run import ask_in_shards, connected

        refuse_to_pay_twice(label, ledger, mine)
        if not tally.asked:
            connections.enter_context(connected(endpoint.spec()))
        return ask_in_shards(label, role, mine, endpoint, config, store, limits)

    refuse_budget_in_batches(config.batch, endpoint.spending.budget)
    kept_alive = nullcontext() if ledger.shared is None else ledger.shared.kept_alive()
    with kept_alive, ExitStack() as connections, closing(_pieces(prompts, config)) as pieces:
        for piece in pieces:
            fresh = tally.count(piece)
            try:
                asked, outcomes = ask_in_turns(
                    label, ledger, fresh, question, ask, raise_if_stopped
                )
            except (EndpointDownError, EndpointRefusedError) as error:
                spent = _spent(ledger, fresh, endpoint)
                raise type(error)(f"{label}: {error}. {spent}") from None
            tally.add(asked, outcomes)
            _stop_over_budget(label, tally, endpoint)
    # In one order, in whichever the answers came.
    failures = pl.DataFrame(tally.failures, schema=FAILURE_SCHEMA, orient="row").sort(col.KEY)
    _refuse_too_many(label, failures, len(tally.keys), config)
    return Answered(ledger, tally.keys, failures, tally.usage(endpoint))


def outcome_of(failures: pl.DataFrame) -> str:
    """Returns the outcome part of an identity: complete, or which prompts are missing."""
    if failures.is_empty():
        return COMPLETE
    return f"without-{fingerprint_of(sorted(failures[col.KEY].to_list()))}"


@dataclass
class _Tally:
    """What came of the pieces so far."""

    keys: KeysMet = field(default_factory=KeysMet)
    recent: pl.Series = field(default_factory=lambda: pl.Series(col.KEY, [], pl.String))
    """Keys of this piece and the last: what of them is answered tells how long vectors are."""
    prompts: int = 0
    asked: int = 0
    outcomes: list[ShardOutcome] = field(default_factory=list)
    width: int | None = None
    _last: int = 0

    def count(self, piece: pl.DataFrame) -> pl.DataFrame:
        """Counts a piece in; returns its prompts that no earlier one equals."""
        fresh = self.keys.add(piece)
        self.recent = pl.concat([self.recent.tail(self._last), fresh[col.KEY]])
        self._last = fresh.height
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
            merged=self.prompts - len(self.keys),
            reused=len(self.keys) - self.asked,
            requests=self.asked,
            failed=len(self.failures),
            prompt_tokens=sum(outcome.prompt_tokens for outcome in self.outcomes),
            completion_tokens=sum(outcome.completion_tokens for outcome in self.outcomes),
            usd=sum(outcome.usd for outcome in self.outcomes),
            unpriced=self.asked if endpoint.price is None else 0,
        )


def _pieces(
    prompts: pl.DataFrame | Iterable[pl.DataFrame], config: LlmConfig
) -> Generator[pl.DataFrame]:
    """Pieces of which each keeps all shards busy; the next one is planned while one is asked.

    Batches are waited for up to a day, so as many as may wait at once are one piece.
    """
    batch = config.batch
    several = PIECES_OF_SHARDS * config.shard_size
    rows = max(PIECE_ROWS, several) if batch is None else batch.max_lines * batch.in_flight
    if isinstance(prompts, pl.DataFrame):
        yield from prompts.iter_slices(rows)
        return
    pieces = regrouped(prompts, rows)
    with ThreadPoolExecutor(1, thread_name_prefix="planning") as planning:
        coming = planning.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = planning.submit(next, pieces, None)
            yield piece


def _spent(ledger: Ledger, prompts: pl.DataFrame, endpoint: Endpoint) -> str:
    """What an asking that ended early has brought and cost, in a sentence."""
    kept = prompts.height - len(ledger.missing(prompts[col.KEY]))
    text = f"{kept:,} of these {prompts.height:,} prompts have their answers, which are kept"
    spent = endpoint.spending.spent
    if not spent.requests:  # Or in other processes, which count for themselves.
        return text
    tokens = spent.prompt_tokens + spent.completion_tokens
    return f"{text}; this run has paid {spent.requests:,} answers, {tokens:,} tokens{_usd(spent)}"


def _usd(spent: Cost) -> str:
    return f", ${spent.usd:,.4f}" if spent.usd else ""


def _stop_over_budget(label: str, tally: _Tally, endpoint: Endpoint) -> None:
    """Raises `BudgetReachedError` where a limit ended the asking: what is missing, the way on."""
    limit = next((outcome.over_budget for outcome in tally.outcomes if outcome.over_budget), None)
    if limit is None:
        return
    kept = sum(outcome.answered for outcome in tally.outcomes)
    spent = endpoint.spending.spent
    raise BudgetReachedError(
        f"{label}: {limit} (spent: {spent.requests:,} requests, "
        f"{spent.prompt_tokens + spent.completion_tokens:,} tokens, ${spent.usd:,.4f}). "
        f"{kept:,} prompts of this stage are answered now and kept; "
        f"{tally.asked - kept - len(tally.failures):,} or more are missing, and later stages have "
        "not asked yet. Run again, with the same budget or a larger one, to go on"
    )


def common_reasons(reasons: pl.Series) -> str:
    """Returns the three commonest reasons with their numbers, for a message."""
    common = reasons.value_counts(sort=True).head(3).rows()
    return "; ".join(f"{count} × {reason}" for reason, count in common)


def _refuse_too_many(label: str, failures: pl.DataFrame, asked: int, config: LlmConfig) -> None:
    if failures.height <= config.max_failed_share * asked:
        return
    raise TooManyFailuresError(
        f"{label}: {failures.height} of {asked} prompts failed, more than the allowed "
        f"{config.max_failed_share:.0%} ({common_reasons(failures[col.REASON])}). The good answers "
        "are kept; mend the cause and run again, or raise `llm.max_failed_share` in the form of a "
        "run"
    )
