"""Public formats: file format, column names, units.

A format defines the column names and the conversion of item fields; all later steps are common.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path, PurePath

from artifacts import columns as col
from tasks.dump.readers.csv_table import CsvTable
from tasks.dump.readers.json_table import JsonTable
from tasks.dump.readers.json_values import RawObject
from tasks.dump.readers.table import Table
from tasks.dump.readers.typed_tables import ArrowTable, ParquetTable
from tasks.dump.sources.files import UnreadableDumpError, Utf8File, form_of, readable


class DumpFormat(StrEnum):
    """Format of a dump's files."""

    TABLE = "table"
    AMAZON_2018 = "amazon-2018"
    AMAZON_2023 = "amazon-2023"
    DOUBAN = "douban"


INTERACTION_NAMES: Mapping[DumpFormat, Mapping[str, str]] = {
    DumpFormat.TABLE: {},
    DumpFormat.AMAZON_2018: {
        "reviewerID": col.USER_ID,
        "asin": col.ITEM_ID,
        "unixReviewTime": col.TIMESTAMP,
    },
    DumpFormat.AMAZON_2023: {"parent_asin": col.ITEM_ID},
    DumpFormat.DOUBAN: {
        "book_id": col.ITEM_ID,
        "movie_id": col.ITEM_ID,
        "music_id": col.ITEM_ID,
        "time": col.TIMESTAMP,
    },
}
"""Mapping of columns to standard names; other columns have them already."""

ITEM_NAMES: Mapping[DumpFormat, Mapping[str, str]] = {
    DumpFormat.TABLE: {},
    DumpFormat.AMAZON_2018: {},
    DumpFormat.AMAZON_2023: {},
    DumpFormat.DOUBAN: {
        "UID": col.ITEM_ID,
        "name": col.TITLE,
        "author": col.BRAND,
        "director": col.BRAND,
        "tag": col.CATEGORIES,
        "tags": col.CATEGORIES,
        "labels": col.CATEGORIES,
        "summary": col.DESCRIPTION,
    },
}

_OTHER_FORMS = {
    ".xlsx": "save the sheet as CSV UTF-8",
    ".xls": "save the sheet as CSV UTF-8",
    ".zip": "unpack it",
    ".7z": "unpack it",
    ".tar": "unpack it",
    ".tgz": "unpack it",
    ".bz2": "unpack it, or use gzip or Zstandard",
    ".xz": "unpack it, or use gzip or Zstandard",
    ".avro": "export it as Parquet, CSV or JSON lines",
    ".orc": "export it as Parquet, CSV or JSON lines",
    ".arrows": "write it as an Arrow file (Feather), not as a stream",
    ".pkl": "a pickle can run code; write Parquet, CSV or JSON lines",
    ".pickle": "a pickle can run code; write Parquet, CSV or JSON lines",
    ".rds": "export it as Parquet, CSV or JSON lines",
    ".sav": "export it as Parquet, CSV or JSON lines",
    ".xml": "export it as Parquet, CSV or JSON lines",
    ".sql": "export the table as CSV",
    ".db": "export the table as CSV",
    ".sqlite": "export the table as CSV",
    ".duckdb": "export the table as Parquet",
}
"""Common unsupported suffixes, with remedies."""

_TEXTS = (".txt", ".dat", ".data", ".inter", ".item")
"""Endings of tables of text; the last two are RecBole's."""

_SCRIPT_DEBRIS = re.compile(r"getTime\(|function\s*\(|<script|var aPageStart")
"""Some titles of the 2018 release contain JavaScript."""


def open_interactions(path: str, form: DumpFormat) -> Table:
    """Opens a file of interactions; raises `UnreadableDumpError`."""
    is_amazon = form in (DumpFormat.AMAZON_2018, DumpFormat.AMAZON_2023)
    return JsonTable(path) if is_amazon else _open(path, form, nested=False)


def open_items(path: str, form: DumpFormat) -> Table:
    """Opens a file of items; raises `UnreadableDumpError`."""
    match form:
        case DumpFormat.AMAZON_2018:
            return JsonTable(path, amazon_2018_item)
        case DumpFormat.AMAZON_2023:
            return JsonTable(path, amazon_2023_item)
        case _:
            return _open(path, form, nested=True)


def amazon_2018_item(raw: RawObject) -> RawObject:
    """Converts an object of a 2014 or 2018 metadata file to standard fields."""
    title = raw.get("title")
    if isinstance(title, str) and _SCRIPT_DEBRIS.search(title):
        title = None
    return {
        col.ITEM_ID: raw.get("asin"),
        col.TITLE: title,
        col.BRAND: raw.get("brand"),
        col.CATEGORIES: raw.get("category") or raw.get("categories"),
        col.PRICE: raw.get("price"),
        col.DESCRIPTION: raw.get("description") or raw.get("feature"),
    }


def amazon_2023_item(raw: RawObject) -> RawObject:
    """Converts an object of a 2023 metadata file to standard fields; ``store`` is the brand."""
    details = raw.get("details")
    brand = details.get("Brand") if isinstance(details, dict) else None
    main = raw.get("main_category")
    return {
        col.ITEM_ID: raw.get("parent_asin"),
        col.TITLE: raw.get("title"),
        col.BRAND: brand or raw.get("store"),
        col.CATEGORIES: raw.get("categories") or ([main] if main else None),
        col.PRICE: raw.get("price"),
        col.DESCRIPTION: raw.get("description") or raw.get("features"),
    }


def _open(path: str, form: DumpFormat, *, nested: bool) -> Table:
    name = form_of(path)
    if name.endswith((".parquet", ".pq")):
        return ParquetTable(path)
    if name.endswith((".tsv", ".tab")) or (form is DumpFormat.DOUBAN and name.endswith(".txt")):
        return CsvTable(path, "\t")
    if name.endswith(".csv"):
        return CsvTable(path)
    if name.endswith((".jsonl", ".ndjson", ".json")):
        return JsonTable(path, dict if nested else None)
    if name.endswith((".feather", ".arrow", ".ipc")):
        return ArrowTable(path)
    if name.endswith(_TEXTS) or "." not in PurePath(name).name:
        return _by_content(path, nested=nested)
    for ending, way in _OTHER_FORMS.items():
        if name.endswith(ending):
            raise UnreadableDumpError(f"{path}: unsupported format: {way}")
    raise UnreadableDumpError(
        f"{path}: unknown format; use .parquet, .arrow, .csv, .tsv or .jsonl (the latter three "
        "also .gz or .zst)"
    )


def _by_content(path: str, *, nested: bool) -> Table:
    """Opens a file whose name does not determine its format: parts of Spark, Hive and BigQuery,
    files of RecBole. The check of the header detects a wrong format."""
    with readable(path), Path(path).open("rb") as file:
        start = file.read(len(b"ARROW1"))
    if start.startswith(b"PAR1"):
        return ParquetTable(path)
    if start == b"ARROW1":
        return ArrowTable(path)
    with readable(path), Utf8File(path) as text:
        first = text.read(1 << 16).lstrip()[:1]
    return JsonTable(path, dict if nested else None) if first in (b"{", b"[") else CsvTable(path)
