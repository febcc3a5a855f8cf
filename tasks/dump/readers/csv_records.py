"""Detection of CSV records that is robust against unclosed quotation marks.

Common parsers read all lines from an unclosed mark to the next mark as one value. Here lines with
unambiguous quoting are passed on; others are inspected:

1. A field that closes before a separator or a line end is quoted, and may contain line ends. If it
spans lines that are nearly all records by themselves (`RecordShape`: the header's number of fields,
in the columns' formats), its mark is text.
2. Otherwise the mark closes at the last position on its line that yields the header's number of
fields, or it is text.
3. A line with a wrong number of fields under all readings is broken.

Records of rules 1 and 2 are rewritten with unambiguous quoting for the parser.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tasks.dump.readers.csv_quoting import BACKSLASH
from tasks.dump.readers.csv_shape import RecordShape
from tasks.dump.sources.files import LONGEST_LINE, UnreadableDumpError, Utf8File, blocks_of_lines

QUOTE, LF, CR = ord('"'), ord("\n"), ord("\r")

LONGEST_QUOTED = 1 << 22
"""Bytes after which an unclosed quotation mark is treated as text: 4 MiB."""

JUDGED_LINES = 200
"""Lines of a quoted field that are inspected."""

RECORD_SHARE = 0.9
"""Share of a quoted field's lines that are records, above which its mark is text."""


@dataclass
class RecordBlock:
    """Some records of a file, in its order.

    Attributes: content: valid records, unambiguously quoted. places: int64 (records of
        ``content``,): the place of each among all of the file. broken: place and reason of records
        with a wrong number of fields. repaired: places of records with a quotation mark read as
        text.
    """

    content: bytes
    places: NDArray[np.int64]
    broken: list[tuple[int, str]]
    repaired: list[int]


@dataclass
class RecordCounts:
    """Counts of lines and records, updated while reading blocks."""

    records: int = 0
    blank: int = 0
    continued: int = 0
    """Lines of a record beyond its first."""


