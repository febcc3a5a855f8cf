"""Header of a CSV file: column names and separator."""

import re
from dataclasses import dataclass
from itertools import islice

from tasks.dump.readers.csv_quoting import Quoting
from tasks.dump.readers.csv_shape import LINE_END, RecordShape, plain_records
from tasks.dump.sources.files import TO_UTF8, UnreadableDumpError, Utf8File, readable

SEPARATORS = ",;\t|\x01"
"""Candidates of separators; the most frequent one in the header is used. The last is Hive's."""

ESCAPES_TRIED = 500
"""Lines with a backslash before a quotation mark that are inspected for its meaning."""

_START_BYTES = 1 << 20

_ESCAPING_LINE = re.compile(rb'(?<![^\r\n])[^\r\n]*?\\"')

_EXCEL_HINT = re.compile(rb"sep=(.)", re.IGNORECASE)
"""Excel's line that sets the separator."""


@dataclass(frozen=True)
class Header:
    """Header of a file. Attributes: names: of the columns, blanks around them removed. shape:
    format of the records, with separator and escape. length: bytes before the first record. lines:
    lines of the header itself, with the comments above it. comments: among them. blank: empty lines
    before it."""

    names: tuple[str, ...]
    shape: RecordShape
    length: int
    lines: int
    comments: int
    blank: int


def read_header(path: str, separator: str | None = None) -> Header:
    """Returns the header of a file; raises `UnreadableDumpError` without one.

    Args:
        path: of the file.
        separator: the expected one; detected if it is None or not in the first line.
    """
    with readable(path), Utf8File(path) as file:
        start = b""
        while len(start) < _START_BYTES and (block := file.read(_START_BYTES)):
            start += block
    place = comments = blank = 0
    while place < len(start):
        if not _line_at(start, place).strip():
            blank += 1
        elif _is_comment(start, place):
            comments += 1
        else:
            break
        place = _next_line(start, place)
    line, lines = _line_at(start, place), comments
    if hint := _EXCEL_HINT.fullmatch(line.strip(b" \r\n")):
        separator = hint[1].decode("latin-1")
        place, lines = _next_line(start, place), lines + 1
        line = _line_at(start, place)
    if separator is None or separator.encode("latin-1") not in line:
        separator = max(SEPARATORS, key=lambda mark: line.count(mark.encode()))
    quoting = Quoting(separator.encode("latin-1"))
    found = quoting.strictly(start, place, len(start))
    end = found.end if found.fields else place + len(line)
    after = _next_line(start, end)
    names = tuple(_name(field, path) for field in found.fields or line.split(quoting.separator))
    if all(re.fullmatch("'.*'", name) for name in names):
        raise UnreadableDumpError(
            f"{path} cannot be read: its fields are in single quotation marks, as {names[0]}; "
            "export it with double ones, or with none"
        )
    if not any(names):
        raise UnreadableDumpError(
            f"{path} cannot be read: it has no header; its first line names none"
        )
    lines += len(LINE_END.findall(start, place, end)) + 1
    names = _with_unnamed(names, start[after:], quoting)
    if _is_backslash(start[after:], quoting, len(names)):
        quoting = Quoting(quoting.separator, backslash=True)
    records = plain_records(start[after:], quoting, len(names))
    shape = RecordShape.of(records, quoting, len(names))
    return Header(names, shape, after, lines, comments, blank)


def _with_unnamed(names: tuple[str, ...], start: bytes, quoting: Quoting) -> tuple[str, ...]:
    """Returns the names, with an additional one for an unnamed column of all records: empty after a
    trailing separator, or R's row numbers."""
    if plain_records(start, quoting, len(names)):
        return names
    records = plain_records(start, quoting, len(names) + 1)
    if records and not any(record[-1].strip() for record in records):
        return (*names, "")
    numbers = [str(number).encode() for number in range(1, len(records) + 1)]
    if records and [record[0] for record in records] == numbers:
        return ("", *names)
    return names


def _is_comment(start: bytes, place: int) -> bool:
    """Returns whether a line above the header is a comment: it begins with ``#`` and has another
    number of fields than the first line that does not."""
    line = _line_at(start, place)
    if not line.startswith(b"#"):
        return False
    while place < len(start):
        place = _next_line(start, place)
        if (other := _line_at(start, place)).strip() and not other.startswith(b"#"):
            return _most_separators(line) != _most_separators(other)
    return False


def _most_separators(line: bytes) -> int:
    return max(line.count(mark.encode()) for mark in SEPARATORS)


def _line_at(start: bytes, place: int) -> bytes:
    end = LINE_END.search(start, place)
    return start[place : end.start() if end else len(start)]


def _next_line(start: bytes, place: int) -> int:
    end = LINE_END.search(start, place)
    return end.end() if end else len(start)


def _name(field: bytes, path: str) -> str:
    try:
        return field.decode().strip().strip("\ufeff")
    except UnicodeDecodeError:
        raise UnreadableDumpError(
            f"{path} cannot be read: its header {field[:80]!r} is not UTF-8; {TO_UTF8}"
        ) from None


def _is_backslash(start: bytes, quoting: Quoting, width: int) -> bool:
    """Returns whether more lines match the header's number of fields with a backslash as escape
    (Spark, MySQL) than without."""
    escaped = Quoting(quoting.separator, backslash=True)
    places = (match.start() for match in _ESCAPING_LINE.finditer(start))
    fits = {True: 0, False: 0}
    for place in islice(places, ESCAPES_TRIED):
        for way in (quoting, escaped):
            found = way.strictly(start, place, len(start))
            fits[way.backslash] += found.fields is not None and len(found.fields) == width
    return fits[True] > fits[False]
