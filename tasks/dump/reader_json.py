"""JSON lines: an object a line; a line that is none is set aside without the others.

A block is parsed at once. Only a block that holds a broken line is read line by line.
"""

import ast
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import polars as pl

from artifacts import columns as col
from tasks.dump.batch import ROW, Batch, broken_rows, numbered
from tasks.dump.files import blocks_of_lines, open_utf8, readable

FIRST_LINES = 10_000
"""Looked at for the names of columns: any one line may lack a column, but not all of them."""

SINGLE_VALUES = (col.ITEM_ID, col.DOMAIN, col.PRICE)
"""Columns of ours that never hold lists: a list in one row must not make lists of the others."""

NOT_AN_OBJECT = "not a JSON object"

RawObject = dict[str, object]
Reshape = Callable[[RawObject], RawObject]
Value = str | list[str] | None


class JsonTable:
    """A file of JSON lines, gzipped or not, as a `Table`; every value as text.

    With ``reshape`` each object is first brought to other names and values, and lists stay lists
    of texts (but not of `SINGLE_VALUES`): for items, whose fields are nested. With ``literals`` a
    line may also be a Python literal, as in the oldest Amazon files; it is parsed, never evaluated.
    """

    def __init__(self, path: str, reshape: Reshape | None = None, literals: bool = False) -> None:
        self._path = path
        self._reshape = reshape
        self._literals = literals
        with readable(path), open_utf8(path) as file:
            block = next(blocks_of_lines(file, path), b"")
        found = [object_ for _, object_ in self._objects(block, FIRST_LINES) if object_]
        self.names = tuple(dict.fromkeys(name for object_ in found for name in object_))

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        first = 0
        with readable(self._path), open_utf8(self._path) as file:
            for block in blocks_of_lines(file, self._path):
                batch = self._batch(block, columns, first)
                yield batch
                first += batch.rows.height + batch.broken.height

    def _batch(self, block: bytes, columns: Mapping[str, str], first: int) -> Batch:
        rows = None if self._reshape else _parsed_at_once(block, columns)
        if rows is not None:
            return Batch(numbered(rows, first), broken_rows([], []))
        lines = list(self._objects(block))
        good = [(place, object_) for place, object_ in lines if object_ is not None]
        broken = [first + place for place, object_ in lines if object_ is None]
        values = {
            ours: _column(
                [object_.get(theirs) for _, object_ in good],
                flat=not self._reshape or ours in SINGLE_VALUES,
            )
            for theirs, ours in columns.items()
        }
        places = pl.Series([first + place for place, _ in good], dtype=pl.Int64)
        return Batch(
            pl.DataFrame({**values, ROW: places}),
            broken_rows(broken, [NOT_AN_OBJECT] * len(broken)),
        )

    def _objects(
        self, block: bytes, limit: int | None = None
    ) -> Iterator[tuple[int, RawObject | None]]:
        """Gives the place of each line and its object, None where it has none."""
        lines = (line for line in block.split(b"\n") if line.strip())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Escapes in other people's literals.
            for place, line in enumerate(islice(lines, limit)):
                found = _object(line, self._literals)
                yield place, self._reshape(found) if found and self._reshape else found


def _parsed_at_once(block: bytes, columns: Mapping[str, str]) -> pl.DataFrame | None:
    """Returns the columns of a block, None where one of its lines cannot be parsed."""
    try:
        rows = pl.read_ndjson(io.BytesIO(block), schema=dict.fromkeys(columns, pl.String))
    except pl.exceptions.PolarsError:
        return None
    return rows.rename(dict(columns))


def _object(line: bytes, literals: bool) -> RawObject | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = _literal(line) if literals else None
    return found if isinstance(found, dict) else None


def _literal(line: bytes) -> object:
    try:
        return ast.literal_eval(line.decode().strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _column(values: list[object], *, flat: bool) -> pl.Series:
    """Returns values as text, or as lists of texts where any of them is a list."""
    if flat or not any(isinstance(value, list) for value in values):
        return pl.Series([_text(value) for value in values], dtype=pl.String)
    lists = [value if isinstance(value, list) or value is None else [value] for value in values]
    texts = [
        None if value is None else [_text(part) for part in _flattened(value)] for value in lists
    ]
    return pl.Series(texts, dtype=pl.List(pl.String))


def _text(value: object) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()  # Half a surrogate pair is no character.


def _flattened(values: list[object]) -> Iterator[object]:
    for value in values:
        if isinstance(value, list):
            yield from _flattened(value)
        else:
            yield value
