"""Asks prompts through an endpoint's Batch API: half the price, an answer within a day.

What a rerun needs is on disk before anything is waited for (`batch_folders`): first the
requests, then the id of the uploaded file, then that of the batch. After a kill the next run
that wants one of these prompts goes on waiting for the same batch. Answers pass the same checks,
and enter the ledger under the same keys, as those that are asked one by one.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import openai
from openai.types import Batch

from prompts.render import one_line
from tasks.llm.batches.batch_files import ROUTES, BatchHeader
from tasks.llm.batches.batch_folders import BatchFolder
from tasks.llm.client.failures.fault_kinds import REASON_CHARACTERS
from tasks.llm.client.failures.refusals import EndpointRefusedError
from tasks.llm.client.stop import raise_if_stopped
from tasks.llm.settings.batch_config import BatchConfig
from tasks.llm.settings.llm_config import NO_KEY
from tasks.llm.settings.urls import shown_url

NAME_IN_METADATA = "llm4cdsr"
CREATE_TRIES = 3
LISTED_BATCHES = 500
"""How far back a batch is looked for whose creation got no answer."""

_QUEUE_FULL = "token_limit_exceeded"
"""The server holds as many queued tokens of this account as it takes; later it takes more."""

_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})

logger = logging.getLogger("llm4cdsr")


class BatchRefusedError(RuntimeError):
    """The Batch API does not take or does not finish a batch."""


class BatchApi:
    """The Batch API of one endpoint."""

    def __init__(self, client: openai.OpenAI, asked: BatchHeader, config: BatchConfig) -> None:
        self._client = client
        self._asked = asked
        self._config = config

    def submit(self, folder: BatchFolder) -> str:
        """Returns the id of a file's batch, uploaded and created where that is not done yet.

        Raises:
            EndpointRefusedError, BatchRefusedError.
        """
        record = folder.record()
        with self._refusals():
            if record.input_file_id is None:
                uploaded = self._client.files.create(file=folder.requests, purpose="batch")
                record = folder.note(record.model_copy(update={"input_file_id": uploaded.id}))
                created = None
            else:
                created = self._find(folder)  # It may have been created just before a kill.
            if record.batch_id is None:
                batch = created or self._create(folder, str(record.input_file_id))
                record = folder.note(record.model_copy(update={"batch_id": batch.id}))
        logger.info("batch %s: waiting for its answers", record.batch_id)
        return str(record.batch_id)

    def look(self, batch_id: str) -> Batch:
        """Returns the state of a batch; a passing fault is tried again by the client."""
        with self._refusals():
            return self._client.batches.retrieve(batch_id)

    def fetch(self, folder: BatchFolder, batch: Batch) -> list[Path]:
        """Downloads the files of results that a batch has."""
        outputs = []
        for name in (batch.output_file_id, batch.error_file_id):
            if not name:
                continue
            target = folder.path / f"{len(outputs)}.results.jsonl"
            with (
                self._refusals(),
                self._client.files.with_streaming_response.content(name) as response,
            ):
                response.stream_to_file(target)
            outputs.append(target)
        return outputs

    def tidy(self, batch: Batch) -> None:
        """Deletes the batch's files at the server: prompts are a customer's data."""
        for name in (batch.input_file_id, batch.output_file_id, batch.error_file_id):
            if not name:
                continue
            try:
                self._client.files.delete(name)
            except openai.APIError as error:
                said = _said(error, self._client.api_key)
                logger.warning("the file %s stays at the server: %s", name, said)

    def _create(self, folder: BatchFolder, file_id: str) -> Batch:
        """A lost answer may hide a batch that was created: it is looked for before the next try."""
        once = self._client.with_options(max_retries=0)
        for last in (False,) * (CREATE_TRIES - 1) + (True,):
            try:
                return once.batches.create(
                    input_file_id=file_id,
                    endpoint=ROUTES[self._asked.role],  # pyright: ignore[reportArgumentType]
                    completion_window="24h",
                    metadata={NAME_IN_METADATA: folder.path.name},
                )
            except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError):
                if last:
                    raise
                _wait(min(self._config.poll_seconds, 5.0))
                if found := self._find(folder):
                    return found
        raise AssertionError("the last try returns or raises")

    def _find(self, folder: BatchFolder) -> Batch | None:
        for number, batch in enumerate(self._client.batches.list(limit=100)):
            mine = (batch.metadata or {}).get(NAME_IN_METADATA) == folder.path.name
            if mine and batch.status != "failed":
                return batch
            if number == LISTED_BATCHES:
                break
        return None

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Tells of what the server did instead; its own error may quote the key, and goes."""
        try:
            yield
        except (openai.APIError, httpx2.HTTPError) as error:
            raise self._refusal(error) from None

    def _refusal(self, error: Exception) -> Exception:
        where = shown_url(str(self._client.base_url))
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return EndpointRefusedError(
                f"{where} refuses the key for batches (HTTP {error.status_code}); check it"
            )
        if isinstance(error, openai.NotFoundError):
            return BatchRefusedError(
                f"{where} has no Batch API, or no longer has this batch (HTTP 404); ask without "
                "--batch, or use --batch vllm for a model on this machine"
            )
        return BatchRefusedError(
            f"{where} did not do its part for a batch ({type(error).__name__}: "
            f"{_said(error, self._client.api_key)}). What was answered is kept; run again to go "
            "on with the same batches"
        )


