"""Common format of a file's records, to distinguish records from lines of text."""

import re
from collections import Counter
from dataclasses import dataclass

from tasks.dump.readers.csv_quoting import Quoting

SAMPLED_LINES = 1_000

FEW = 8
"""Maximum formats of a column that is used for the distinction."""

USUAL_SHARE = 0.98
TIMES_SEEN = 4
"""Minimum average occurrences of a usual format."""

LINE_END = re.compile(rb"\r\n|\r|\n")

_RUNS = ((re.compile(rb"[0-9]+"), b"9"), (re.compile(rb"[A-Za-z]+"), b"a"))


@dataclass(frozen=True)
class RecordShape:
    """Number of fields, and usual formats of columns with few formats.

    A format is a value with runs of digits and letters reduced to one character each: ids and times
    have few, free text has many and is ignored. ``usual`` is None without records.
    """

    quoting: Quoting
    width: int
    usual: dict[int, frozenset[bytes]] | None

    @classmethod
    def of(cls, records: list[list[bytes]], quoting: Quoting, width: int) -> "RecordShape":
        """Returns the shape of single-line records; see `plain_records`."""
        if not records:
            return cls(quoting, width, None)
        usual = {}
        for column in range(width):
            most = Counter(_form(fields[column]) for fields in records).most_common(FEW)
            is_usual = sum(count for _, count in most) >= USUAL_SHARE * len(records)
            if is_usual and (len(most) == 1 or len(records) >= TIMES_SEEN * len(most)):
                usual[column] = frozenset(form for form, _ in most)
        return cls(quoting, width, usual)

    def is_record(self, line: bytes) -> bool:
        """Returns whether a line is a record; one field with a mark may differ."""
        if self.usual is None:
            return False
        fields = self.quoting.fields_of(line, self.width)
        if fields is None or sum(b'"' in value for value in fields) > 1:
            return False
        return all(
            b'"' in fields[column] or _form(fields[column]) in forms
            for column, forms in self.usual.items()
        )


def plain_records(start: bytes, quoting: Quoting, width: int) -> list[list[bytes]]:
    """Returns the fields of the first single-line records with the header's number of fields. Lines
    inside quoted fields are skipped."""
    records: list[list[bytes]] = []
    place = 0
    while place < len(start) and len(records) < SAMPLED_LINES:
        line = LINE_END.search(start, place)
        found = quoting.strictly(start, place, len(start))
        if found.fields is None or line is None:
            place = line.end() if line else len(start)
            continue
        if found.end <= line.start() and len(found.fields) == width:
            records.append(found.fields)
        after = LINE_END.search(start, found.end)
        place = after.end() if after else len(start)
    return records


def _form(value: bytes) -> bytes:
    for runs, sign in _RUNS:
        value = runs.sub(sign, value)
    return value.strip()
