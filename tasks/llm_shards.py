"""Gets answers for a table of prompts: ledger first, then the endpoint, shard by shard.

Equal prompts are asked once, whoever needs them. What the ledger lacks is spooled to a file
and spread over shards; each shard is one Prefect task run that writes its answers to the
ledger as they arrive (DESIGN, decisions 2 and 3). Kill it at any moment: a rerun pays only
for the answers that were in flight.
"""

import json
import logging
import uuid
from pathlib import Path
from typing import NamedTuple

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run
from pydantic import BaseModel, ConfigDict, JsonValue

from artifacts import columns as col
from artifacts.answers import Answer, Role, answer_key
from artifacts.claims import PROMPT
from artifacts.fingerprint import fingerprint_of
from artifacts.ledger import Ledger
from artifacts.manifest import COMPLETE
from artifacts.store import Store
from prompts.render import ChatPrompt
from tasks import progress
from tasks.asking_turns import Question, ask_in_turns
from tasks.endpoint import ChatRequest, EmbeddingRequest, Outcome, complete, embed, require_server
from tasks.endpoints import Endpoint
from tasks.llm_config import EndpointSpec, LlmConfig
from tasks.stage import LlmUsage

SHARDS_IN_FLIGHT = 2
"""Shards that run at once, each with its share of the endpoint's concurrency: while one waits
for its last answers the other keeps the server busy. Flows size their task runner by it."""
FAILURE_SCHEMA = pl.Schema({col.KEY: pl.String, col.REASON: pl.String})

logger = logging.getLogger("llm4cdsr")


class TooManyFailures(RuntimeError):
    """More prompts of a stage failed than the configuration allows."""


class MixedVectors(RuntimeError):
    """The ledger holds vectors of different lengths under one model's name."""


class Answered(NamedTuple):
    """``answers`` one row a key (`ANSWER_SCHEMA`); ``failures`` key and reason."""

    answers: pl.DataFrame
    failures: pl.DataFrame
    usage: LlmUsage


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
    width: int | None
    store_root: str
    progress_token: str


