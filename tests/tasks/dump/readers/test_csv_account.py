"""Whatever a table holds and however it is written: rows in = kept + dropped + set aside."""

import csv
import io
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.dump.items.item_catalogue import TooFewDomainsError
from tasks.dump.sources import files as dump_files
from tasks.dump.sources.files import UnreadableDumpError
from tests.tasks.dump.dump_files import Ingested

HEADER = ["user_id", "item_id", "domain", "timestamp", "comment"]
GOOD = [[f"u{n % 3}", f"i{n % 4}", "ab"[n % 2], str(1_600_000_000 + n), "fine"] for n in range(12)]
"""So that there is something to keep, whatever else is there."""

TEXT = st.text(st.sampled_from("ab é漢\"'\\,;\t|\n\r\x00\ufeff"), max_size=9)
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["u0", "u1", "", " u2 ", "NULL", "ü", '"u"']),
        st.sampled_from(["i0", "i1", "nan", "0"]),
        st.sampled_from(["a", "b", ""]),
        st.sampled_from(["1600000000", "", "never", "0", "99999999999999"]),
        TEXT,
    ),
    max_size=25,
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252")


def written(rows: list[list[str]], separator: str, end: str, quoting: int) -> str:
    """The rows as Python's own writer gives them, but for what it cannot quote itself: it leaves a
    line end of another kind than its own bare."""
    text = io.StringIO(newline="")
    writer = csv.writer(
        text,
        delimiter=separator,
        lineterminator=end,
        quoting=quoting,  # type: ignore[arg-type]
        escapechar="\\" if quoting == csv.QUOTE_NONE else None,
    )
    writer.writerows(rows)
    return text.getvalue()


def ingested(folder: Path, content: bytes) -> Ingested:
    (folder / "e.csv").write_bytes(content)
    made = Ingested(folder, interactions=str(folder / "e.csv"))
    made.require_balance()
    return made


@settings(max_examples=120, deadline=None)
@given(
    rows=ROWS,
    separator=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from(
        [csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC, csv.QUOTE_MINIMAL, csv.QUOTE_NONE]
    ),
    encoding=st.sampled_from(ENCODINGS),
    block=st.sampled_from([64, 1 << 24]),
)
@example([("u0", "i0", "a", "1600000000", 'a\n"b,\r\n')], ",", "\r", csv.QUOTE_ALL, "utf-16", 64)
def test_every_row_that_was_written_is_accounted_for(
    rows: list[tuple[str, ...]],
    separator: str,
    end: str,
    quoting: int,
    encoding: str,
    block: int,
) -> None:
    table = [HEADER, *GOOD, *map(list, rows)]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(dump_files, "BLOCK_BYTES", block)
        content = written(table, separator, end, quoting).encode(encoding, "replace")
        made = ingested(Path(folder), content)
        if quoting in (csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC):
            assert made.counts["rows_in"] == len(table) - 1
        assert made.counts["events"] >= len(GOOD)


@settings(max_examples=120, deadline=None)
@given(
    rows=ROWS,
    separator=st.sampled_from(",;\t|"),
    damage=st.lists(
        st.tuples(
            st.floats(0, 1),
            st.integers(0, 3),
            st.sampled_from(
                [b'"', b'""', b"\n", b"\r", b"\x00", b"\xff", b"\\", b"", b",", b'"\n"']
            ),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_a_damaged_file_is_accounted_for_or_refused_in_words(
    rows: list[tuple[str, ...]], separator: str, damage: list[tuple[float, int, bytes]]
) -> None:
    content = bytearray(written([HEADER, *GOOD, *map(list, rows)], separator, "\n", 0).encode())
    for place, length, what in damage:
        at = round(place * len(content))
        content[at : at + length] = what
    with TemporaryDirectory() as folder, suppress(UnreadableDumpError, TooFewDomainsError):
        ingested(Path(folder), bytes(content))
