"""Answers prompts in batches, by an endpoint's Batch API or ``vllm run-batch``.

Answers of an expired batch are kept, its other prompts are resent in the next one. A refused prompt
fails with its reason, as in a single request.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import openai
import polars as pl

from artifacts import columns as col
from artifacts.ledger.ledger import Ledger
from tasks.frame import progress
from tasks.llm.batches.batch_files import BatchHeader, RetryLater, chunks_of
from tasks.llm.batches.batch_folders import (
    BatchFolder,
    BatchRecord,
    Collected,
    collect,
    left_by_others,
    new_folder,
    refuse_to_pay_twice,
)
from tasks.llm.batches.bounded_client import bounded_client
from tasks.llm.batches.openai_api import BatchApi, ended_batches, require_useful
from tasks.llm.batches.vllm_batch import VLLM, run_vllm_batch, vllm_batch_start, vllm_results
from tasks.llm.client.jobs import Failure
from tasks.llm.client.servers.small_answer import MOST_BYTES
from tasks.llm.providers.endpoints import Endpoint
from tasks.llm.settings.batch_config import BatchConfig, BatchKind, BatchStart
from tasks.llm.settings.llm_config import EndpointSpec, api_key, masked
from tasks.llm.shards.shard import AnswerLimits, AskingStep, ShardOutcome

Collect = Callable[[list[BatchFolder]], Collected]


def ask_in_batches(
    step: AskingStep,
    ledger: Ledger,
    prompts: pl.DataFrame,
    asked: BatchHeader,
    config: BatchConfig,
    limits: AnswerLimits,
) -> ShardOutcome:
    """Returns the results of ``key, prompt``; answers are then in the ledger.

    The endpoint is started only for the Batch API.

    Raises:
        WaitingInBatchError: some prompts are in a batch that this run would not collect.
            EndpointRefusedError, BatchRefusedError, VllmBatchError: answers are kept.
    """
    total, left, endpoint = Collected(), prompts, step.endpoint
    with ExitStack() as stack:
        bar = stack.enter_context(progress.progress(step.label, prompts.height))
        if config.kind is BatchKind.API:
            asker = _api_asker(ledger, asked, config, limits, endpoint.spec(), stack, bar)
        else:
            ours = endpoint.batch_start
            start = vllm_batch_start(asked, config) if ours is None else ours()
            log = step.store.workspace("logs") / f"vllm-run-batch-{step.role}.log"
            asker = _vllm_asker(ledger, asked, start, limits, log, bar)
        refuse_to_pay_twice(step.label, ledger, prompts, collected=asker[0])
        for _ in range(config.rounds):
            found = _round(ledger, left, asked, config, *asker)
            total.again.clear()
            _add(total, found)
            left = _with_keys(prompts, found.again)
            if left.is_empty():
                break
    total.failures += [
        Failure(each.key, f"in {config.rounds} batches: {each.reason}") for each in total.again
    ]
    return _outcome(total, prompts.height, endpoint, config)


def _outcome(found: Collected, asked: int, endpoint: Endpoint, batch: BatchConfig) -> ShardOutcome:
    price = endpoint.price
    usd = price.usd(found.prompt_tokens, found.completion_tokens) if price else 0.0
    return ShardOutcome(
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
        failures=tuple((failure.key, failure.reason) for failure in found.failures),
        usd=usd * batch.price_share,
        answered=asked - len(found.failures),
    )


def _round(
    ledger: Ledger,
    prompts: pl.DataFrame,
    asked: BatchHeader,
    config: BatchConfig,
    base_url: str | None,
    finish: Collect,
) -> Collected:
    """Collects batches of killed runs, then submits and collects the remaining prompts."""
    with left_by_others(ledger, prompts, base_url) as folders:
        old = finish(folders)
    refused = _with_keys(prompts, old.failures)
    left = ledger.unanswered(prompts).join(refused, on=col.KEY, how="anti", maintain_order="left")
    record = BatchRecord(model=asked.model, base_url=base_url)
    chunks = chunks_of(left, asked, config.max_lines, config.max_bytes)
    new = finish([new_folder(ledger, lines, record) for lines in chunks])
    mine = set(refused[col.KEY])
    return Collected(
        old.prompt_tokens + new.prompt_tokens,
        old.completion_tokens + new.completion_tokens,
        [failure for failure in old.failures if failure.key in mine] + new.failures,
        new.again,
    )


def _api_asker(
    ledger: Ledger,
    asked: BatchHeader,
    config: BatchConfig,
    limits: AnswerLimits,
    spec: EndpointSpec,
    stack: ExitStack,
    bar: progress.Progress,
) -> tuple[str | None, Collect]:
    key = api_key(spec).get_secret_value()
    client = openai.OpenAI(
        base_url=spec.base_url,
        api_key=key,
        timeout=spec.timeout_seconds,
        max_retries=spec.max_retries,
        # A redirect would send the file of prompts to another server.
        http_client=bounded_client(MOST_BYTES, spec.timeout_seconds, follow_redirects=False),
    )
    api = BatchApi(stack.enter_context(client), asked, config)

    def finish(folders: list[BatchFolder]) -> Collected:
        total = Collected()
        for folder, batch in ended_batches(api, folders, config, _shown_on(bar)):
            outputs = api.fetch(folder, batch)
            if outputs or batch.status != "failed":
                found = collect(ledger, folder, asked, outputs, limits)
                found.failures = [
                    replace(it, reason=masked(it.reason, key)) for it in found.failures
                ]
                found.again = [replace(it, reason=masked(it.reason, key)) for it in found.again]
                _add(total, found)
            require_useful(batch, folder, key)
            folder.drop()
            api.tidy(batch)
        return total

    return spec.base_url, finish


def _vllm_asker(
    ledger: Ledger,
    asked: BatchHeader,
    start: BatchStart,
    limits: AnswerLimits,
    log: Path,
    bar: progress.Progress,
) -> tuple[str | None, Collect]:
    def finish(folders: list[BatchFolder]) -> Collected:
        total = Collected()
        for folder in folders:
            if not vllm_results(folder).exists():
                run_vllm_batch(folder, start, asked, log)
            found = collect(ledger, folder, asked, [vllm_results(folder)], limits)
            _add(total, found)
            folder.drop()
            bar.advance(bar.total)
        return total

    return VLLM, finish


def _shown_on(bar: progress.Progress) -> Callable[[int], None]:
    def show(answered: int) -> None:
        bar.advance(max(0, answered - bar.done), "answered in batches")

    return show


def _add(total: Collected, found: Collected) -> None:
    total.prompt_tokens += found.prompt_tokens
    total.completion_tokens += found.completion_tokens
    total.failures += found.failures
    total.again += found.again


def _with_keys(prompts: pl.DataFrame, those: Iterable[RetryLater | Failure]) -> pl.DataFrame:
    keys = pl.DataFrame({col.KEY: [each.key for each in those]}, schema={col.KEY: pl.String})
    return prompts.join(keys, on=col.KEY, how="semi", maintain_order="left")
