"""The ledger of LLM answers (DESIGN, decision 2).

``root/ledger/<role>/`` holds

- ``part-*.parquet``: sealed answers; names sort by age;
- ``journal-*.jsonl``: answers of a shard that runs or was killed (`artifacts.ledger.journal`);
- ``claim-*.parquet``: prompts that a run is sending now (`artifacts.ledger.claims`);
- ``questions-*.parquet``: sent prompts, so that keys can be checked and answers exported.

Concurrent runs on one store never seal each other's journals or send each other's prompts.
"""

import errno
import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from artifacts import columns as col
from artifacts.files.ownership import locked
from artifacts.files.private_files import keep_private
from artifacts.ledger.answers import ANSWER_SCHEMA, Role, scan_parts, time_ordered_name
from artifacts.ledger.journal import Journal, seal_if_abandoned
from artifacts.ledger.shared import SharedLedger
from artifacts.store import Store

FLOAT_BYTES = 4

READ_BYTES = 64 << 20
"""Size of the parts that are searched at a time; a larger part is searched alone."""

_OF_WRITES = (errno.EFBIG, errno.ENOSPC, errno.EROFS, errno.EDQUOT)

SWAP_LOCK = ".parts.lock"
"""Lock of parts: shared for readers, exclusive for replacement by compaction."""

logger = logging.getLogger("llm4cdsr")


class LedgerDamagedError(RuntimeError):
    """A file of the ledger cannot be read."""

    def __init__(self, folder: Path, error: Exception) -> None:
        cause = str(error).partition("\n")[0][:200]
        super().__init__(
            f"a file in {folder} cannot be read ({cause}); "
            "`llm4cdsr ledger verify` names it, and with --repair quarantines it"
        )


class Ledger:
    """The ledger of one role under a store's local root."""

    def __init__(self, root: Path, role: Role) -> None:
        self.role = role
        keep_private(root)
        self.folder = root / "ledger" / role
        self.folder.mkdir(parents=True, exist_ok=True)
        self.shared: SharedLedger | None = None
        """Connection to the remote store's ledger; set by `open_ledger`."""

    @property
    def place(self) -> str:
        """Location of the answers, for messages."""
        return f"{self.folder} and {self.shared.url}" if self.shared else str(self.folder)

    def journal(self, model: str | None = None) -> Journal:
        """Returns a new journal of a model's answers; sealed at the end of its block."""
        return Journal(self.folder / f"journal-{time_ordered_name()}.jsonl", model)

    def recover(self) -> int:
        """Seals the journals of dead processes; returns their number of answers.

        Raises:
            JournalDamagedError: a line is not an answer.
        """
        return sum(seal_if_abandoned(path) for path in sorted(self.folder.glob("journal-*.jsonl")))

    def refresh(self) -> None:
        """Downloads answers of other machines; no effect for a local ledger."""
        if self.shared is not None and (fetched := self.shared.pull()):
            logger.info("%s: %d parts of other machines' answers fetched", self.role, fetched)

    def missing(self, keys: pl.Series) -> pl.Series:
        """Returns the distinct keys without an answer, in order of first occurrence.

        Memory is proportional to the given keys, not to the ledger: an anti-join would build a hash
        table of all its keys.
        """
        asked = pl.DataFrame({col.KEY: keys.unique(maintain_order=True)})
        with self.reading() as parts:
            held = parts.select(col.KEY).join(asked.lazy(), on=col.KEY, how="semi")
            found = held.collect(engine="streaming")
        return asked.join(found, on=col.KEY, how="anti", maintain_order="left")[col.KEY]

    def unanswered(self, prompts: pl.DataFrame) -> pl.DataFrame:
        """Returns the rows whose ``key`` has no answer, in their order."""
        missing = self.missing(prompts[col.KEY]).to_frame()
        return prompts.join(missing, on=col.KEY, how="semi", maintain_order="left")

    def answers(self, keys: pl.Series) -> pl.DataFrame:
        """Returns the answers of these keys, one row per key, columns `ANSWER_SCHEMA`.

        If a key has several answers, the one in the first part by name is returned, so that all
        readers see the same one. Memory is proportional to the answers and to `READ_BYTES`, not to
        the ledger.
        """
        asked = pl.LazyFrame({col.KEY: keys.unique()})
        found = [pl.DataFrame(schema=ANSWER_SCHEMA)]
        with self.reading():
            for paths in _read_together(self.parts()):
                held = scan_parts(paths).select(list(ANSWER_SCHEMA))
                ours = held.join(asked, on=col.KEY, how="semi", maintain_order="left")
                found.append(ours.collect())
        return pl.concat(found).unique(col.KEY, keep="first", maintain_order=True)

    def width(self, keys: pl.Series) -> int | None:
        """Returns the width of the vectors of these keys, None without answers.

        Reads vectors of one part at most, to limit memory.
        """
        asked = pl.LazyFrame({col.KEY: keys})
        with self.reading():
            for path in self.parts():
                part = scan_parts([path])
                held = part.select(col.KEY).join(asked, on=col.KEY, how="semi").collect()
                if held.is_empty():
                    continue
                vector = part.join(held.lazy(), on=col.KEY, how="semi").select("vector").collect()
                if (lengths := vector["vector"].bin.size().drop_nulls()).len():
                    return lengths[0] // FLOAT_BYTES
        return None

    def parts(self) -> list[Path]:
        """Returns the sealed parts, oldest first."""
        return sorted(self.folder.glob("part-*.parquet"))

    @contextmanager
    def reading(self) -> Iterator[pl.LazyFrame]:
        """Yields all sealed answers as a lazy frame, columns `PART_SCHEMA`, oldest part first.

        Collect inside the block, during which no part is replaced.

        Raises:
            LedgerDamagedError: a part cannot be read.
        """
        with locked(self.folder / SWAP_LOCK, fcntl.LOCK_SH):
            try:
                yield scan_parts(self.parts())
            except pl.exceptions.PolarsError as error:
                if any(f"(os error {number})" in str(error) for number in _OF_WRITES):
                    raise  # Of a file that the block writes.
                raise LedgerDamagedError(self.folder, error) from error


def open_ledger(store: Store, role: Role) -> Ledger:
    """Returns the ledger of a store, shared with other machines if the store is remote."""
    ledger = Ledger(store.local, role)
    if store.remote is not None:
        ledger.shared = SharedLedger(store.remote, role, ledger.folder)
    return ledger


def _read_together(parts: list[Path]) -> Iterator[list[Path]]:
    """Yields the parts in their order, in groups of at most `READ_BYTES`."""
    group: list[Path] = []
    held = 0
    for path in parts:
        size = path.stat().st_size
        if group and held + size > READ_BYTES:
            yield group
            group, held = [], 0
        group.append(path)
        held += size
    if group:
        yield group
