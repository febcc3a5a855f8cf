"""The forms of exported files."""

from enum import StrEnum


class TableFormat(StrEnum):
    """Forms of exported lists; each is the ending of its files."""

    PARQUET = "parquet"
    CSV = "csv"


class ModelFormat(StrEnum):
    """Forms of the exported graph."""

    TORCH = "torch"
    ONNX = "onnx"
