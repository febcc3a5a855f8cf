"""Journals: append-only files of answers, sealed into Parquet parts.

A killed process loses no appended answer, a power failure at most the last second's. The writer
holds the file's lock (``flock``), which the operating system releases when the process dies: a
journal with a free lock is abandoned and may be sealed by any process.
"""

import fcntl
import os
import shutil
import time
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
from pydantic import ValidationError

from artifacts.files.durable import sync
from artifacts.files.ownership import if_abandoned
from artifacts.ledger.answers import VECTOR, Answer, journal_line, parse_journal, part_of

FLUSH_EVERY_SECONDS = 1.0

OUTBOX = "outbox"
"""Folder of links to parts that are not yet uploaded to a remote store."""


class JournalDamagedError(RuntimeError):
    """A complete line of a journal is not an answer; the file was damaged."""


class Journal:
    """An append-only file of one model's answers, locked by its writer. One thread appends; another
    may flush, so that appending does not wait for the disk."""

    def __init__(self, path: Path, model: str | None = None) -> None:
        self.path = path
        self._model = model
        self._written: list[tuple[Answer, int]] = []
        # Locked before it is renamed to the name that `Ledger.recover` searches: otherwise another
        # run could seal and unlink it, and later answers would be lost.
        unseen = path.with_name(f".{path.name}.new")
        # Unbuffered: answers in a buffer would be lost on a kill, and paid for again.
        self._file = unseen.open("a+b", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        unseen.rename(path)
        self._unflushed = 0
        self._flushed_at = time.monotonic()

    def append(self, *answers: Answer) -> None:
        """Appends answers in one write. Syncs if the last sync was at least a second ago."""
        now = time.time_ns() // 1_000_000
        lines = memoryview(b"".join(journal_line(answer, self._model, now) for answer in answers))
        while lines:  # A nearly full disk may take a part of it.
            lines = lines[self._file.write(lines) :]
        self._written += [(answer, now) for answer in answers]
        self._unflushed += len(answers)
        if time.monotonic() - self._flushed_at > FLUSH_EVERY_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Syncs all appended answers to disk."""
        if self._unflushed:
            self._unflushed = 0
            os.fsync(self._file.fileno())
        self._flushed_at = time.monotonic()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self.flush()
        # The answers are still in memory; parsing them again would cost more than writing.
        _replace_by_part(self.path, part_of(self._written, self._model))
        self._file.close()


def seal_if_abandoned(path: Path) -> int:
    """Seals a journal of a dead writer; returns its number of answers.

    Raises:
        JournalDamagedError: a complete line is not an answer.
    """
    with if_abandoned(path) as is_mine:
        return seal(path) if is_mine else 0


def seal(path: Path) -> int:
    """Converts a journal to a part of the same name, so sealing twice makes one part."""
    try:
        answers = parse_journal(path.read_bytes())
    except ValidationError as error:
        raise JournalDamagedError(
            f"{path} has a line that is not an answer ({error.errors()[0]['msg']}); run `llm4cdsr "
            "ledger verify --repair`, which quarantines that line and keeps the other answers"
        ) from error
    _replace_by_part(path, answers)
    return answers.height


def write_part(answers: pl.DataFrame, path: Path) -> None:
    """Writes answers with page checksums and syncs them to disk."""
    # Vectors are hardly compressible: compression would save a tenth and take most of the time.
    others = [name for name in answers.columns if name != VECTOR]
    compression = {**dict.fromkeys(others, "zstd"), VECTOR: "none"}
    # pyarrow has no annotations; the default's type does not show that columns may be named.
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
        sync(part.parent)  # The part must be renamed before the journal is deleted.
    path.unlink()


def link(source: Path, target: Path) -> None:
    """Creates a hard link, or a copy if the file system has no links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _link_to_outbox(sealed: Path, name: str) -> None:
    """Links a part to the outbox before it is renamed: after a crash in between, sealing is
    repeated."""
    outbox = sealed.parent / OUTBOX
    if outbox.is_dir():
        (outbox / name).unlink(missing_ok=True)
        link(sealed, outbox / name)
