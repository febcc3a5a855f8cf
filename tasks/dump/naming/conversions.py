"""Commands that convert a file to a form that is read, for messages."""

import json
import re
from collections.abc import Sequence
from pathlib import PurePath

from artifacts import columns as col
from tasks.dump.readers.csv_header import read_header
from tasks.dump.readers.table import LIST
from tasks.dump.sources.files import COMPRESSED, Utf8File, form_of, readable

_JSON = (".jsonl", ".ndjson", ".json")
_PARQUET = (".parquet", ".pq")
_ARROW = (".feather", ".arrow", ".ipc")

TYPED = (*_JSON, *_PARQUET, *_ARROW)
"""Endings of forms whose columns have names in the file."""

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
    quoted = field if field.isidentifier() else f'"{field}"'
    rows = f"SELECT * REPLACE (unnest({quoted}) AS {quoted})"
    if not form_of(path).endswith((*_PARQUET, *_ARROW)):
        of = "." + "".join(f"[{json.dumps(part)}]" for part in field.split("."))
        rows = f"{_as_json(path)} | jq -c '{of}[] as $x | {of} = $x' > rows.jsonl"
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
        edits = _edited(path, 'sed -e \'s/^"//; s/"\\r*$//; s/""/"/g\'')
        return f"each line is in quotation marks as a whole; remove them: {edits}"
    if len(names) == 1 and re.fullmatch(r"\w+:", names[0]):
        blocks = 'awk \'sub(/:\\r?$/, "") {id = $0; next} {print id "," $0}\''
        return f"its rows are in blocks below an id: {_edited(path, blocks)}"
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
    command = " ".join(("sed", *(f"-e {edit}" for edit in edits)))
    return f"{'; '.join(said)}: {_edited(path, command)}"


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
            f"number them: {_as_json(path)} | jq -nc 'foreach inputs as $x "
            f"(0; . + 1; $x + {{{col.TIMESTAMP}: .}})' > NEW.jsonl"
        )
    return "add a column of their numbers"


def joined(path: str, name: str) -> str:
    """Returns the command that adds the columns of a file of orders to rows of the orders."""
    return _written(f"{_read(path, 'FILE')}.join({_read(path, 'ORDERS')}, '{name}')")


def _read(path: str, name: str) -> str:
    if form_of(path).endswith(TYPED):
        form = "parquet" if form_of(path).endswith(_PARQUET) else "ipc"
        if form_of(path).endswith(_JSON):
            form = "json" if _is_array(path) else "ndjson"
        return f"pl.read_{form}('{name}')"
    separator = read_header(path).shape.quoting.separator.decode("latin-1")
    between = "" if separator == "," else f", separator={separator!r}"
    return f"pl.read_csv('{name}', infer_schema=False{between})"


def _written(rows: str) -> str:
    return f".venv/bin/python -c \"import polars as pl; {rows}.write_csv('NEW.csv')\""


def _as_json(path: str) -> str:
    """Returns the command that prints a file's objects as JSON."""
    unpacked = _unpacked(path)
    if _start(path).lstrip().startswith((b"{'", b"{u'")):
        return (
            f'{unpacked} | python3 -c "import ast, json, sys; '
            '[print(json.dumps(ast.literal_eval(x))) for x in sys.stdin]"'
        )
    return f"{unpacked} | jq -c '.[]'" if _is_array(path) else unpacked


def _is_array(path: str) -> bool:
    return _start(path).lstrip().startswith(b"[")


def _start(path: str) -> bytes:
    with readable(path), Utf8File(path) as file:
        return file.read(_START_BYTES)


def _unpacked(path: str) -> str:
    return "zstd -dc FILE" if path.lower().endswith(".zst") else "zcat -f FILE"


def _edited(path: str, command: str) -> str:
    """Returns the command that edits the lines of a file."""
    is_packed = path.lower().endswith(COMPRESSED)
    edited = f"{_unpacked(path)} | {command}" if is_packed else f"{command} FILE"
    return f"{edited} > NEW{PurePath(form_of(path)).suffix}"