class ShardOutcome(BaseModel):
    """Tokens paid, and the prompts that failed as ``(key, reason)``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt_tokens: int
    completion_tokens: int
    failures: tuple[tuple[str, str], ...]


def chat_keys(prompts: list[ChatPrompt], endpoint: Endpoint, max_tokens: int) -> pl.DataFrame:
    """Returns ``key, prompt`` of questions; the limit of the answer is part of the question."""
    parameters = {**endpoint.parameters, "max_tokens": max_tokens}
    documents = [prompt.model_dump() for prompt in prompts]
    keys = [answer_key(endpoint.model, parameters, document) for document in documents]
    texts = [json.dumps(document, ensure_ascii=False) for document in documents]
    return pl.DataFrame({col.KEY: keys, PROMPT: texts}, schema={col.KEY: str, PROMPT: str})


def embedding_keys(texts: list[str], endpoint: Endpoint) -> pl.DataFrame:
    """Returns ``key, prompt`` of texts to embed."""
    keys = [answer_key(endpoint.model, endpoint.parameters, text) for text in texts]
    return pl.DataFrame({col.KEY: keys, PROMPT: texts}, schema={col.KEY: str, PROMPT: str})


def answer_all(
    label: str,
    role: Role,
    prompts: pl.DataFrame,
    endpoint: Endpoint,
    config: LlmConfig,
    store: Store,
    max_tokens: int = 0,
) -> Answered:
    """Returns the answers to a table of ``key, prompt``, paying only for what is new.

    Raises:
        EndpointRefused, EndpointDown: nothing more could be asked; what came is kept.
        TooManyFailures: more than ``config.max_failed_share`` of the distinct prompts failed.
        MixedVectors: two shards were answered by different models of one name.
    """
    ledger = Ledger(store.local, role)
    if recovered := ledger.recover():
        logger.info("%s: %d answers of an interrupted run recovered", label, recovered)
    distinct = prompts.unique(col.KEY, keep="first", maintain_order=True)
    limit: dict[str, JsonValue] = {"max_tokens": max_tokens} if role is Role.CHAT else {}
    question = Question(endpoint.model, {**endpoint.parameters, **limit})

    def ask(mine: pl.DataFrame) -> list[ShardOutcome]:
        width = _known_width(ledger, distinct, mine)
        return _ask(label, role, mine, endpoint, config, store, max_tokens, width)

    asked, outcomes = ask_in_turns(label, ledger, distinct, question, ask)
    failures = pl.DataFrame(
        [failure for outcome in outcomes for failure in outcome.failures],
        schema=FAILURE_SCHEMA,
        orient="row",
    )
    _refuse_too_many(label, failures, distinct.height, config)
    usage = LlmUsage(
        prompts=prompts.height,
        merged=prompts.height - distinct.height,
        reused=distinct.height - asked,
        requests=asked,
        failed=failures.height,
        prompt_tokens=sum(outcome.prompt_tokens for outcome in outcomes),
        completion_tokens=sum(outcome.completion_tokens for outcome in outcomes),
    )
    answers = ledger.answers(distinct[col.KEY])
    if (lengths := answers["vector"].bin.size().drop_nulls().unique()).len() > 1:
        raise MixedVectors(
            f"{endpoint.model} gave vectors of {sorted(lengths // 4)} numbers, so more than one "
            f"model answers to this name; mend that, delete {ledger.folder} and run again"
        )
    return Answered(answers, failures, usage)


def outcome_of(failures: pl.DataFrame) -> str:
    """Returns the outcome part of an identity: complete, or which prompts are missing."""
    if failures.is_empty():
        return COMPLETE
    return f"without-{fingerprint_of(sorted(failures[col.KEY].to_list()))}"


def _ask(
    label: str,
    role: Role,
    missing: pl.DataFrame,
    endpoint: Endpoint,
    config: LlmConfig,
    store: Store,
    max_tokens: int,
    width: int | None,
) -> list[ShardOutcome]:
    spec = endpoint.spec()
    require_server(spec)
    spool = store.workspace("spool") / f"{uuid.uuid4().hex}.parquet"
    missing.write_parquet(spool)
    # Two shards cannot share one connection, so they become one.
    size = config.shard_size if spec.concurrency >= SHARDS_IN_FLIGHT else missing.height
    starts = range(0, missing.height, size)
    in_flight = min(SHARDS_IN_FLIGHT, len(starts))
    shard_spec = spec.model_copy(update={"concurrency": max(1, spec.concurrency // in_flight)})
    try:
        with progress.progress(label, missing.height) as bar:
            shards = [
                Shard(
                    label=label,
                    number=number,
                    of=len(starts),
                    role=role,
                    spool=str(spool),
                    start=start,
                    stop=min(start + size, missing.height),
                    spec=shard_spec,
                    max_tokens=max_tokens,
                    width=width,
                    store_root=str(store.local),
                    progress_token=bar.token,
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
    rows = pl.read_parquet(shard.spool).slice(shard.start, shard.stop - shard.start)
    failures: list[tuple[str, str]] = []
    tokens = [0, 0]
    with Ledger(Path(shard.store_root), shard.role).journal(shard.spec.model) as journal:

        def keep(outcome: Outcome) -> None:
            if isinstance(outcome, Answer):
                journal.append(outcome)
                tokens[0] += outcome.prompt_tokens
                tokens[1] += outcome.completion_tokens
            else:
                failures.append((outcome.key, outcome.reason))
            progress.advance(shard.progress_token, 1)

        if shard.role is Role.CHAT:
            complete(_chat_requests(rows, shard.max_tokens), shard.spec, keep)
        else:
            embed(_embedding_requests(rows), shard.spec, keep, shard.width)
    return ShardOutcome(
        prompt_tokens=tokens[0], completion_tokens=tokens[1], failures=tuple(failures)
    )


def _known_width(ledger: Ledger, distinct: pl.DataFrame, missing: pl.DataFrame) -> int | None:
    """Returns the length of the vectors that the ledger holds for these prompts, if any."""
    held = distinct.join(missing, on=col.KEY, how="anti")[col.KEY].head(64)
    vector = ledger.answers(held)["vector"].drop_nulls()
    return len(vector[0]) // 4 if len(vector) else None


def _chat_requests(rows: pl.DataFrame, max_tokens: int) -> list[ChatRequest]:
    return [
        ChatRequest(key, ChatPrompt.model_validate_json(prompt), max_tokens)
        for key, prompt in rows.select(col.KEY, PROMPT).iter_rows()
    ]


def _embedding_requests(rows: pl.DataFrame) -> list[EmbeddingRequest]:
    return [EmbeddingRequest(key, text) for key, text in rows.select(col.KEY, PROMPT).iter_rows()]


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
