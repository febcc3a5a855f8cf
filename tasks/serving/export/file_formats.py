"""Formats of exported files."""

from enum import StrEnum


class TableFormat(StrEnum):
    """Formats of exported lists; the value is the suffix of files."""

    PARQUET = "parquet"
    CSV = "csv"


class ModelFormat(StrEnum):
    """Formats of the exported graph."""

    TORCH = "torch"
    ONNX = "onnx"