def ended_batches(
    api: BatchApi,
    folders: list[BatchFolder],
    config: BatchConfig,
    on_progress: Callable[[int], None],
) -> Iterator[tuple[BatchFolder, Batch]]:
    """Submits files, a bounded number at a time, and yields each when its batch has ended.

    ``on_progress`` is told how many prompts of the batches in flight are answered.

    Raises:
        EndpointRefusedError, BatchRefusedError.
    """
    queue = list(folders)
    waiting: dict[str, BatchFolder] = {}
    room = config.in_flight
    while queue or waiting:
        while queue and len(waiting) < room:
            folder = queue.pop(0)
            waiting[api.submit(folder)] = folder
        looks = [api.look(batch_id) for batch_id in waiting]
        on_progress(sum(batch.request_counts.completed for batch in looks if batch.request_counts))
        ended = [batch for batch in looks if batch.status in _ENDED]
        for batch in ended:
            folder = waiting.pop(batch.id)
            if _QUEUE_FULL in _error_codes(batch) and waiting:
                folder.note(folder.record().model_copy(update={"batch_id": None}))
                queue.append(folder)
                room = len(waiting)
            else:
                yield folder, batch
        if not ended:
            _wait(config.poll_seconds)


def require_useful(batch: Batch, folder: BatchFolder) -> None:
    """Raises `BatchRefusedError` for a batch that failed as a whole, or that somebody cancelled."""
    if batch.status not in ("failed", "cancelled"):
        return
    folder.drop()  # What it lacks is sent anew by the next run.
    if batch.status == "cancelled":
        raise BatchRefusedError(
            f"the batch {batch.id} was cancelled; its answers so far are kept. Run again to ask "
            "for the others"
        )
    errors = (batch.errors.data or []) if batch.errors else []
    said = "; ".join(f"{each.code}: {each.message} (line {each.line})" for each in errors[:3])
    raise BatchRefusedError(
        f"the batch {batch.id} failed before it ran ({said or 'no reason given'}); nothing of it "
        "was paid. Mend the cause and run again, or ask without --batch"
    )


def _said(error: Exception, key: str) -> str:
    """The words of an error; a server may quote the key, which goes no further."""
    words = str(error) if key == NO_KEY else str(error).replace(key, "[key]")
    return one_line(words, REASON_CHARACTERS)


def _error_codes(batch: Batch) -> set[str | None]:
    return {error.code for error in (batch.errors.data or [])} if batch.errors else set()


def _wait(seconds: float) -> None:
    """Sleeps in small steps, so that an interrupt ends it."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        raise_if_stopped()
        time.sleep(min(left, 0.2))
