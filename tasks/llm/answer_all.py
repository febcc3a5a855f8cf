"""Answers for a table of prompts: from the ledger, else from the endpoint, shard by shard.

Equal prompts are sent once. Unanswered prompts are spooled to a file and divided into shards; each
shard is one Prefect task run that appends answers to the ledger as they arrive (DESIGN, decisions 2
and 3). After a kill, a rerun pays only for answers that were in flight.
"""

import json
import logging
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.fingerprint import fingerprint_of
from artifacts.ledger.answers import Question, Role, answer_keys, vectors_of
from artifacts.ledger.claims import PROMPT, PROMPT_SCHEMA, ask_in_turns
from artifacts.ledger.ledger import Ledger, open_ledger
from artifacts.manifest import COMPLETE
from prompts.render import ChatPrompt
from tasks.frame.row_blocks import regrouped
from tasks.frame.stage import LlmUsage
from tasks.llm.client.failures.refusals import EndpointRefusedError
from tasks.llm.client.stop import EndpointDownError, raise_if_stopped
from tasks.llm.keys_met import KeysMet
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.batch_config import refuse_budget_in_batches
from tasks.llm.settings.budget import BudgetReachedError
from tasks.llm.settings.llm_config import LlmConfig
from tasks.llm.settings.request_fields import chat_fields
from tasks.llm.shards.shard import AnswerLimits, AskingStep, ShardOutcome

PIECE_ROWS = 65_536
"""Prompts per piece, which are looked up, spooled and sent together, to bound a stage's memory."""

PIECES_OF_SHARDS = 8
"""Minimum shards per piece, so that several run concurrently."""

LOOKUPS = 32
"""Maximum look-ups of a stage's answers, each for an equal part of the rows."""

FAILURE_SCHEMA = pl.Schema({col.KEY: pl.String, col.REASON: pl.String})

logger = logging.getLogger("llm4cdsr")


class TooManyFailuresError(RuntimeError):
    """The share of failed prompts of a stage exceeds the configured limit."""


class MixedVectorsError(RuntimeError):
    """The ledger has vectors of different widths for one model name."""


