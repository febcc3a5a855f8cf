"""Set of a stage's keys on disk, for stages with millions of prompts.

In memory they would take 80 bytes each, and twice that during comparisons.
"""

import sqlite3

import polars as pl

from artifacts import columns as col

CACHE_KIB = 2048
"""Cache size of the database; the operating system caches the rest of its file."""


class KeysMet:
    """A set of keys; the operating system deletes its file when the process ends."""

    def __init__(self) -> None:
        # Without a name the database is a private temporary file. It is used by one thread at a
        # time.
        self._database = sqlite3.connect("", check_same_thread=False)
        self._database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE met (key BLOB PRIMARY KEY, piece INT) WITHOUT ROWID")
        self._count = self._pieces = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Adds keys; returns the first row of each new key (``col.KEY``, hexadecimal)."""
        keys = [bytes.fromhex(key) for key in rows[col.KEY]]
        self._pieces += 1
        before = self._database.total_changes
        # Sorted, which halves the time.
        mine = [(key, self._pieces) for key in sorted(keys)]
        self._database.executemany("INSERT OR IGNORE INTO met VALUES (?, ?)", mine)
        self._database.commit()
        added = self._database.total_changes - before
        self._count += added
        if added == len(keys):
            return rows
        left = {key for key in keys if self._piece_of(key) == self._pieces}
        is_new = []
        for key in keys:
            is_new.append(key in left)
            left.discard(key)
        return rows.filter(pl.Series(is_new, dtype=pl.Boolean))

    def series(self) -> pl.Series:
        """Returns all keys, ascending."""
        found = self._database.execute("SELECT lower(hex(key)) FROM met ORDER BY key")
        return pl.Series(col.KEY, [key for (key,) in found], pl.String)

    def _piece_of(self, key: bytes) -> int:
        """Returns the first piece with the key."""
        return self._database.execute("SELECT piece FROM met WHERE key = ?", (key,)).fetchone()[0]
