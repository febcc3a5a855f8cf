"""Files of prompts on their way through a batch: what a run needs to go on after a kill.

Each has a folder under ``ledger/<role>/batches`` until its answers are in the ledger.
"""

import fcntl
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from artifacts import columns as col
from artifacts.answers import Answer
from artifacts.ledger import Ledger, aged_name, locked
from artifacts.store import write_atomically
from artifacts.strict import Strict
from tasks.asking.answer_checks import VectorWidth, marked
from tasks.asking.batch_files import Again, Asked, keys_in, results_in
from tasks.asking.endpoint import Failure
from tasks.asking.shard import Limits

REQUESTS = "requests.jsonl"
JOURNAL_ANSWERS = 2_000

_RECORD = "batch.json"


class BatchRecord(Strict):
    """What is known of one file of prompts; None until that step is done."""

    model: str
    base_url: str | None
    input_file_id: str | None = None
    batch_id: str | None = None


@dataclass
class Collected:
    """What came back of a batch. ``again``: to be sent once more; ``reason`` by key."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    failures: list[Failure] = field(default_factory=list)
    again: list[Again] = field(default_factory=list)


class BatchFolder:
    """One file of prompts on disk, under ``ledger/<role>/batches``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def requests(self) -> Path:
        return self.path / REQUESTS

    def record(self) -> BatchRecord:
        return BatchRecord.model_validate_json((self.path / _RECORD).read_bytes())

    def note(self, record: BatchRecord) -> BatchRecord:
        """Makes a step's result last; returns it."""
        write_atomically(self.path / _RECORD, record.model_dump_json().encode())
        return record

    def drop(self) -> None:
        shutil.rmtree(self.path)


def batch_folders(ledger: Ledger) -> list[BatchFolder]:
    """Returns the files of prompts that are not collected yet, oldest first."""
    return [BatchFolder(path.parent) for path in sorted(ledger.folder.glob(f"batches/*/{_RECORD}"))]


def new_folder(ledger: Ledger, lines: Iterable[bytes], record: BatchRecord) -> BatchFolder:
    """Writes requests to a folder of their own; it counts when its record is there."""
    folder = BatchFolder(ledger.folder / "batches" / aged_name())
    folder.path.mkdir(parents=True)
    with folder.requests.open("wb") as file:
        file.writelines(lines)
    folder.note(record)
    return folder


@contextmanager
def left_by_others(
    ledger: Ledger, prompts: pl.DataFrame, base_url: str | None
) -> Iterator[list[BatchFolder]]:
    """Gives the files, left by killed runs, that ask one of these prompts at the same URL.

    Whoever has claimed a prompt may take up its batch; two runs that claim different prompts of
    one batch take it up one after the other.
    """
    wanted = set(prompts[col.KEY])
    with ExitStack() as locks:
        taken = []
        for folder in batch_folders(ledger):
            if folder.record().base_url != base_url or wanted.isdisjoint(keys_in(folder.requests)):
                continue
            locks.enter_context(locked(folder.path.with_suffix(".lock"), fcntl.LOCK_EX))
            if folder.requests.exists():
                taken.append(folder)
        yield taken


def collect(
    ledger: Ledger, folder: BatchFolder, asked: Asked, outputs: Iterable[Path], limits: Limits
) -> Collected:
    """Keeps what files of results hold; a key that they lack is to be asked again.

    What the ledger has already, from a collection that was killed, is not kept twice. An answer of
    more words than asked for is kept and marked; a batch is no place to ask again.
    """
    keys = pl.Series(col.KEY, keys_in(folder.requests), pl.String)
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
            case Again():
                found.again.append(result)
    found.again += [Again(key, "the batch came back without it") for key in sorted(open_keys)]
    return found


def _journaled(
    ledger: Ledger, model: str, results: Iterator[Answer | Failure | Again]
) -> Iterator[Answer | Failure | Again]:
    """Passes results on; answers are on disk, in parts of a bounded size, when it ends."""
    result = next(results, None)
    while result is not None:
        with ledger.journal(model) as journal:
            for _ in range(JOURNAL_ANSWERS):
                if isinstance(result, Answer):
                    journal.append(result)
                yield result
                if (result := next(results, None)) is None:
                    break
