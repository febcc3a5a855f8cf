"""Commands that convert a file to a form that is read, for messages."""

import re
from collections.abc import Sequence
from pathlib import PurePath

from artifacts import columns as col
from tasks.dump.readers.csv_header import read_header
from tasks.dump.readers.table import LIST
from tasks.dump.sources.files import Utf8File, form_of, readable

TYPED = (".parquet", ".pq", ".jsonl", ".ndjson", ".json", ".feather", ".arrow", ".ipc")
"""Endings of forms whose columns have names in the file."""

_JSON = (".jsonl", ".ndjson", ".json")
_START_BYTES = 1 << 16
_LINES = 10

_VALUE = re.compile(r"\d[\d\s:.,/TZe+-]*|\w*\d{3,}")
"""A number, a time or a numbered id, which names no column."""

_WIDE = re.compile("::+|<SEP>")
"""Separators of several characters, as those of MovieLens, Ciao and the Million Song data set."""

_QUOTED_LINE = re.compile(r"[^,;\t]+([,;\t])[^,;\t]+\1[^,;\t]+.*")
"""A whole header in one name."""


def a_row_an_element(path: str, name: str) -> str:
    """Returns the way to a file with one row per element of a list of objects."""
    field, _, inner = name.partition(LIST)
    rows = f"SELECT * REPLACE (unnest({field}) AS {field})"
    if not form_of(path).endswith((".parquet", ".pq")):
        rows = f"{_as_json(path)} | jq -c '.{field}[] as $x | .{field} = $x' > rows.jsonl"
    return (
        f"{name} lies in a list, so that a row holds several: write one row per element ({rows}), "
        f"where it is the column {field}{inner}"
    )


def way_to_a_header(path: str, names: Sequence[str]) -> str | None:
    """Returns what is wrong with a first line that names no columns, and the command that corrects
    it; None for names of columns."""
    names = [name for name in names if name != col.DOMAIN]  # It may be that of NAME=FILE.
    if form_of(path).endswith(TYPED) or not names:
        return None
    if any(map(_QUOTED_LINE.fullmatch, names)):
        edits = _edited(path, '-e \'s/^"//; s/"$//; s/""/"/g\'')
        return f"each line is in quotation marks as a whole; remove them: {edits}"
    if len(names) == 1 and re.fullmatch(r"\w+:", names[0]):
        blocks = '\'sub(/:$/, "") {id = $0; next} {print id "," $0}\''
        return f"its rows are in blocks below an id: awk {blocks} FILE > NEW.csv"
    separator = read_header(path).shape.quoting.separator.decode("latin-1")
    said, edits = [], []
    if mark := _other_separator(path, names):
        said.append(f"its separator is {mark!r}, and not a comma, ; tab or |")
        edits.append("'s/^ *//; s/  */\\t/g'" if mark == " " else f"'s/{mark}/\\t/g'")
        names, separator = separator.join(names).split(mark if mark.strip() else None), "\t"
    elif len(names) == 1:
        return "its first line must name the columns, separated by a comma, ; tab or |"
    if any(map(_VALUE.fullmatch, names)):
        said.append("its first line holds values: name the columns in a line above it")
        header = separator.join(f"c{place}" for place in range(1, len(names) + 1))
        edits.append("'1i " + header.replace("\t", "\\t").replace("\x01", "\\x01") + "'")
    if not edits:
        return None
    return f"{'; '.join(said)}: {_edited(path, ' '.join(f'-e {edit}' for edit in edits))}"


def _other_separator(path: str, names: Sequence[str]) -> str | None:
    """Returns the separator of a first line that was not separated, None for another first line."""
    if wide := next(filter(None, map(_WIDE.search, names)), None):
        return wide[0]
    parts = {len(line.split()) for line in _start(path).splitlines()[:_LINES]}
    return " " if len(names) == len(parts) == 1 and min(parts) > 1 else None


def numbered(path: str) -> str:
    """Returns the command that adds the numbers of the rows as times."""
    if not form_of(path).endswith(TYPED):
        edit = f"{_read(path, 'FILE')}.with_row_index('{col.TIMESTAMP}', 1)"
        return f"number them: {_written(edit)}"
    if form_of(path).endswith(_JSON):
        return (
            f"number them: {_as_json(path)} | jq -c '.{col.TIMESTAMP} = input_line_number' "
            "> NEW.jsonl"
        )
    return "add a column of their numbers"


def joined(path: str, name: str) -> str:
    """Returns the command that adds the columns of a file of orders to rows of the orders."""
    return _written(f"{_read(path, 'FILE')}.join({_read(path, 'ORDERS')}, '{name}')")


def _read(path: str, name: str) -> str:
    if form_of(path).endswith(TYPED):
        is_json = form_of(path).endswith(_JSON)
        return f"pl.read_{'ndjson' if is_json else 'parquet'}('{name}')"
    separator = read_header(path).shape.quoting.separator.decode("latin-1")
    between = "" if separator == "," else f", separator={separator!r}"
    return f"pl.read_csv('{name}', infer_schema=False{between})"


def _written(rows: str) -> str:
    return f".venv/bin/python -c \"import polars as pl; {rows}.write_csv('NEW.csv')\""


def _as_json(path: str) -> str:
    """Returns the command that prints a file's objects as JSON."""
    if _start(path).lstrip().startswith((b"{'", b"{u'")):
        return (
            'zcat -f FILE | python3 -c "import ast, json, sys; '
            '[print(json.dumps(ast.literal_eval(x))) for x in sys.stdin]"'
        )
    return "zcat -f FILE"


def _start(path: str) -> bytes:
    with readable(path), Utf8File(path) as file:
        return file.read(_START_BYTES)


def _edited(path: str, edits: str) -> str:
    """Returns the command that edits the lines of a file."""
    unpacked = f"zcat FILE | sed {edits}" if path.lower().endswith(".gz") else f"sed {edits} FILE"
    return f"{unpacked} > NEW{PurePath(form_of(path)).suffix}"
