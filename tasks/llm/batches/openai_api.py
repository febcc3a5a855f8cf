"""OpenAI's Batch API: half the price, answers within a day.

The state is on disk before each wait (`batch_folders`): requests, id of the uploaded file, id of
the batch. After a kill the next run with one of these prompts waits for the same batch. Answers
pass the same checks and have the same ledger keys as those of single requests.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx2
import openai
from openai.types import Batch

from prompts.render import one_line
from tasks.llm.batches.batch_files import ROUTES, BatchHeader
from tasks.llm.batches.batch_folders import BatchFolder
from tasks.llm.batches.bounded_client import bounded_client
from tasks.llm.client.failures.fault_kinds import REASON_CHARACTERS
from tasks.llm.client.failures.refusals import EndpointRefusedError
from tasks.llm.client.servers.transport import REDIRECTS
from tasks.llm.client.stop import raise_if_stopped
from tasks.llm.settings.batch_config import BatchConfig
from tasks.llm.settings.llm_config import masked
from tasks.llm.settings.urls import shown_url

NAME_IN_METADATA = "llm4cdsr"
CREATE_TRIES = 3
LISTED_BATCHES = 500
"""Number of latest batches that are searched after a creation without a response."""

MOST_RESULT_BYTES = 2**20
"""Maximum size of a result file for each of its prompts."""

_QUEUE_FULL = "token_limit_exceeded"
"""Error code of a full queue of the account, which empties over time."""

_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})

logger = logging.getLogger("llm4cdsr")


class BatchRefusedError(RuntimeError):
    """The Batch API refused or did not finish a batch."""


class BatchApi:
    """The Batch API of one endpoint."""

    def __init__(self, client: openai.OpenAI, asked: BatchHeader, config: BatchConfig) -> None:
        self._client = client
        self._asked = asked
        self._config = config

    def submit(self, folder: BatchFolder) -> str:
        """Returns the id of a file's batch; uploads the file and creates the batch if necessary.

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
                created = self._find(folder)  # The batch may have been created before a kill.
            if record.batch_id is None:
                batch = created or self._create(folder, str(record.input_file_id))
                record = folder.note(record.model_copy(update={"batch_id": batch.id}))
        logger.info("batch %s: waiting for its answers", record.batch_id)
        return str(record.batch_id)

    def look(self, batch_id: str) -> Batch:
        """Returns the state of a batch; the client retries temporary errors."""
        with self._refusals():
            return self._client.batches.retrieve(batch_id)

    def fetch(self, folder: BatchFolder, batch: Batch) -> list[Path]:
        """Downloads the result files of a batch, also from another host that the server names; the
        client then omits the key.

        Raises:
            EndpointRefusedError, BatchRefusedError: also for a file that is too large.
        """
        timeout = cast(float, self._client.timeout)
        with bounded_client(None, timeout, follow_redirects=True) as follower:
            client = self._client.with_options(http_client=follower)
            return list(self._fetched(client, folder, batch))

    def _fetched(self, client: openai.OpenAI, folder: BatchFolder, batch: Batch) -> Iterator[Path]:
        prompts = len(folder.keys())
        most = prompts * MOST_RESULT_BYTES
        for number, name in enumerate(filter(None, (batch.output_file_id, batch.error_file_id))):
            target = folder.path / f"{number}.results.jsonl"
            with (
                self._refusals(),
                client.files.with_streaming_response.content(name) as response,
                target.open("wb") as file,
            ):
                for part in response.iter_bytes():
                    file.write(part)
                    if file.tell() > most:
                        raise BatchRefusedError(
                            f"the results of batch {_said(batch.id, client.api_key)} exceed "
                            f"{most / 1e6:,.0f} MB for {prompts:,} prompts, and were not "
                            f"read; delete {folder.path} to send and pay for these prompts again"
                        )
            yield target

    def tidy(self, batch: Batch) -> None:
        """Deletes the batch's files on the server, because prompts contain customer data."""
        for name in (batch.input_file_id, batch.output_file_id, batch.error_file_id):
            if not name:
                continue
            try:
                self._client.files.delete(name)
            except openai.APIError as error:
                said = _said(error, self._client.api_key)
                logger.warning("the file %s was not deleted from the server: %s", name, said)

    def _create(self, folder: BatchFolder, file_id: str) -> Batch:
        """Creates a batch; after a lost response, an existing batch is searched before the
        retry."""
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
        """Converts errors of the client; the original error is dropped, because it may quote the
        key."""
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
                f"{where} has no Batch API, or no longer has this batch (HTTP 404); omit "
                "--batch, or use --batch vllm for a model on this machine"
            )
        if isinstance(error, openai.APIStatusError) and error.status_code in REDIRECTS:
            target = shown_url(error.response.headers.get("location", ""))
            return BatchRefusedError(
                f"{where} redirects to {one_line(target, REASON_CHARACTERS)}, which does not "
                "receive prompts; set that URL if it is correct"
            )
        return BatchRefusedError(
            f"{where} failed to process a batch ({type(error).__name__}: "
            f"{_said(error, self._client.api_key)}). Answers so far are kept; run again to "
            "continue with the same batches"
        )


def ended_batches(
    api: BatchApi,
    folders: list[BatchFolder],
    config: BatchConfig,
    on_progress: Callable[[int], None],
) -> Iterator[tuple[BatchFolder, Batch]]:
    """Submits a bounded number of files at a time; yields each when its batch has ended.

    ``on_progress`` gets the number of answered prompts of active batches.

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
        looks = {batch_id: api.look(batch_id) for batch_id in waiting}
        counts = [batch.request_counts for batch in looks.values() if batch.request_counts]
        on_progress(sum(each.completed for each in counts))
        ended = {name: batch for name, batch in looks.items() if batch.status in _ENDED}
        for name, batch in ended.items():
            folder = waiting.pop(name)
            errors = (batch.errors.data or []) if batch.errors else []
            if waiting and any(error.code == _QUEUE_FULL for error in errors):
                folder.note(folder.record().model_copy(update={"batch_id": None}))
                queue.append(folder)
                room = len(waiting)
            else:
                yield folder, batch
        if not ended:
            _wait(config.poll_seconds)


def require_useful(batch: Batch, folder: BatchFolder, key: str) -> None:
    """Raises `BatchRefusedError` for a failed or cancelled batch; ``key`` is masked."""
    if batch.status not in ("failed", "cancelled"):
        return
    folder.drop()  # Missing prompts are resent by the next run.
    name = _said(batch.id, key)
    if batch.status == "cancelled":
        raise BatchRefusedError(
            f"the batch {name} was cancelled; its answers so far are kept. Run again to "
            "send the other prompts"
        )
    errors = (batch.errors.data or []) if batch.errors else []
    said = "; ".join(_said(f"{it.code}: {it.message} (line {it.line})", key) for it in errors[:3])
    raise BatchRefusedError(
        f"the batch {name} failed before it ran ({said or 'no reason given'}); nothing "
        "was charged. Fix the cause and run again, or omit --batch"
    )


def _said(error: Exception | str, key: str) -> str:
    """Returns the message of an error with the key masked."""
    is_vague = isinstance(error, openai.APIConnectionError)  # "Connection error."
    words = str(error.__cause__ or error) if is_vague else str(error)
    return one_line(masked(words, key), REASON_CHARACTERS)


def _wait(seconds: float) -> None:
    """Sleeps in small steps, to react to interrupts."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        raise_if_stopped()
        time.sleep(min(left, 0.2))
