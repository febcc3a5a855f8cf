"""Conversion of typed columns to the types of field readers.

Types are converted to text, number, time or list of texts, or refused with name and type. Unknown
types are never passed to Polars, because some would end the process.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from artifacts import columns as col
from artifacts.shown_users import quoted, shown_cause
from tasks.dump.readers.table import LIST
from tasks.dump.sources.files import UnreadableDumpError

_SHOWN = 80
_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)
_STRINGS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_BYTES = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_binary_view,
)
_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)

_TEXTS = (col.TITLE, col.BRAND, col.DESCRIPTION)
_IDS = (col.USER_ID, col.ITEM_ID, col.DOMAIN)
_STANDARD = (*_IDS, *_TEXTS, col.TIMESTAMP, col.CATEGORIES, col.PRICE, col.IMAGE)
"""Others are columns of conditions."""


class _Unfit(ValueError):
    """The type of a column is unsupported for its field."""


def names_in(fields: Iterable[pa.Field], parent: str = "") -> Iterator[str]:
    """Yields the names of columns, as ``parent.field`` those of the fields of structs, and as
    ``parent[].field`` those in lists of structs."""
    for field in fields:
        yield f"{parent}{field.name}"
        kind, behind = field.type, ""
        if _is(kind, _LISTS):
            kind, behind = kind.value_type, LIST
        if pa.types.is_struct(kind):
            inner = (kind.field(number) for number in range(kind.num_fields))
            yield from names_in(inner, f"{parent}{field.name}{behind}.")


def with_fields(table: pa.Table, names: Iterable[str]) -> pa.Table:
    """Returns the named columns, of which some are fields of structs."""
    return pa.table({name: _field(table, name) for name in names})


def _field(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name in table.column_names:
        return table.column(name)
    parent, _, field = name.rpartition(".")
    if parent.endswith(LIST):
        return _of_each(_field(table, parent.removesuffix(LIST)), field)
    # `struct_field` keeps the nulls of the parent, unlike `flatten` of older versions.
    return pc.struct_field(_field(table, parent), field)  # pyright: ignore[reportAttributeAccessIssue]


def _of_each(values: pa.ChunkedArray, field: str) -> pa.ChunkedArray:
    """Returns a field of the structs of each list; null lists become empty."""
    width = pa.large_list(values.type.value_type)
    chunks = [
        pa.LargeListArray.from_arrays(chunk.offsets, pc.struct_field(chunk.values, field))  # pyright: ignore[reportAttributeAccessIssue]
        for chunk in values.cast(width).chunks
    ]
    kind = pa.large_list(values.type.value_type.field(field).type)
    return pa.chunked_array(chunks, kind)


def plain_columns(
    table: pa.Table, columns: Mapping[str, str], path: str
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Returns the columns by standard name, and the mask of rows with text that is not UTF-8.

    Args:
        table: with the file's names.
        columns: the file's names to ours.
        path: of the file, for messages.

    Raises:
        UnreadableDumpError: unsupported type of a column; the message has both.
    """
    garbled = np.zeros(table.num_rows, bool)
    found = {}
    for theirs, ours in columns.items():
        values = table.column(theirs)
        try:
            plain, is_garbled = _plain(values, ours)
        except (_Unfit, pa.ArrowException) as error:
            refusal = _refusal(path, theirs, ours, values)
            raise UnreadableDumpError(refusal) from shown_cause(error)
        garbled |= is_garbled
        found[ours] = pl.Series(ours, pl.from_arrow(plain))
    return pl.DataFrame(found), garbled


def _plain(values: pa.ChunkedArray, ours: str) -> tuple[pa.ChunkedArray, NDArray[np.bool_] | bool]:
    values = _without_encoding(values)
    kind = values.type
    if pa.types.is_null(kind):
        return values.cast(pa.large_string()), False
    if ours == col.IMAGE and _is(kind, _BYTES):
        return _nothing(values), False
    if _is(kind, _STRINGS) or _is(kind, _BYTES):
        return _text(values)
    if _is(kind, _NUMBERS):
        return _number(values, ours), False
    if ours == col.TIMESTAMP and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return values, False
    if pa.types.is_boolean(kind) and ours not in _STANDARD:
        return values.cast(pa.large_string()), False
    if _is(kind, _LISTS) and ours in (col.CATEGORIES, *_TEXTS):
        return values.cast(_list_of_texts(kind)), False
    if ours == col.IMAGE:  # The images themselves, or lists of something else: no places.
        is_places = _is(kind, _LISTS) and _is(kind.value_type, _STRINGS)
        return values.cast(pa.large_list(pa.large_string())) if is_places else _nothing(
            values
        ), False
    raise _Unfit


