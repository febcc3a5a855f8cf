"""Runs shards of prompts, each as one Prefect task run with bounded concurrency.

Prompts are spooled to a file; a shard reads its slice, in any process.
"""

import gc
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.runtime import task_run

from artifacts import columns as col
from artifacts.files.ownership import if_abandoned, opened_locked
from artifacts.ledger.answers import Answer, Role
from artifacts.ledger.claims import PROMPT
from artifacts.ledger.ledger import Ledger
from prompts.render import ChatPrompt
from tasks.frame import progress
from tasks.frame.prefect_link import has_given_up
from tasks.llm.client import event_loop
from tasks.llm.client.ask import complete, embed, require_server
from tasks.llm.client.jobs import ChatRequest, EmbeddingRequest, Failure, Outcome
from tasks.llm.client.servers.lanes import PROBE_REQUESTS
from tasks.llm.client.servers.open_servers import open_servers
from tasks.llm.settings.budget import spending_of
from tasks.llm.settings.llm_config import EndpointSpec, api_key
from tasks.llm.shards.server_load import load_shown
from tasks.llm.shards.shard import SHARDS_IN_FLIGHT, AnswerLimits, AskingStep, Shard, ShardOutcome


class OtherShardError(RuntimeError):
    """A shard was not started, because another one of its stage had failed."""


@contextmanager
def connected(spec: EndpointSpec) -> Iterator[None]:
    """Keeps connections and server states open during the block.

    Raises:
        EndpointDownError: no server is reachable.
    """
    require_server(spec)
    # About a million objects are loaded; repeated garbage collection of them would take a fifth of
    # this process's time.
    gc.freeze()
    try:
        with event_loop.held(open_servers(spec, api_key(spec))):
            yield
    finally:
        gc.unfreeze()


def ask_in_shards(
    step: AskingStep, missing: pl.DataFrame, limits: AnswerLimits
) -> list[ShardOutcome]:
    """Returns the outcomes of ``key, prompt`` (`missing`), one per shard; answers are in the
    ledger.

    Raises:
        EndpointRefusedError, EndpointDownError: the endpoint refuses or is down; answers are kept.
    """
    spec, size = step.endpoint.spec(), step.config.shard_size
    starts = range(0, missing.height, size)
    with (
        _spooled(missing, step.store.workspace("spool"), size) as spool,
        progress.progress(step.label, missing.height) as bar,
        load_shown(spec, bar),
    ):
        shards = [
            Shard(
                label=step.label,
                number=number,
                of=len(starts),
                role=step.role,
                spool=str(spool),
                start=start,
                stop=min(start + size, missing.height),
                spec=spec,
                limits=limits,
                store_root=str(step.store.local),
                progress_token=bar.token,
                spending_token=step.endpoint.spending.token,
            )
            for number, start in enumerate(starts, start=1)
        ]
        # Waits for shards beside a failed one as well, because their answers are paid for.
        return _whole(_outcomes(shards))


def _outcomes(shards: list[Shard]) -> list[ShardOutcome | BaseException]:
    if FlowRunContext.get() is not None or not has_given_up():
        return answer_shard.map(shards).result(raise_on_failure=False)  # pyright: ignore[reportReturnType]
    # A run that lost its Prefect server has no flow with a task runner.
    with ThreadPoolExecutor(SHARDS_IN_FLIGHT) as pool:
        begun = [pool.submit(copy_context().run, answer_shard.fn, shard) for shard in shards]
        return [each.exception() or each.result() for each in begun]


@contextmanager
def _spooled(prompts: pl.DataFrame, folder: Path, shard_size: int) -> Iterator[Path]:
    """Yields a file of the prompts, locked (``flock``) during the block and deleted afterwards,
    together with unlocked files of killed processes."""
    for left in folder.glob("*.parquet"):
        with if_abandoned(left) as is_mine:
            if is_mine:
                left.unlink(missing_ok=True)
    spool = folder / f"{uuid.uuid4().hex}.parquet"
    # Locked before it is renamed to the name that others search, as a journal.
    unseen = spool.with_suffix(".new")
    # Row groups of a shard's size, so that a shard decodes its own rows only.
    prompts.write_parquet(unseen, row_group_size=shard_size)
    with opened_locked(unseen):
        unseen.rename(spool)
        try:
            yield spool
        finally:
            spool.unlink(missing_ok=True)


def _shard_name() -> str:
    shard = task_run.parameters["shard"]
    return f"{shard.label} shard {shard.number}/{shard.of}"


@task(name="answer shard", task_run_name=_shard_name, cache_policy=NO_CACHE)
def answer_shard(shard: Shard) -> ShardOutcome:
    """Sends one shard's prompts and appends every answer to the ledger as it arrives."""
    if not Path(shard.spool).exists():
        raise OtherShardError(f"{shard.label}: not sent, because another shard failed")
    try:
        return _answered(shard)
    except BaseException:
        # Stops shards that have not started, in all processes.
        Path(shard.spool).unlink(missing_ok=True)
        raise


def _whole(outcomes: list[ShardOutcome | BaseException]) -> list[ShardOutcome]:
    """Raises the error of the first failed shard; else returns all outcomes."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for error in sorted(errors, key=lambda error: isinstance(error, OtherShardError)):
        raise error
    return [outcome for outcome in outcomes if isinstance(outcome, ShardOutcome)]


def _answered(shard: Shard) -> ShardOutcome:
    length = shard.stop - shard.start
    rows = pl.scan_parquet(shard.spool, glob=False).slice(shard.start, length).collect()
    rows = _probe_first(rows, PROBE_REQUESTS if shard.role is Role.CHAT else shard.spec.batch_size)
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
            journal.flush()  # In this thread, because it would block the event loop.
            arrived = answered + len(failures)
            progress.advance(shard.progress_token, arrived - shown)
            shown = arrived

        if shard.role is Role.CHAT:
            asked = complete(_chat_requests(rows, shard), shard.spec, keep, spending, show)
        else:
            asked = embed(
                _embedding_requests(rows), shard.spec, keep, shard.limits.width, spending, show
            )
    return ShardOutcome(
        prompt_tokens=asked.paid.prompt_tokens,
        completion_tokens=asked.paid.completion_tokens,
        usd=asked.paid.usd,
        failures=tuple(failures),
        answered=answered,
        over_budget=asked.over_budget,
    )


def _probe_first(rows: pl.DataFrame, prompts: int) -> pl.DataFrame:
    """Orders the probe prompts first: they are spread evenly over the shard, so that consecutive
    bad prompts are not taken for all."""
    number = pl.int_range(pl.len())
    step = max(1, rows.height // prompts)
    return rows.sort((number % step != 0).cast(pl.Int8), maintain_order=True)


def _chat_requests(rows: pl.DataFrame, shard: Shard) -> Iterator[ChatRequest]:
    for key, prompt in rows.select(col.KEY, PROMPT).iter_rows():
        asked = ChatPrompt.model_validate_json(prompt)
        yield ChatRequest(key, asked, shard.limits.max_tokens, shard.limits.max_words)


def _embedding_requests(rows: pl.DataFrame) -> Iterator[EmbeddingRequest]:
    for key, text in rows.select(col.KEY, PROMPT).iter_rows():
        yield EmbeddingRequest(key, text)
