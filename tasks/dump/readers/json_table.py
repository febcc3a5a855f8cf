"""JSON reader: one object per line, one array, or multi-line objects.

Invalid lines are quarantined individually. Lines are parsed in blocks; a block with a broken line
is parsed line by line.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import polars as pl

from artifacts import columns as col
from tasks.dump.readers.json_values import (
    NOT_AN_OBJECT,
    TWICE,
    AmbiguousObject,
    Found,
    RawObject,
    is_one_object_a_line,
    name_in,
    objects_of,
    parsed,
)
from tasks.dump.readers.table import LIST, ROW, Batch, Tally, broken_rows
from tasks.dump.sources.files import UnreadableDumpError, Utf8File, blocks_of_lines, readable

FIRST_LINES = 10_000
"""Lines inspected for column names, because single lines may lack columns."""

VALUES_AT_ONCE = 50_000

SINGLE_VALUES = (col.ITEM_ID, col.DOMAIN, col.PRICE)
"""Columns without lists, so that a list in one row does not convert the others."""

Reshape = Callable[[RawObject], RawObject]


class JsonTable:
    """A JSON file, compressed or not, as a `Table` with all values as text.

    A field of a nested object is a column too, called ``parent.field``.

    ``reshape`` converts each object first and keeps lists of texts (except in `SINGLE_VALUES`), for
    nested item fields. Lines may be Python literals, as in dumps of old scrapers; they are parsed,
    never evaluated.
    """

    def __init__(self, path: str, reshape: Reshape | None = None) -> None:
        self._path = path
        self._reshape = reshape
        self.tally = Tally()
        with readable(path), Utf8File(path) as file:
            blocks = blocks_of_lines(file, path)
            block = next((found for found in blocks if found.strip()), b"")
        self._is_lines = is_one_object_a_line(block)
        found = self._first(block)
        shaped = (reshape(object_) if reshape else object_ for object_ in found)
        self.names = tuple(dict.fromkeys(name for object_ in shaped for name in _names_of(object_)))
        if len(found) == 1:
            _refuse_rows_inside(path, found[0])

    def batches(self, columns: Mapping[str, str]) -> Iterator[Batch]:
        self.tally = Tally()
        with readable(self._path), Utf8File(self._path) as file:
            if self._is_lines:
                for block in blocks_of_lines(file, self._path):
                    yield self._block(block, columns)
                self.tally.lines = file.lines
                return
            objects = objects_of(file, self._path)
            while found := list(islice(objects, VALUES_AT_ONCE)):
                yield self._batch(found, columns)

    def _first(self, block: bytes) -> list[RawObject]:
        if self._is_lines:
            found = (_object(line) for line in _lines(block) if line.strip())
        else:
            with readable(self._path), Utf8File(self._path) as file:
                return [
                    object_
                    for object_, _ in islice(objects_of(file, self._path), FIRST_LINES)
                    if object_
                ]
        return [object_ for object_, _ in islice(found, FIRST_LINES) if object_]

    def _block(self, block: bytes, columns: Mapping[str, str]) -> Batch:
        lines = _lines(block)
        full = [line for line in lines if line.strip()]
        self.tally.blank += len(lines) - len(full)
        is_plain = self._reshape is None and not any("." in name for name in columns)
        rows = _parsed_at_once(full, columns) if is_plain else None
        if rows is None:
            return self._batch([_object(line) for line in full], columns)
        first, self.tally.records = self.tally.records, self.tally.records + len(full)
        row = pl.int_range(first, first + pl.len()).alias(ROW)
        return Batch(rows.with_columns(row), broken_rows([], []))

    def _batch(self, found: Sequence[Found], columns: Mapping[str, str]) -> Batch:
        first, self.tally.records = self.tally.records, self.tally.records + len(found)
        places = range(first, first + len(found))
        read = None if self._reshape else {name.partition(".")[0] for name in columns} | {*columns}
        found = [_unambiguous(each, read) for each in found]
        good = [
            (place, self._reshape(object_) if self._reshape else object_)
            for place, (object_, _) in zip(places, found, strict=True)
            if object_ is not None
        ]
        broken = [(place, why) for place, (_, why) in zip(places, found, strict=True) if why]
        values = {
            ours: _column(
                [_value(object_, theirs) for _, object_ in good],
                flat=not self._reshape or ours in SINGLE_VALUES,
                amounts=ours == col.PRICE,
            )
            for theirs, ours in columns.items()
        }
        rows = pl.Series([place for place, _ in good], dtype=pl.Int64)
        return Batch(
            pl.DataFrame({**values, ROW: rows}),
            broken_rows([place for place, _ in broken], [why for _, why in broken]),
        )


def _lines(block: bytes) -> list[bytes]:
    """Returns the lines of a block; JSON strings contain no raw line ends."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return block.removesuffix(b"\n").split(b"\n")


def _parsed_at_once(lines: list[bytes], columns: Mapping[str, str]) -> pl.DataFrame | None:
    """Returns the columns of some lines, None if one cannot be parsed."""
    content = b"\n".join(lines)
    if not lines or b'"$' in content:  # MongoDB's types, see `_unwrapped`.
        return None
    if any(
        content.count(json.dumps(name, ensure_ascii=False).encode()) > len(lines)
        for name in columns
    ):
        return None  # Perhaps a field twice in one object, of which Polars reads the first.
    try:
        rows = pl.read_ndjson(io.BytesIO(content), schema=dict.fromkeys(columns, pl.String))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    return rows.rename(dict(columns)) if rows.height == len(lines) else None


