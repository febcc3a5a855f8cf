"""The ledger of LLM answers: what was paid for once is never asked again (DESIGN, decision 2).

``root/ledger/<role>/part-*.parquet`` hold sealed answers. A running shard appends to a journal
of its own, each answer as it arrives, and seals it into a part when it ends: a killed process
loses none, a power failure at most the last second's. A process that dies leaves its journal
behind; the next one that opens the ledger seals it. A journal in use is locked (``flock``), so
two runs on one store never seal each other's.
"""

import fcntl
import os
import time
import uuid
from pathlib import Path
from types import TracebackType

import polars as pl
from pydantic import ValidationError

from artifacts import columns as col
from artifacts.answers import ANSWER_SCHEMA, Answer, Role, journal_line, parse_journal

FLUSH_EVERY_ANSWERS = 32
FLUSH_EVERY_SECONDS = 1.0


class JournalDamaged(RuntimeError):
    """A whole line of a journal is not an answer, so the disk or a hand has changed it."""


class Journal:
    """An append-only file of answers, locked by its writer. Not shared between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Locked before it bears the name that `Ledger.recover` looks for: otherwise another run
        # could seal and unlink it in between, and every later answer would go nowhere.
        unseen = path.with_name(f".{path.name}.new")
        # Unbuffered: an answer that waits in this process's memory is paid again after a kill.
        self._file = unseen.open("ab", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        unseen.rename(path)
        self._unflushed = 0
        self._flushed_at = time.monotonic()

    def append(self, answer: Answer) -> None:
        """Writes one answer; on disk at the latest a second or 32 answers later."""
        line = memoryview(journal_line(answer))
        while line:  # A disk that is nearly full may take a part; the rest then says why.
            line = line[self._file.write(line) :]
        self._unflushed += 1
        old = time.monotonic() - self._flushed_at > FLUSH_EVERY_SECONDS
        if old or self._unflushed >= FLUSH_EVERY_ANSWERS:
            self.flush()

    def flush(self) -> None:
        """Waits until everything appended is on disk."""
        os.fsync(self._file.fileno())
        self._unflushed = 0
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
        _seal(self.path)
        self._file.close()


class Ledger:
    """The answers of one role under a store's local root."""

    def __init__(self, root: Path, role: Role) -> None:
        self.folder = root / "ledger" / role
        self.folder.mkdir(parents=True, exist_ok=True)

    def journal(self) -> Journal:
        """Returns a new journal; its answers are sealed into a part when its block ends."""
        return Journal(self.folder / f"journal-{uuid.uuid4().hex}.jsonl")

    def recover(self) -> int:
        """Seals the journals that dead processes left; returns how many answers they held.

        Raises:
            JournalDamaged: one of them holds something else than answers.
        """
        return sum(_seal_if_abandoned(path) for path in self.folder.glob("journal-*.jsonl"))

    def missing(self, keys: pl.Series) -> pl.Series:
        """Returns the distinct keys that have no answer yet, in their first order."""
        asked = pl.LazyFrame({col.KEY: keys.unique(maintain_order=True)})
        held = self._parts().select(col.KEY)
        return asked.join(held, on=col.KEY, how="anti", maintain_order="left").collect()[col.KEY]

    def answers(self, keys: pl.Series) -> pl.DataFrame:
        """Returns the held answers to these keys, one row a key, columns `ANSWER_SCHEMA`.

        Should two runs have asked the same at once, the answer of the part whose name sorts
        first counts for everyone, so that every reader sees the same one.
        """
        asked = pl.LazyFrame({col.KEY: keys.unique()})
        found = self._parts().join(asked, on=col.KEY, how="semi", maintain_order="left").collect()
        return found.unique(col.KEY, keep="first", maintain_order=True)

    def _parts(self) -> pl.LazyFrame:
        paths = sorted(self.folder.glob("part-*.parquet"))
        return pl.scan_parquet(paths, glob=False) if paths else pl.LazyFrame(schema=ANSWER_SCHEMA)


def _seal_if_abandoned(path: Path) -> int:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return 0  # Its owner has sealed it since the listing.
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0  # Its owner is alive.
        return _seal(path) if path.exists() else 0


def _seal(path: Path) -> int:
    """Turns a journal into a part of the same name: sealing twice gives one part, not two."""
    try:
        answers = parse_journal(path.read_bytes())
    except ValidationError as error:
        raise JournalDamaged(
            f"{path} has a line that is no answer ({error.errors()[0]['msg']}); delete that line "
            "and run again, the other answers are kept"
        ) from error
    if answers.height:
        part = path.with_name(path.name.replace("journal-", "part-")).with_suffix(".parquet")
        partial = part.with_suffix(".tmp")
        answers.write_parquet(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(part)
    path.unlink()
    return answers.height
