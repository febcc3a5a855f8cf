"""Quoting of a CSV record; the rules are those of `csv_records`."""

from dataclasses import dataclass

BACKSLASH = ord("\\")


@dataclass(frozen=True)
class Quoting:
    """Separator, and escape of quotation marks in quoted fields."""

    separator: bytes
    backslash: bool = False

    def fields_of(self, line: bytes, width: int) -> list[bytes] | None:
        """Returns the fields of one line (rule 2), None if there are not ``width``."""
        for fields in (self._leniently(line), line.split(self.separator)):
            if len(fields) == width:
                return fields
        return None

    def strictly(self, data: bytes, start: int, stop: int) -> "StrictRecord":
        """Reads the record at ``start`` by rule 1."""
        fields: list[bytes] = []
        place = start
        while True:
            if data[place : place + 1] == b'"':
                closing = self._closing(data, place + 1, stop)
                if closing < 0:
                    return StrictRecord(None, stop, is_closed=False)
                after = data[closing + 1 : min(closing + 2, stop)]
                if after not in (b"", self.separator, b"\n", b"\r"):
                    return StrictRecord(None, closing, is_closed=True)
                fields.append(self._unescaped(data[place + 1 : closing]))
                place = closing + 1
            else:
                end = self._end_of_plain(data, place, stop)
                fields.append(data[place:end])
                place = end
            if data[place : min(place + 1, stop)] != self.separator:
                return StrictRecord(fields, place, is_closed=True)
            place += 1

    def written(self, fields: list[bytes]) -> bytes:
        """Returns a record with unambiguous quoting."""
        quoted = (b'"' + value.replace(b'"', b'""') + b'"' for value in fields)
        return self.separator.join(quoted) + b"\n"

    def _closing(self, data: bytes, place: int, stop: int) -> int:
        """Returns the first unescaped mark before ``stop``, -1 without one."""
        while (mark := data.find(b'"', place, stop)) >= 0:
            if self.backslash and _is_escaped(data, mark, place):
                place = mark + 1
            elif data[mark + 1 : min(mark + 2, stop)] == b'"':
                place = mark + 2
            else:
                return mark
        return -1

    def _end_of_plain(self, data: bytes, place: int, stop: int) -> int:
        ends = (data.find(mark, place, stop) for mark in (self.separator, b"\n", b"\r"))
        return min((end for end in ends if end >= 0), default=stop)

    def _unescaped(self, value: bytes) -> bytes:
        if self.backslash and b'\\"' in value:
            value = value.replace(b'\\"', b'"')
        return value.replace(b'""', b'"')

    def _leniently(self, line: bytes) -> list[bytes]:
        fields = []
        place, stop = 0, len(line)
        while True:
            closing = self._lenient_closing(line, place) if line[place : place + 1] == b'"' else -1
            if closing < 0:
                end = line.find(self.separator, place)
                end = stop if end < 0 else end
                fields.append(line[place:end])
            else:
                fields.append(self._unescaped(line[place + 1 : closing]))
                end = closing + 1
            if end >= stop:
                return fields
            place = end + 1

    def _lenient_closing(self, line: bytes, opening: int) -> int:
        """Returns the next mark before a separator or the end, skipping others."""
        place = opening + 1
        while (mark := self._closing(line, place, len(line))) >= 0:
            if line[mark + 1 : mark + 2] in (b"", self.separator):
                return mark
            place = mark + 1
        return -1


@dataclass(frozen=True)
class StrictRecord:
    """Result of strict reading: fields and their end; None for broken quoting.

    ``is_closed``: False if the bytes end inside a quoted field.
    """

    fields: list[bytes] | None
    end: int
    is_closed: bool


def _is_escaped(data: bytes, mark: int, start: int) -> bool:
    """Returns whether an odd number of backslashes precedes a mark."""
    place = mark
    while place > start and data[place - 1] == BACKSLASH:
        place -= 1
    return (mark - place) % 2 == 1