def _nothing(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([pa.nulls(len(values), pa.large_string())])


def _without_encoding(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns plain values without dictionary, run-end or extension types."""
    kind = values.type
    if isinstance(kind, pa.UuidType):
        texts = [None if value is None else str(value) for value in values.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.large_string())])
    if isinstance(kind, pa.BaseExtensionType):
        storage = [chunk.storage for chunk in values.chunks]  # pyright: ignore[reportAttributeAccessIssue]
        return _without_encoding(pa.chunked_array(storage, kind.storage_type))
    if pa.types.is_dictionary(kind):
        return _without_encoding(values.cast(kind.value_type))
    if pa.types.is_run_end_encoded(kind):
        decoded = [pc.run_end_decode(chunk) for chunk in values.chunks]  # pyright: ignore[reportAttributeAccessIssue]
        return _without_encoding(pa.chunked_array(decoded, kind.value_type))
    return values


def _text(values: pa.ChunkedArray) -> tuple[pa.ChunkedArray, NDArray[np.bool_]]:
    if pa.types.is_fixed_size_binary(values.type):
        values = values.cast(pa.binary())
    texts, garbled = as_texts(pa.table([values.cast(pa.large_binary())], names=["text"]))
    if garbled.any() and garbled.sum() == len(values) - values.null_count:
        raise _Unfit
    return texts.column("text"), garbled


def _number(values: pa.ChunkedArray, ours: str) -> pa.ChunkedArray:
    kind = values.type
    if pa.types.is_float16(kind):
        return values.cast(pa.float32())
    if not pa.types.is_decimal(kind):
        return values
    if ours not in _IDS:
        return values.cast(pa.int64() if kind.scale == 0 and kind.precision <= 18 else pa.float64())
    texts = values.cast(pa.large_string())
    if kind.scale <= 0:
        return texts
    return pc.replace_substring_regex(texts, r"\.0+$", "")  # pyright: ignore[reportAttributeAccessIssue]


def _list_of_texts(kind: pa.DataType) -> pa.DataType:
    inner = kind.value_type
    if isinstance(inner, pa.BaseExtensionType):
        raise _Unfit
    if _is(inner, _LISTS):
        return pa.large_list(_list_of_texts(inner))
    if not (
        _is(inner, _STRINGS)
        or _is(inner, _NUMBERS)
        or pa.types.is_null(inner)
        or pa.types.is_dictionary(inner)
    ):
        raise _Unfit
    return pa.large_list(pa.large_string())


def _is(kind: pa.DataType, tests: tuple[Callable[[pa.DataType], bool], ...]) -> bool:
    return any(test(kind) for test in tests)


def _refusal(path: str, theirs: str, ours: str, values: pa.ChunkedArray) -> str:
    shown = next((value for value in values.slice(0, 1000).to_pylist() if value is not None), None)
    if pa.types.is_struct(values.type):
        fields = [values.type.field(number).name for number in range(values.type.num_fields)]
        named = next((name for name in ("name", "title", "label", "id") if name in fields), "FIELD")
        way = f"name the field that you mean: --column {theirs}.{named}={ours}"
    elif ours in _IDS and _is(values.type, _LISTS):
        way = f"write one row per element (SQL: unnest({theirs}); pandas: explode)"
    elif _is(values.type, _LISTS) and pa.types.is_struct(values.type.value_type):
        way = f"name the field that you mean: --column {theirs}{LIST}.FIELD={ours}"
    elif _is(values.type, _BYTES):
        way = f"write it as text (SQL: hex({theirs}))"
    elif ours == col.TIMESTAMP:
        way = "write a date with its time, or seconds since 1970"
    else:
        way = f"write it as text (SQL: CAST({theirs} AS VARCHAR))"
    example = quoted(str(shown)[:_SHOWN]) if ours == col.USER_ID else repr(str(shown)[:_SHOWN])
    return (
        f"{path}: the column {theirs} has the type {values.type}, from which no {ours} can be "
        f"read, as {example}; {way}"
    )


NOT_UTF8 = "not UTF-8"


def as_texts(table: pa.Table) -> tuple[pa.Table, NDArray[np.bool_]]:
    """Returns columns as text, and the mask of rows that are not UTF-8 (null)."""
    garbled = np.zeros(table.num_rows, bool)
    columns = []
    for values in table.columns:
        try:
            columns.append(values.cast(pa.large_string()))
        except pa.ArrowInvalid:
            decoded = [decoded_text(value) for value in values.to_pylist()]
            is_null = values.is_null().to_numpy()
            garbled |= np.array([text is None for text in decoded]) & ~is_null
            columns.append(pa.array(decoded, pa.large_string()))
    return pa.table(columns, names=table.column_names), garbled


def decoded_text(value: bytes | None) -> str | None:
    """Returns bytes as text, None if they are not UTF-8."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
