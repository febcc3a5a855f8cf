"""The ledger of LLM answers: what was paid for once is never asked again (DESIGN, decision 2).

``root/ledger/<role>/`` holds

=======================  ==========================================================================
``part-*.parquet``       sealed answers; names sort by age
``journal-*.jsonl``      answers of a shard that runs, or was killed: see `artifacts.ledger.journal`
``claim-*.parquet``      questions that a living run is asking now: see `artifacts.ledger.claims`
``questions-*.parquet``  what was asked, so that keys can be checked and answers exported
=======================  ==========================================================================

Two runs on one store never seal each other's journals nor ask each other's questions.
"""

import fcntl
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from artifacts import columns as col
from artifacts.files.ownership import locked
from artifacts.files.private_files import keep_private
from artifacts.ledger.answers import ANSWER_SCHEMA, PART_SCHEMA, Role
from artifacts.ledger.journal import Journal, seal_if_abandoned

if TYPE_CHECKING:
    from artifacts.ledger.shared import SharedLedger

FLOAT_BYTES = 4

SWAP_LOCK = ".parts.lock"
"""Shared by who reads parts; exclusive for the moment in which compaction replaces some."""

logger = logging.getLogger("llm4cdsr")


class Ledger:
    """The answers of one role under a store's local root."""

    def __init__(self, root: Path, role: Role) -> None:
        self.role = role
        keep_private(root)
        self.folder = root / "ledger" / role
        self.folder.mkdir(parents=True, exist_ok=True)
        self.shared: SharedLedger | None = None
        """What it shares with other machines; `artifacts.ledger.shared.open_ledger` sets it."""

    @property
    def place(self) -> str:
        """Where the answers lie, as words for a message."""
        return f"{self.folder} and {self.shared.url}" if self.shared else str(self.folder)

    def journal(self, model: str | None = None) -> Journal:
        """Returns a new journal of a model's answers; sealed into a part when its block ends."""
        return Journal(self.folder / f"journal-{aged_name()}.jsonl", model)

    def recover(self) -> int:
        """Seals the journals that dead processes left; returns how many answers they held.

        Raises:
            JournalDamagedError: one of them holds something else than answers.
        """
        return sum(seal_if_abandoned(path) for path in sorted(self.folder.glob("journal-*.jsonl")))

    def refresh(self) -> None:
        """Fetches what other machines have answered; a local ledger has nothing to fetch."""
        if self.shared is not None and (fetched := self.shared.pull()):
            logger.info("%s: %d parts of other machines' answers fetched", self.role, fetched)

    def missing(self, keys: pl.Series) -> pl.Series:
        """Returns the distinct keys that have no answer yet, in their first order.

        Memory follows the keys asked for, not the answers held: an anti-join would put every
        held key into its hash table.
        """
        asked = pl.DataFrame({col.KEY: keys.unique(maintain_order=True)})
        with self.reading() as parts:
            held = parts.select(col.KEY).join(asked.lazy(), on=col.KEY, how="semi")
            found = held.collect(engine="streaming")
        return asked.join(found, on=col.KEY, how="anti", maintain_order="left")[col.KEY]

    def answers(self, keys: pl.Series) -> pl.DataFrame:
        """Returns the held answers to these keys, one row a key, columns `ANSWER_SCHEMA`.

        Should two runs have asked the same at once, the answer of the part whose name sorts
        first counts for everyone, so that every reader sees the same one.
        """
        asked = pl.LazyFrame({col.KEY: keys.unique()})
        with self.reading() as parts:
            held = parts.select(list(ANSWER_SCHEMA))
            found = held.join(asked, on=col.KEY, how="semi", maintain_order="left").collect()
        return found.unique(col.KEY, keep="first", maintain_order=True)

    def width(self, keys: pl.Series) -> int | None:
        """Returns how many numbers the vectors have that answer these keys; None where none does.

        Vectors are read of one part at most: all that are held may not fit into memory.
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
        """Gives all sealed answers, lazily, columns `PART_SCHEMA`, oldest part first.

        Collect inside the block: until it ends, no part is replaced.
        """
        with locked(self.folder / SWAP_LOCK, fcntl.LOCK_SH):
            yield scan_parts(self.parts())


def scan_parts(paths: list[Path]) -> pl.LazyFrame:
    """Returns parts as one lazy table; those written before a column existed lack its values."""
    if not paths:
        return pl.LazyFrame(schema=PART_SCHEMA)
    return pl.scan_parquet(paths, glob=False, schema=PART_SCHEMA, missing_columns="insert")


def aged_name() -> str:
    """Returns a name that no other process makes, and that sorts after every earlier one."""
    return f"{time.time_ns():016x}-{uuid.uuid4().hex[:12]}"
