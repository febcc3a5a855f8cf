"""Opens a dump's files: Parquet, CSV, TSV and JSON lines, the text forms also gzipped."""

import gzip
import zlib
from pathlib import Path

import polars as pl


class UnreadableDump(ValueError):
    """A dump's file is missing, damaged, of an unknown form, or lacks a column."""


def existing_file(path: str) -> Path:
    """Returns the path of a file; raises `UnreadableDump` where there is none."""
    if not Path(path).is_file():
        raise UnreadableDump(f"{path} is not a file; give the path of a Parquet, CSV or JSONL file")
    return Path(path)


def scan_table(path: str) -> pl.LazyFrame:
    """Returns a file of a known form as a lazy table; raises `UnreadableDump`."""
    existing_file(path)
    name = path.lower().removesuffix(".gz")
    try:
        if name.endswith((".parquet", ".pq")):
            return pl.scan_parquet(path, glob=False)
        if name.endswith((".csv", ".tsv")):
            # Ids keep their leading zeros only as text; numbers are cast where they are needed.
            separator = "\t" if name.endswith(".tsv") else _separator(path)
            return pl.read_csv(
                _plain(path), separator=separator, infer_schema=False, glob=False
            ).lazy()
        if name.endswith((".jsonl", ".ndjson", ".json")):
            return pl.read_ndjson(_plain(path), infer_schema_length=None).lazy()
    except (pl.exceptions.PolarsError, OSError, EOFError, zlib.error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnreadableDump(
            f"{path} cannot be read: {reason}. Text must be UTF-8, and in CSV every row needs as "
            "many fields as the header (quote a field that holds the separator)"
        ) from error
    raise UnreadableDump(f"{path}: form not known; use .parquet, .csv, .tsv or .jsonl (or .gz)")


def _plain(path: str) -> str | bytes:
    """Returns a .gz file's content whole: a torn one must be an error, not fewer rows."""
    if not path.lower().endswith(".gz"):
        return path
    with gzip.open(path) as file:
        return file.read()


def _separator(path: str) -> str:
    with gzip.open(path) if path.lower().endswith(".gz") else Path(path).open("rb") as file:
        header = file.readline()
    return max(",;\t", key=lambda separator: header.count(separator.encode()))