def _names_of(object_: RawObject, parent: str = "") -> Iterator[str]:
    """Yields the names of fields, also of those of nested objects except MongoDB's types, and as
    ``parent[].field`` of those of the objects in lists."""
    for name, value in object_.items():
        yield f"{parent}{name}"
        if isinstance(value, dict) and not any(str(inner).startswith("$") for inner in value):
            yield from _names_of(value, f"{parent}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield from _names_of(value[0], f"{parent}{name}{LIST}.")


def _value(object_: RawObject, name: str) -> object:
    """Returns a field, one of a nested object, or one of each object of a list; None if it is
    absent."""
    if name in object_:
        return object_[name]
    parent, _, field = name.rpartition(".")
    inner = _value(object_, parent.removesuffix(LIST)) if parent else None
    if isinstance(inner, list):
        return [each.get(field) for each in inner if isinstance(each, dict)]
    return inner.get(field) if isinstance(inner, dict) else None


def _object(line: bytes) -> Found:
    found = parsed(line)
    return (found, "") if isinstance(found, dict) else (None, NOT_AN_OBJECT)


def _unambiguous(found: Found, read: set[str] | None) -> Found:
    """Returns an object, or the reason to leave it out: a field that is read has two values.

    ``read``: names of these fields; all if None.
    """
    object_, why = found
    if not isinstance(object_, AmbiguousObject):
        return object_, why
    is_read = read is None or not read.isdisjoint(object_.fields)
    return (None, TWICE) if is_read else (object_, why)


def _refuse_rows_inside(path: str, only: RawObject) -> None:
    """Raises `UnreadableDumpError` for a file of one object that contains the rows."""
    lists = {
        name: len(value)
        for name, value in only.items()
        if isinstance(value, list) and value and isinstance(value[0], dict)
    }
    if lists:
        name = max(lists, key=lists.__getitem__)
        raise UnreadableDumpError(
            f"{path} cannot be read: it is one JSON object whose field {name!r} holds the rows; "
            f"write one object per line: jq -c '.[\"{name}\"][]' FILE > rows.jsonl"
        )
    rows = [value for value in only.values() if isinstance(value, dict)]
    are_rows = len(rows) == len(only) > len(rows[0]) > 0
    if are_rows and not any(str(name).isdigit() for name in rows[0]):
        raise UnreadableDumpError(
            f"{path} cannot be read: it is one JSON object of rows by their ids "
            f"({', '.join(list(only)[:4])}, …); write one object a line: "
            "jq -c 'to_entries[] | {id: .key} + .value' FILE > rows.jsonl"
        )
    if _is_of_columns(only):
        raise UnreadableDumpError(
            f"{path} cannot be read: it is one JSON object of columns "
            f"({', '.join(list(only)[:4])}), as pandas writes it; write one object a "
            "line: to_json(..., orient='records', lines=True)"
        )


def _is_of_columns(only: RawObject) -> bool:
    """Returns whether an object is a table by columns, pandas' default."""
    values = list(only.values())
    lengths = {len(value) for value in values if isinstance(value, list)}
    is_lists = all(isinstance(value, list) for value in values) and len(lengths) == 1
    is_parted = {"columns", "data"} <= only.keys() and len(lengths) > 0
    is_numbered = all(isinstance(value, dict) and value for value in values)
    return len(only) > 1 and (is_parted or is_numbered or (is_lists and lengths != {1}))


def _column(values: list[object], *, flat: bool, amounts: bool) -> pl.Series:
    """Returns values as text, or as lists of texts if any is a list."""
    if amounts:
        # Enough decimals to distinguish the point from a thousands separator.
        values = [f"{value:.6f}" if isinstance(value, float) else value for value in values]
    if flat or not any(isinstance(value, list) for value in values):
        return pl.Series([_text(value) for value in values], dtype=pl.String)
    lists = [value if isinstance(value, list) or value is None else [value] for value in values]
    texts = [
        None if value is None else [_text(_named(part)) for part in _flattened(value)]
        for value in lists
    ]
    return pl.Series(texts, dtype=pl.List(pl.String))


def _text(value: object) -> str | None:
    value = _unwrapped(value)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 12.0 is the id 12, as in blocks.
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()  # An unpaired surrogate is not a character.


def _named(part: object) -> object:
    """Returns the name of an object in a list, if it has one."""
    name = name_in(part) if isinstance(part, dict) else None
    return part if name is None else name


def _unwrapped(value: object) -> object:
    """Returns the values of MongoDB's types such as ``{"$oid": "…"}`` and ``{"$date":
    {"$numberLong": "…"}}``."""
    while isinstance(value, dict) and len(value) == 1:
        ((name, inner),) = value.items()
        if not name.startswith("$"):
            break
        value = inner
    return value


def _flattened(values: list[object]) -> Iterator[object]:
    for value in values:
        if isinstance(value, list):
            yield from _flattened(value)
        else:
            yield value
