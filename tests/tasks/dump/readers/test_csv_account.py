"""Whatever a table holds and however it is written: rows in = kept + dropped + set aside.

``LLM4CDSR_TEST_EXAMPLES=5000 pytest --timeout=0`` on this file tries
more.
"""

import csv
import gzip
import io
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.dump.items.item_reader import TooFewDomainsError
from tasks.dump.sources import files as dump_files
from tasks.dump.sources.files import UnreadableDumpError
from tests.tasks.dump.dump_files import Ingested

EXAMPLES = int(os.environ.get("LLM4CDSR_TEST_EXAMPLES", "120"))
HEADER = ["user_id", "item_id", "domain", "timestamp", "comment"]
TWICE = [*HEADER, "comment"]
"""A column that nobody reads may stand there twice."""

WIDE = [*HEADER[:-1], "コメント・備考・感想"]
"""In UTF-8 longer than in UTF-16."""

NOTHING = frozenset({"", "NULL", "nan", "None", "\\N"})
Row = tuple[str, ...]
GOOD: list[Row] = [
    (f"u{n % 3}", f"i{n % 4}", "ab"[n % 2], str(1_600_000_000 + n), "fine") for n in range(12)
]
"""So that there is something to keep, whatever else is there."""

TEXT = st.text(st.sampled_from("ab é漢\"'\\,;\t|\n\r\x00\ufeff"), max_size=9)
ROW = st.tuples(
    st.sampled_from(["u0", "u1", "", " u2 ", "NULL", "ü", '"u"']),
    st.sampled_from(["i0", "i1", "nan", "0"]),
    st.sampled_from(["a", "b", "", "None"]),
    st.sampled_from(["1600000000", "1600000099", "", "never", "0", "99999999999999"]),
    TEXT,
)
RAGGED = st.lists(st.sampled_from(["u0", "i0", "", "x y"]), min_size=2, max_size=8).map(tuple)
ROWS = st.lists(st.one_of(ROW, ROW, ROW, RAGGED), max_size=25)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")


def zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


PACKED = {"": bytes, ".gz": gzip.compress, ".zst": zstd}
DAMAGE = (
    *(b'"', b'""', b'"\n"', b'"' + b"x\n" * 9, b"\n", b"\r", b",", b"\\", b""),
    *(b"\x00", b"\x1a", b"\x85", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf"),
)
QUOTING = (csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC, csv.QUOTE_MINIMAL, csv.QUOTE_NONE)


class File(NamedTuple):
    """One file of a source as a program writes it."""

    rows: Sequence[Row]
    separator: str = ","
    end: str = "\n"
    quoting: int = csv.QUOTE_ALL
    encoding: str = "utf-8"
    packed: str = ""
    header: Sequence[str] = HEADER

    @property
    def table(self) -> list[Row]:
        width = len(self.header)
        rows = (*GOOD, *self.rows)
        return [(*row, "") if len(row) == len(HEADER) < width else row for row in rows]

    def content(self) -> bytes:
        """The rows as Python's own writer gives them, but for what it cannot quote itself: it
        leaves a line end of another kind than its own bare."""
        text = io.StringIO(newline="")
        writer = csv.writer(
            text,
            delimiter=self.separator,
            lineterminator=self.end,
            quoting=self.quoting,  # type: ignore[arg-type]
            escapechar="\\" if self.quoting == csv.QUOTE_NONE else None,
        )
        writer.writerows([self.header, *self.table])
        return text.getvalue().encode(self.encoding, "replace")

    def events(self) -> set[Row]:
        """The events that are written here, if it is in no doubt where a record ends."""
        found = set()
        for row in self.table:
            user, item, domain, moment = (*row, "", "", "", "")[:4]
            is_whole = len(row) == len(self.header) and moment.startswith("16")
            is_text = self.encoding != "cp1252" or user.isascii()
            if is_whole and is_text and not NOTHING & {user.strip(), item, domain}:
                found.add((user.strip(), item, domain, moment))
        return found


FILE = st.builds(
    File,
    rows=ROWS,
    separator=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from(QUOTING),
    encoding=st.sampled_from(ENCODINGS),
    packed=st.sampled_from(list(PACKED)),
    header=st.sampled_from([HEADER, TWICE, WIDE]),
)


def ingested(folder: Path, files: Sequence[tuple[str, bytes]]) -> Ingested:
    """Ingests files of the given endings, and checks the accounts of each."""
    paths = []
    for number, (packed, content) in enumerate(files):
        path = folder / f"{number}.csv{packed}"
        path.write_bytes(PACKED[packed](content))
        paths.append(str(path))
    made = Ingested(folder, interactions=tuple(paths))
    made.require_balance()
    return made


@settings(max_examples=EXAMPLES, deadline=None)
@given(files=st.lists(FILE, min_size=1, max_size=3), block=st.sampled_from([64, 1 << 24]))
@example([File([("u0", "i0", "a", "1600000000", 'a\n"b,\r\n')], end="\r", encoding="utf-16")], 64)
def test_every_row_that_was_written_is_accounted_for(files: list[File], block: int) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(dump_files, "BLOCK_BYTES", block)
        made = ingested(Path(folder), [(file.packed, file.content()) for file in files])
        assert made.counts["events"] >= len(GOOD)
        rows = dict(made.accounts.group_by("file").agg(pl.col("rows").first()).rows())
        for number, file in enumerate(files):
            if file.quoting in (csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC):
                assert rows[f"{number}.csv{file.packed}"] == len(file.table)
        if all(file.quoting == csv.QUOTE_ALL for file in files):
            assert made.counts["events"] == len(set().union(*(file.events() for file in files)))


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    files=st.lists(FILE, min_size=1, max_size=2),
    damage=st.lists(
        st.tuples(
            st.floats(0, 1),
            st.integers(0, 3),
            st.sampled_from(DAMAGE),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_a_damaged_file_is_accounted_for_or_refused_in_words(
    files: list[File], damage: list[tuple[float, int, bytes]]
) -> None:
    broken, *others = ((file.packed, bytearray(file.content())) for file in files)
    content = broken[1]
    for place, length, what in damage:
        at = round(place * len(content))
        content[at : at + length] = what
    written = [(packed, bytes(each)) for packed, each in (broken, *others)]
    with TemporaryDirectory() as folder, suppress(UnreadableDumpError, TooFewDomainsError):
        ingested(Path(folder), written)
