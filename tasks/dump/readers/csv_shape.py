"""What the records of one file have in common, so that a line can be told from a line of text."""

import re
from collections import Counter
from dataclasses import dataclass

from tasks.dump.readers.csv_quoting import Quoting

SAMPLED_LINES = 1_000

FEW = 8
"""So many forms of a column tell a record; more tell nothing."""

USUAL_SHARE = 0.98
TIMES_SEEN = 4
"""On average, before a form counts as usual."""

LINE_END = re.compile(rb"\r\n|\r|\n")

_RUNS = ((re.compile(rb"[0-9]+"), b"9"), (re.compile(rb"[A-Za-z]+"), b"a"))


@dataclass(frozen=True)
class RecordShape:
    """How many fields records have, and the usual forms of those columns that have few.

    A form is a value with its runs of digits and letters as one sign each: an id and a time have
    one or a few. A column of free text has many, and is not looked at. ``usual`` is None where no
    record could tell.
    """

    quoting: Quoting
    width: int
    usual: dict[int, frozenset[bytes]] | None

    @classmethod
    def of(cls, records: list[list[bytes]], quoting: Quoting, width: int) -> "RecordShape":
        """Learns from records of one line each; see `plain_records`."""
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
        """Whether a line by itself is like the others; one field with a mark may be like none."""
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
    """Returns the fields of the first records that have one line and as many fields as the header.

    Lines inside a quoted field are passed over, whatever they look like.
    """
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
