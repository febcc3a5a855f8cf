"""A journal of answers: each is written as it arrives, and sealed into a part at the end.

A killed process loses nothing that it has appended, a power failure at most the last second's
answers. Who writes a journal holds its lock (``flock``), which the system lets go of when the
process dies, however it dies: a journal that can be locked is abandoned, and may be sealed by
anyone.
"""

import fcntl
import os
import shutil
import time
from pathlib import Path
from types import TracebackType

import polars as pl
import pyarrow.parquet as pq
from pydantic import ValidationError

from artifacts.files.durable import sync
from artifacts.files.ownership import if_abandoned
from artifacts.ledger.answers import VECTOR, Answer, journal_line, parse_journal, part_of

FLUSH_EVERY_SECONDS = 1.0

OUTBOX = "outbox"
"""Folder of links to parts that are still to go to a remote store, where the ledger has one."""


class JournalDamagedError(RuntimeError):
    """A whole line of a journal is not an answer, so the disk or a hand has changed it."""


class Journal:
    """An append-only file of one model's answers, locked by its writer. One thread appends; another
    may flush, so that the first need not wait for the disk."""

    def __init__(self, path: Path, model: str | None = None) -> None:
        self.path = path
        self._model = model
        self._written: list[tuple[Answer, int]] = []
        # Locked before it bears the name that `Ledger.recover` looks for: otherwise another run
        # could seal and unlink it in between, and every later answer would go nowhere.
        unseen = path.with_name(f".{path.name}.new")
        # Unbuffered: an answer that waits in this process's memory is paid again after a kill.
        self._file = unseen.open("a+b", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        unseen.rename(path)
        self._unflushed = 0
        self._flushed_at = time.monotonic()

    def append(self, *answers: Answer) -> None:
        """Writes answers at one go. Waits for the disk where that was a second ago or more."""
        now = time.time_ns() // 1_000_000
        lines = memoryview(b"".join(journal_line(answer, self._model, now) for answer in answers))
        while lines:  # A disk that is nearly full may take a part; the rest then says why.
            lines = lines[self._file.write(lines) :]
        self._written += [(answer, now) for answer in answers]
        self._unflushed += len(answers)
        if time.monotonic() - self._flushed_at > FLUSH_EVERY_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Waits until everything appended is on disk."""
        if self._unflushed:
            self._unflushed = 0
            os.fsync(self._file.fileno())
        self._flushed_at = time.monotonic()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()
        # What was written is still in memory; to read it back would cost more than to write it.
        _replace_by_part(self.path, part_of(self._written, self._model))
        self._file.close()


def seal_if_abandoned(path: Path) -> int:
    """Seals a journal whose writer is dead; returns how many answers it held.

    Raises:
        JournalDamagedError: a whole line of it is no answer.
    """
    with if_abandoned(path) as is_mine:
        return seal(path) if is_mine else 0


def seal(path: Path) -> int:
    """Turns a journal into a part of the same name: sealing twice gives one part, not two."""
    try:
        answers = parse_journal(path.read_bytes())
    except ValidationError as error:
        raise JournalDamagedError(
            f"{path} has a line that is no answer ({error.errors()[0]['msg']}); run `llm4cdsr "
            "ledger verify --repair`, which sets that line aside and keeps the other answers"
        ) from error
    _replace_by_part(path, answers)
    return answers.height


def write_part(answers: pl.DataFrame, path: Path) -> None:
    """Writes answers with a checksum a page, and waits until they are on disk."""
    # Vectors are noise to a compressor: it would find a tenth, for most of the time this takes.
    others = [name for name in answers.columns if name != VECTOR]
    compression = {**dict.fromkeys(others, "zstd"), VECTOR: "none"}
    # pyarrow has no annotations, and a default of one kind does not say that columns may be named.
    pq.write_table(
        answers.to_arrow(),
        path,
        compression=compression,  # pyright: ignore[reportArgumentType]
        use_dictionary=others,  # pyright: ignore[reportArgumentType]
        write_statistics=others,  # pyright: ignore[reportArgumentType]
        write_page_checksum=True,
    )
    sync(path)


def _replace_by_part(path: Path, answers: pl.DataFrame) -> None:
    if answers.height:
        part = path.with_name(path.name.replace("journal-", "part-")).with_suffix(".parquet")
        partial = part.with_suffix(".tmp")
        write_part(answers, partial)
        _link_to_outbox(partial, part.name)
        partial.replace(part)
        sync(part.parent)  # The part must bear its name before the journal's is gone.
    path.unlink()


def link(source: Path, target: Path) -> None:
    """Gives a file another name, or a copy where the file system has no links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _link_to_outbox(sealed: Path, name: str) -> None:
    """Before the part has its name: a process that dies in between seals, and links, once more."""
    outbox = sealed.parent / OUTBOX
    if outbox.is_dir():
        (outbox / name).unlink(missing_ok=True)
        link(sealed, outbox / name)