@dataclass
class Records:
    """Records of a stream of lines after the header."""

    file: Utf8File
    path: str
    shape: RecordShape
    counts: RecordCounts = field(default_factory=RecordCounts)

    def blocks(self) -> Iterator[RecordBlock]:
        """Yields all records; raises `UnreadableDumpError` for a line without end."""
        rest = b""
        for block in blocks_of_lines(self.file, self.path):
            data = rest + block
            found, taken = self._scan(data, is_last=False)
            rest = data[taken:]
            if len(rest) > LONGEST_LINE:
                raise UnreadableDumpError(
                    f"{self.path} cannot be read: a record has over {LONGEST_LINE:,} bytes"
                )
            yield found
        if rest:
            yield self._scan(rest, is_last=True)[0]

    def _scan(self, data: bytes, *, is_last: bool) -> tuple[RecordBlock, int]:
        """Returns the records of complete lines and their bytes."""
        lines = _Lines.of(data)
        to_judge = self._lines_to_judge(lines)
        pieces: list[bytes] = []
        places: list[NDArray[np.int64]] = []
        broken: list[tuple[int, str]] = []
        repaired: list[int] = []
        cursor, taken = 0, len(data)
        for line in [*to_judge.tolist(), len(lines)]:
            if line < cursor:
                continue
            pieces.append(data[lines.begin(cursor) : lines.begin(line)])
            places.append(self._plain(lines, cursor, line))
            if line == len(lines):
                break
            start = lines.begin(line)
            judged = self._judged(data, lines, line, is_last=is_last)
            if judged is None:
                taken = start
                break
            fields, cursor, is_repaired = judged
            place = self.counts.records
            self.counts.records += 1
            self.counts.continued += cursor - line - 1
            if len(fields) != self.shape.width:
                broken.append((place, f"{len(fields)} fields instead of {self.shape.width}"))
            else:
                if is_repaired:
                    repaired.append(place)
                pieces.append(self.shape.quoting.written(fields))
                places.append(np.array([place], np.int64))
        return RecordBlock(b"".join(pieces), np.concatenate(places), broken, repaired), taken

    def _plain(self, lines: "_Lines", begin: int, end: int) -> NDArray[np.int64]:
        """Counts plain and blank lines; returns the places of records."""
        blank = int(np.count_nonzero(lines.is_blank[begin:end]))
        first = self.counts.records
        self.counts.blank += blank
        self.counts.records += end - begin - blank
        return np.arange(first, self.counts.records)

    def _lines_to_judge(self, lines: "_Lines") -> NDArray[np.intp]:
        """Returns the lines to inspect: with a wrong number of fields or ambiguous quoting."""
        content = lines.content
        separators = np.flatnonzero(content == self.shape.quoting.separator[0])
        line_of = np.searchsorted(lines.ends, separators)
        marks = np.flatnonzero(content == QUOTE)
        is_odd = np.zeros(len(lines), bool)
        if len(marks):
            line_of_mark = np.searchsorted(lines.ends, marks)
            first = np.searchsorted(line_of_mark, np.arange(len(lines)))
            before = np.searchsorted(marks, separators) - first[line_of]
            line_of = line_of[before % 2 == 0]  # Text between an opening and a closing mark.
            self._mark_odd_quoting(lines, marks, line_of_mark, first, is_odd)
        fields = np.bincount(line_of, minlength=len(lines)) + 1
        return np.flatnonzero(is_odd | ((fields != self.shape.width) & ~lines.is_blank))

    def _mark_odd_quoting(
        self,
        lines: "_Lines",
        marks: NDArray[np.intp],
        line_of: NDArray[np.intp],
        first: NDArray[np.intp],
        is_odd: NDArray[np.bool_],
    ) -> None:
        """Returns the mask of lines with an ambiguous quotation mark.

        ``line_of`` (marks,) is each mark's line, ``first`` (lines,) each line's first mark.
        """
        content, separator = lines.content, self.shape.quoting.separator[0]
        is_opening = (np.arange(len(marks)) - first[line_of]) % 2 == 0
        before = content[marks - 1]  # Wraps around at the first byte, which is irrelevant.
        after = np.append(content, LF)[marks + 1]
        opens = (marks == lines.starts[line_of]) | (before == separator) | (before == QUOTE)
        closes = (marks + 1 == lines.stops[line_of]) | (after == separator) | (after == QUOTE)
        is_wrong = np.where(is_opening, ~opens, ~closes)
        if self.shape.quoting.backslash:
            is_wrong |= before == BACKSLASH
        is_odd |= np.bincount(line_of, minlength=len(lines)) % 2 == 1
        is_odd[line_of[is_wrong]] = True

    def _judged(
        self, data: bytes, lines: "_Lines", line: int, *, is_last: bool
    ) -> tuple[list[bytes], int, bool] | None:
        """Returns the fields of the record at a line, the next line, and whether a mark is text;
        None if more bytes are needed."""
        start = lines.begin(line)
        quoting, width = self.shape.quoting, self.shape.width
        strict = quoting.strictly(data, start, len(data))
        last = lines.at(strict.end)
        if strict.fields is not None and len(strict.fields) == width:
            if last == line or not self._are_records(data, lines, line, last + 1):
                return strict.fields, last + 1, False
        elif not strict.is_closed and not is_last and len(data) - start < LONGEST_QUOTED:
            # The mark may close in later bytes, unless records follow it.
            seen = min(len(lines), line + JUDGED_LINES)
            if seen - line < JUDGED_LINES or not self._are_records(data, lines, line, seen):
                return None
        content = data[start : lines.stop(line)]
        if (fields := quoting.fields_of(content, width)) is not None:
            return fields, line + 1, True
        fields = strict.fields if last == line else None
        return fields or content.split(quoting.separator), line + 1, False

    def _are_records(self, data: bytes, lines: "_Lines", begin: int, end: int) -> bool:
        """Returns whether nearly all lines are records by themselves."""
        end = min(end, begin + JUDGED_LINES)
        alike = sum(
            self.shape.is_record(data[lines.begin(line) : lines.stop(line)])
            for line in range(begin, end)
        )
        return alike >= RECORD_SHARE * (end - begin)


@dataclass(frozen=True)
class _Lines:
    """Lines of a block.

    Attributes:
        content: uint8, the block. starts: of each line. stops: behind its last byte.
        ends: of the last byte of its line end; of a last line without one, behind the block.
    """

    content: NDArray[np.uint8]
    starts: NDArray[np.intp]
    stops: NDArray[np.intp]
    ends: NDArray[np.intp]
    is_blank: NDArray[np.bool_]

    @classmethod
    def of(cls, data: bytes) -> "_Lines":
        content = np.frombuffer(data, np.uint8)
        is_end = content == LF
        if b"\r" in data:
            lone = content == CR
            lone[:-1] &= ~is_end[1:]
            is_end |= lone
        ends = np.flatnonzero(is_end)
        if len(ends) == 0 or ends[-1] != len(content) - 1:
            ends = np.append(ends, len(content))
        starts = np.append(0, ends[:-1] + 1)
        stops = ends.copy()
        if b"\r" in data:
            before = np.maximum(ends - 1, 0)
            is_pair = (ends > starts) & (ends < len(content)) & (content[before] == CR)
            is_pair &= np.append(content, CR)[ends] == LF
            stops -= is_pair
        return cls(content, starts, stops, ends, starts == stops)

    def __len__(self) -> int:
        return len(self.starts)

    def begin(self, line: int) -> int:
        """Returns the start of a line; for the line after the last, the end of the block."""
        return int(self.starts[line]) if line < len(self.starts) else len(self.content)

    def stop(self, line: int) -> int:
        return int(self.stops[line])

    def at(self, place: int) -> int:
        """Returns the line of a byte, or of the end of the block."""
        return min(int(np.searchsorted(self.ends, place, side="left")), len(self.starts) - 1)