@dataclass(frozen=True)
class Answered:
    """Result for a table of prompts: ``keys`` are distinct; ``failures`` has key and reason."""

    ledger: Ledger
    keys: KeysMet
    failures: pl.DataFrame
    usage: LlmUsage
    lengths: set[int] = field(default_factory=set)
    """Bytes of the vectors found in the ledger."""

    @cached_property
    def answers(self) -> pl.DataFrame:
        """Answers, one row per answered key (`ANSWER_SCHEMA`), read on first access."""
        return self.answers_to(self.keys.series())

    @property
    def lookup_rows(self) -> int:
        """Returns the number of answers per look-up. Each look-up scans the ledger, so there are at
        most `LOOKUPS`, or fewer with blocks of `PIECE_ROWS`."""
        return max(PIECE_ROWS, len(self.keys) // LOOKUPS)

    def answers_to(self, keys: pl.Series) -> pl.DataFrame:
        """Returns the answers of some keys, one row per answered key.

        Raises:
            MixedVectorsError: they come from different models with one name.
        """
        found = self.ledger.answers(keys)
        self.lengths.update(found["vector"].bin.size().drop_nulls().unique())
        if len(self.lengths) > 1:
            raise MixedVectorsError(
                f"the ledger has vectors of {sorted(length // 4 for length in self.lengths)} "
                "numbers for one model name, so several models use it; correct the name, "
                f"delete {self.ledger.place} and run again"
            )
        return found


def chat_keys(prompts: list[ChatPrompt], endpoint: Endpoint, max_tokens: int) -> pl.DataFrame:
    """Returns ``key, prompt`` of chat prompts; the token limit is part of the key."""
    parameters = chat_fields(max_tokens, endpoint.parameters)
    documents = [prompt.model_dump() for prompt in prompts]
    keys = answer_keys(endpoint.model, parameters, documents)
    texts = [json.dumps(document, ensure_ascii=False) for document in documents]
    return pl.DataFrame({col.KEY: keys, PROMPT: texts}, schema=PROMPT_SCHEMA)


def embedding_keys(texts: list[str], endpoint: Endpoint) -> pl.DataFrame:
    """Returns ``key, prompt`` of texts to embed."""
    keys = answer_keys(endpoint.model, endpoint.parameters, texts)
    return pl.DataFrame({col.KEY: keys, PROMPT: texts}, schema=PROMPT_SCHEMA)


def answer_all(step: AskingStep, prompts: pl.DataFrame | Iterable[pl.DataFrame]) -> Answered:
    """Returns the answers to a table of ``key, prompt``, paying only for prompts that are not in
    the ledger.

    Large stages pass an iterator of tables; two pieces are in memory at a time.

    Raises:
        EndpointRefusedError, EndpointDownError: the endpoint refuses or is down; answers are kept.
        BudgetReachedError: the budget is reached; answers are kept.
        WaitingInBatchError: some prompts are in a batch that the step would not collect.
        TooManyFailuresError: more than ``max_failed_share`` of the distinct prompts failed.
    """
    label, role, endpoint, batch = step.label, step.role, step.endpoint, step.config.batch
    ledger = open_ledger(step.store, role)
    if recovered := ledger.recover():
        logger.info("%s: %d answers of an interrupted run recovered", label, recovered)
    fields = endpoint.parameters
    question = Question(
        endpoint.model, chat_fields(step.max_tokens, fields) if role is Role.CHAT else fields
    )
    tally = _Tally()

    def ask(mine: pl.DataFrame) -> list[ShardOutcome]:
        # The client is imported only if prompts are missing.
        if role is Role.EMBEDDING and tally.width is None:
            tally.width = ledger.width(tally.recent)
        limits = AnswerLimits(
            max_tokens=step.max_tokens, max_words=step.max_words, width=tally.width
        )
        if batch is not None:
            from tasks.llm.batches.batch_files import BatchHeader
            from tasks.llm.batches.batch_run import ask_in_batches

            return [ask_in_batches(step, ledger, mine, BatchHeader(role, *question), batch, limits)]
        from tasks.llm.batches.batch_folders import refuse_to_pay_twice
        from tasks.llm.shards.shard_run import ask_in_shards, connected

        refuse_to_pay_twice(label, ledger, mine)
        if not tally.asked:
            connections.enter_context(connected(endpoint.spec()))
        return ask_in_shards(step, mine, limits)

    refuse_budget_in_batches(batch, endpoint.spending.budget)
    kept_alive = nullcontext() if ledger.shared is None else ledger.shared.kept_alive()
    with kept_alive, ExitStack() as connections, closing(_pieces(prompts, step.config)) as pieces:
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
            _stop_over_budget(step, tally)
    # Sorted, independent of the order of answers.
    failures = pl.DataFrame(tally.failures, schema=FAILURE_SCHEMA, orient="row").sort(col.KEY)
    refuse_too_many(step, failures, len(tally.keys))
    return Answered(ledger, tally.keys, failures, tally.usage(endpoint))


def outcome_of(failures: pl.DataFrame) -> str:
    """Returns the outcome part of an identity: complete, or the hash of missing prompts."""
    if failures.is_empty():
        return COMPLETE
    return f"without-{fingerprint_of(sorted(failures[col.KEY].to_list()))}"


@dataclass
class _Tally:
    """Sums over the pieces."""

    keys: KeysMet = field(default_factory=KeysMet)
    recent: pl.Series = field(default_factory=lambda: pl.Series(col.KEY, [], pl.String))
    """Keys of this piece and the last, from whose answers the width of vectors is known."""
    prompts: int = 0
    asked: int = 0
    outcomes: list[ShardOutcome] = field(default_factory=list)
    width: int | None = None
    _last: int = 0

    def count(self, piece: pl.DataFrame) -> pl.DataFrame:
        """Adds a piece; returns its prompts that are not in earlier pieces."""
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
    """Yields pieces of several shards each; the next is prepared while one is sent.

    Batches take up to a day, so a piece has the maximum number of concurrent batches.
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
    """Returns a sentence about answers and cost of an aborted stage."""
    kept = prompts.height - len(ledger.missing(prompts[col.KEY]))
    text = f"{kept:,} of these {prompts.height:,} prompts are answered, and the answers kept"
    spent = endpoint.spending.spent
    if not spent.requests:  # Or in other processes, which have their own counts.
        return text
    tokens = spent.prompt_tokens + spent.completion_tokens
    usd = f", ${spent.usd:,.4f}" if spent.usd else ""
    return f"{text}; this run has paid for {spent.requests:,} answers, {tokens:,} tokens{usd}"


def _stop_over_budget(step: AskingStep, tally: _Tally) -> None:
    """Raises `BudgetReachedError` if a limit ended the stage, with the missing prompts and the
    remedy."""
    limit = next((outcome.over_budget for outcome in tally.outcomes if outcome.over_budget), None)
    if limit is None:
        return
    kept = sum(outcome.answered for outcome in tally.outcomes)
    spent = step.endpoint.spending.spent
    raise BudgetReachedError(
        f"{step.label}: {limit} (spent: {spent.requests:,} requests, "
        f"{spent.prompt_tokens + spent.completion_tokens:,} tokens, ${spent.usd:,.4f}). "
        f"{kept:,} prompts of this stage are answered, and the answers kept; "
        f"{tally.asked - kept - len(tally.failures):,} or more are missing, and those of later "
        "stages were not sent. Run again, with the same budget or a larger one, to resume"
    )


def common_reasons(reasons: pl.Series) -> str:
    """Returns the three most frequent reasons with their counts, for a message."""
    common = reasons.value_counts(sort=True).head(3).rows()
    return "; ".join(f"{count} × {reason}" for reason, count in common)


def refuse_too_many(step: AskingStep, failures: pl.DataFrame, asked: int) -> None:
    """Raises `TooManyFailuresError` if the share of failures exceeds the limit."""
    allowed = step.config.max_failed_share
    if failures.height <= allowed * asked:
        return
    raise TooManyFailuresError(
        f"{step.label}: {failures.height} of {asked} prompts failed, more than the allowed "
        f"{allowed:.0%} ({common_reasons(failures[col.REASON])}). Valid answers "
        "are kept; fix the cause and run again, or raise `llm.max_failed_share` of the "
        "run"
    )


def vectors_by_row(
    answered: Answered, asked: Iterable[pl.DataFrame], index: str, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns vectors, float32 (height, width), with zeros for unanswered rows, and the mask of
    answered rows, bool (height,).

    ``asked``: blocks of ``index`` (the row) and ``key``. Without any answer the width is 0.
    """
    vectors, is_answered = np.zeros((height, 0), np.float32), np.zeros(height, bool)
    for block in asked:
        answers = answered.answers_to(block[col.KEY])
        rows = block.join(answers, on=col.KEY, how="inner", maintain_order="left")
        if rows.is_empty():
            continue
        found = vectors_of(rows)
        if not vectors.size:
            vectors = np.zeros((height, found.shape[1]), np.float32)
        places = rows[index].to_numpy()
        vectors[places] = found
        is_answered[places] = True
    return vectors, is_answered
