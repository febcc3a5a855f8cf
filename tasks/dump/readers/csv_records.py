"""Finds the records of separated values in bytes, so that no quotation mark can hide a line.

A parser that trusts every opening mark reads all lines up to the next mark as one value. Here a
line whose quoting is plain is passed on as it is; any other line is looked at by itself:

1. A field in quotation marks that closes before a separator or a line end is quoted, and may hold
   line ends. Where it spans lines of which nearly each is a record by itself (`RecordShape`: as
   many fields as the header, and those of the form that their columns have), its mark is text.
2. Otherwise the mark closes at the last place on its line that leaves as many fields as the header
   has, or it is text.
3. A line that has another number of fields whichever way it is read is broken: it alone.

Records that are read by rules 1 and 2 are written anew with plain quoting, so the parser behind
cannot read them in another way.
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
"""Bytes after which a quotation mark that nothing closes counts as text: 4 MiB."""

JUDGED_LINES = 200
"""Lines of a quoted field that are looked at to tell records from text."""

RECORD_SHARE = 0.9
"""Of a quoted field's lines: so many that are records by themselves make its mark text."""


@dataclass
class RecordBlock:
    """Some records of a file, in its order.

    Attributes:
        content: the records that a parser can take, one after the other, plainly quoted.
        places: int64 (records of ``content``,): the place of each among all of the file.
        broken: place and reason of each record that has another number of fields.
        repaired: places of records with a quotation mark that is read as text.
    """

    content: bytes
    places: NDArray[np.int64]
    broken: list[tuple[int, str]]
    repaired: list[int]


@dataclass
class RecordCounts:
    """How the lines of a file became records, kept up to date while blocks are taken."""

    records: int = 0
    blank: int = 0
    continued: int = 0
    """Lines of a record beyond its first."""


@dataclass
class Records:
    """The records of a stream of lines that comes after its header."""

    file: Utf8File
    path: str
    shape: RecordShape
    counts: RecordCounts = field(default_factory=RecordCounts)

    def blocks(self) -> Iterator[RecordBlock]:
        """Gives all records; raises `UnreadableDumpError` where a line has no end."""
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
        """Returns the records of whole lines, and how many bytes they took."""
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
        """Counts lines that are a record each, or blank, and returns the records' places."""
        blank = int(np.count_nonzero(lines.is_blank[begin:end]))
        first = self.counts.records
        self.counts.blank += blank
        self.counts.records += end - begin - blank
        return np.arange(first, self.counts.records)

    def _lines_to_judge(self, lines: "_Lines") -> NDArray[np.intp]:
        """The lines that are no plain record: of another number of fields, or with a quotation mark
        that neither plainly opens nor plainly closes."""
        content = lines.content
        separators = np.flatnonzero(content == self.shape.quoting.separator[0])
        line_of = np.searchsorted(lines.ends, separators)
        marks = np.flatnonzero(content == QUOTE)
        is_odd = np.zeros(len(lines), bool)
        if len(marks):
            line_of_mark = np.searchsorted(lines.ends, marks)
            first = np.searchsorted(line_of_mark, np.arange(len(lines)))
            before = np.searchsorted(marks, separators) - first[line_of]
            line_of = line_of[before % 2 == 0]  # Between an opening and a closing mark is text.
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
        """Marks lines with a quotation mark that a parser could take in two ways.

        ``line_of`` (marks,) is each mark's line, ``first`` (lines,) each line's first mark.
        """
        content, separator = lines.content, self.shape.quoting.separator[0]
        is_opening = (np.arange(len(marks)) - first[line_of]) % 2 == 0
        before = content[marks - 1]  # Of the first byte that is the last one, and does not count.
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
        """Returns the fields of the record that begins at a line, the line after it, and whether a
        mark is text in it; None where more bytes are needed to tell."""
        start = lines.begin(line)
        quoting, width = self.shape.quoting, self.shape.width
        strict = quoting.strictly(data, start, len(data))
        last = lines.at(strict.end)
        if strict.fields is not None and len(strict.fields) == width:
            if last == line or not self._are_records(data, lines, line, last + 1):
                return strict.fields, last + 1, False
        elif not strict.is_closed and not is_last and len(data) - start < LONGEST_QUOTED:
            # The mark may close in what was not read yet, unless records come after it.
            seen = min(len(lines), line + JUDGED_LINES)
            if seen - line < JUDGED_LINES or not self._are_records(data, lines, line, seen):
                return None
        content = data[start : lines.stop(line)]
        if (fields := quoting.fields_of(content, width)) is not None:
            return fields, line + 1, True
        fields = strict.fields if last == line else None
        return fields or content.split(quoting.separator), line + 1, False

    def _are_records(self, data: bytes, lines: "_Lines", begin: int, end: int) -> bool:
        """Whether nearly each of some lines is a record by itself."""
        end = min(end, begin + JUDGED_LINES)
        alike = sum(
            self.shape.is_record(data[lines.begin(line) : lines.stop(line)])
            for line in range(begin, end)
        )
        return alike >= RECORD_SHARE * (end - begin)


@dataclass(frozen=True)
class _Lines:
    """Where the lines of a block begin and end.

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
        """Where a line begins; that of the line behind the last is the end of the block."""
        return int(self.starts[line]) if line < len(self.starts) else len(self.content)

    def stop(self, line: int) -> int:
        return int(self.stops[line])

    def at(self, place: int) -> int:
        """The line that a byte, or the end of the block, belongs to."""
        return min(int(np.searchsorted(self.ends, place, side="left")), len(self.starts) - 1)
