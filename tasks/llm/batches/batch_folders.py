"""Folders of batches: the state to resume a batch after a kill.

Each batch has a folder under ``ledger/<role>/batches`` until its answers are in the ledger.
"""

import fcntl
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from artifacts import columns as col
from artifacts.files.durable import write_atomically
from artifacts.files.ownership import locked
from artifacts.ledger.answers import Answer, Role, time_ordered_name
from artifacts.ledger.ledger import Ledger
from artifacts.strict import Strict
from artifacts.user_error import UserError
from tasks.llm.batches.batch_files import BatchHeader, RetryLater, keys_in, results_in
from tasks.llm.client.checks.answer_checks import marked
from tasks.llm.client.checks.vector_checks import VectorWidth
from tasks.llm.client.jobs import Failure
from tasks.llm.shards.shard import AnswerLimits

REQUESTS = "requests.jsonl"
JOURNAL_ANSWERS = 2_000

NOBODY = "nobody"
"""In place of a URL, for runs without batches."""

_RECORD = "batch.json"


class WaitingInBatchError(UserError, RuntimeError):
    """Prompts are in a batch whose answers this run would not collect."""


class BatchRecord(Strict):
    """State of one batch; fields are None until their step is done."""

    model: str
    base_url: str | None
    input_file_id: str | None = None
    batch_id: str | None = None


@dataclass
class Collected:
    """Results of a batch. ``again``: prompts to resend, with ``reason`` by key."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    failures: list[Failure] = field(default_factory=list)
    again: list[RetryLater] = field(default_factory=list)


class BatchFolder:
    """A batch on disk, under ``ledger/<role>/batches``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def requests(self) -> Path:
        return self.path / REQUESTS

    def record(self) -> BatchRecord:
        return BatchRecord.model_validate_json((self.path / _RECORD).read_bytes())

    def note(self, record: BatchRecord) -> BatchRecord:
        """Stores the result of a step durably; returns it."""
        write_atomically(self.path / _RECORD, record.model_dump_json().encode())
        return record

    def keys(self) -> list[str]:
        return keys_in(self.requests)

    @property
    def counts(self) -> bool:
        """Whether the folder is complete and not dropped."""
        return (self.path / _RECORD).exists()

    def drop(self) -> None:
        """Deletes the folder; a kill in between leaves files that are ignored."""
        (self.path / _RECORD).unlink()
        shutil.rmtree(self.path)


def batch_folders(ledger: Ledger) -> list[BatchFolder]:
    """Returns the uncollected batches, oldest first."""
    return [BatchFolder(path.parent) for path in sorted(ledger.folder.glob(f"batches/*/{_RECORD}"))]


def new_folder(ledger: Ledger, lines: Iterable[bytes], record: BatchRecord) -> BatchFolder:
    """Writes requests to a new folder, which is valid once its record exists."""
    folder = BatchFolder(ledger.folder / "batches" / time_ordered_name())
    folder.path.mkdir(parents=True)
    with folder.requests.open("wb") as file:
        file.writelines(lines)
    folder.note(record)
    return folder


@contextmanager
def left_by_others(
    ledger: Ledger, prompts: pl.DataFrame, base_url: str | None
) -> Iterator[list[BatchFolder]]:
    """Yields batches of killed runs with some of these prompts at the same URL.

    A run with a claim on a prompt may collect its batch; runs with claims on different prompts of a
    batch collect it one after the other.
    """
    with ExitStack() as locks:
        taken = []
        for folder, *_ in _asking(ledger, prompts, lambda record: record.base_url == base_url):
            locks.enter_context(locked(folder.path.with_suffix(".lock"), fcntl.LOCK_EX))
            if folder.counts:
                taken.append(folder)
        yield taken


def refuse_to_pay_twice(
    label: str, ledger: Ledger, prompts: pl.DataFrame, collected: str | None = NOBODY
) -> None:
    """Raises `WaitingInBatchError` for prompts in a batch that this run would not collect.

    ``collected`` is the URL whose batches it collects; None is OpenAI's.
    """

    def is_left(record: BatchRecord) -> bool:
        # After the upload of its file, a batch may exist whose id was lost by a kill.
        return record.input_file_id is not None and record.base_url != collected

    found = list(_asking(ledger, prompts, is_left))
    if not found:
        return
    url = found[0][1].base_url
    variable = f"LLM4CDSR_{'CHAT' if ledger.role is Role.CHAT else 'EMBED'}_BASE_URL"
    at = f"with {variable}={url}" if url else f"without {variable}"
    raise WaitingInBatchError(
        f"{label}: {sum(count for *_, count in found):,} of these prompts wait in batches that "
        f"were sent to {url or 'OpenAI'}, and would be paid for twice. Run with --batch api {at} "
        "to collect their answers; or, to send and pay for them again, delete "
        + ", ".join(str(folder.path) for folder, *_ in found)
    )


def _asking(
    ledger: Ledger, prompts: pl.DataFrame, is_wanted: Callable[[BatchRecord], bool]
) -> Iterator[tuple[BatchFolder, BatchRecord, int]]:
    """Yields the batches with some of these prompts, and their number."""
    keys = set(prompts[col.KEY])
    for folder in batch_folders(ledger):
        try:
            record = folder.record()
            count = len(keys.intersection(folder.keys())) if is_wanted(record) else 0
        except FileNotFoundError:
            continue  # Collected by another run in the meantime.
        if count:
            yield folder, record, count


def collect(
    ledger: Ledger,
    folder: BatchFolder,
    asked: BatchHeader,
    outputs: Iterable[Path],
    limits: AnswerLimits,
) -> Collected:
    """Stores the results of files in the ledger; missing keys are to be resent.

    Answers already in the ledger, from an interrupted collection, are not stored again. An answer
    with too many words is stored and flagged, without a second request.
    """
    keys = pl.Series(col.KEY, folder.keys(), pl.String)
    open_keys = set(ledger.missing(keys))
    found = Collected()
    expected = VectorWidth(limits.width)
    results = (
        marked(result, limits.max_words) if isinstance(result, Answer) else result
        for path in outputs
        for result in results_in(path, asked.role, expected)
        if result.key in open_keys
    )
    for result in _journaled(ledger, asked.model, results):
        open_keys.discard(result.key)
        match result:
            case Answer():
                found.prompt_tokens += result.prompt_tokens
                found.completion_tokens += result.completion_tokens
            case Failure():
                found.failures.append(result)
            case RetryLater():
                found.again.append(result)
    found.again += [RetryLater(key, "no result in the batch") for key in sorted(open_keys)]
    return found


def _journaled(
    ledger: Ledger, model: str, results: Iterator[Answer | Failure | RetryLater]
) -> Iterator[Answer | Failure | RetryLater]:
    """Yields results; at its end, answers are on disk, in parts of bounded size."""
    result = next(results, None)
    while result is not None:
        with ledger.journal(model) as journal:
            for _ in range(JOURNAL_ANSWERS):
                if isinstance(result, Answer):
                    journal.append(result)
                yield result
                if (result := next(results, None)) is None:
                    break
