"""Decoding of byte columns; rows that are not UTF-8 are reported."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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
