"""A small file that unpacks to gigabytes is refused before it fills the memory, in every form."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.dump.readers.csv_table import CsvTable
from tasks.dump.readers.json_table import JsonTable
from tasks.dump.readers.typed_tables import BATCH_ROWS, ParquetTable
from tasks.dump.sources import size_limits
from tasks.dump.sources.files import Utf8File, blocks_of_lines
from tasks.dump.sources.size_limits import UnpackedSizeError, batch_rows

ROOM = Path(__file__).parents[4]
LINE = json.dumps({"item_id": "a", "title": "x" * 1000})

READS_ALL = """
import resource, sys
from tasks.dump.readers.typed_tables import ParquetTable
from tasks.dump.sources.size_limits import UnpackedSizeError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    for batch in ParquetTable(sys.argv[1]).batches({"title": "title", "item_id": "item_id"}):
        pass
except UnpackedSizeError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousandth of the real sizes, so that tests need not unpack gigabytes."""
    monkeypatch.setattr(size_limits, "FREE_BYTES", 1 << 18)
    monkeypatch.setattr(size_limits, "_SAFE_BYTES", 1 << 16)


def zipped_csv(folder: Path) -> str:
    path = folder / "items.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("item_id,title\n" + "a,b\n" * 1_000_000)
    return str(path)


def zipped_without_the_ending(folder: Path) -> str:
    return str(Path(zipped_csv(folder)).rename(folder / "items.csv"))


def zstandard_lines(folder: Path) -> str:
    path = folder / "items.jsonl.zst"
    with pa.output_stream(str(path), compression="zstd") as file:
        file.write(f"{LINE}\n".encode() * 2_000)
    return str(path)


def zipped_lines(folder: Path) -> str:
    path = folder / "items.jsonl.gz"
    path.write_bytes(gzip.compress(f"{LINE}\n".encode() * 2_000))
    return str(path)


def text_that_is_kept_once(folder: Path) -> str:
    path = folder / "items.parquet"
    rows = 3_000
    table = pa.table({"item_id": ["a"] * rows, "title": ["x" * 1000] * rows})
    pq.write_table(table, path, compression="zstd")
    return str(path)


def categories_that_are_kept_once(folder: Path) -> str:
    path = folder / "items.parquet"
    rows = 1_000
    table = pa.table({"item_id": ["a"] * rows, "title": [["x" * 500] * 3] * rows})
    pq.write_table(table, path, compression="zstd")
    return str(path)


def text_in_plain_pages(folder: Path) -> str:
    path = folder / "items.parquet"
    rows = 3_000
    table = pa.table({"item_id": ["a"] * rows, "title": ["x" * 1000] * rows})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    return str(path)


def rows_without_end(folder: Path) -> str:
    path = folder / "items.parquet"
    table = pa.table({"item_id": np.zeros(3_000_000, np.int64), "title": ["a"] * 3_000_000})
    pq.write_table(table, path, compression="zstd")
    return str(path)


def one_long_text_in_a_later_group(folder: Path) -> str:
    path = folder / "items.parquet"
    schema = pa.schema({"item_id": pa.string(), "title": pa.string()})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for title in ("a", "b" * 50_000):
            writer.write_table(pa.table({"item_id": ["a"] * 200, "title": [title] * 200}, schema))
    return str(path)


def read_csv(path: str) -> None:
    for _ in CsvTable(path).batches({"item_id": "item_id"}):
        pass


def read_lines(path: str) -> None:
    for _ in JsonTable(path).batches({"item_id": "item_id"}):
        pass


def read_parquet(path: str) -> None:
    for _ in ParquetTable(path).batches({"item_id": "item_id", "title": "title"}):
        pass


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (zipped_csv, read_csv),
        (zipped_without_the_ending, read_csv),
        (zipped_lines, read_lines),
        (zstandard_lines, read_lines),
        (text_that_is_kept_once, read_parquet),
        (categories_that_are_kept_once, read_parquet),
        (text_in_plain_pages, read_parquet),
        (rows_without_end, read_parquet),
        (one_long_text_in_a_later_group, read_parquet),
    ],
)
def test_what_swells_is_refused_by_name_and_sum_and_read_where_the_machine_allows_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], str],
    read: Callable[[str], None],
) -> None:
    path = make(tmp_path)
    with pytest.raises(
        UnpackedSizeError, match=rf"{Path(path).name} has [\d,]+ bytes and unpacks to"
    ):
        read(path)
    monkeypatch.setenv("LLM4CDSR_DUMP_MAX_RATIO", "1e9")
    read(path)
    monkeypatch.setenv("LLM4CDSR_DUMP_MAX_GB", "0.0000001")
    with pytest.raises(UnpackedSizeError, match="LLM4CDSR_DUMP_MAX_GB higher"):
        read(path)


@pytest.mark.parametrize("given", ["much", "0", "-3", "nan"])
def test_a_limit_that_is_no_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    path = text_that_is_kept_once(tmp_path)
    monkeypatch.setenv("LLM4CDSR_DUMP_MAX_RATIO", given)
    with pytest.raises(UnpackedSizeError, match=f"LLM4CDSR_DUMP_MAX_RATIO='{given}'"):
        read_parquet(path)


def test_an_ordinary_file_is_read_in_the_batches_of_before(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "item_id": dice.integers(0, 10**6, 50_000).astype(str),
            "title": [f"A title of ordinary length, number {n}" for n in range(50_000)],
        }
    )
    for name, by_pyarrow in (("a", False), ("b", True)):
        frame.write_parquet(tmp_path / name, use_pyarrow=by_pyarrow)
        assert batch_rows(str(tmp_path / name), frame.columns, BATCH_ROWS) == BATCH_ROWS


def test_long_texts_are_read_a_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size_limits, "BATCH_BYTES", 1 << 20)
    monkeypatch.setenv("LLM4CDSR_DUMP_MAX_RATIO", "1e9")
    path = text_that_is_kept_once(tmp_path)
    rows = batch_rows(path, ["title"], BATCH_ROWS)
    assert rows == pytest.approx((1 << 20) / 1000, rel=0.05)
    batches = [batch.rows.height for batch in ParquetTable(path).batches({"title": "title"})]
    assert max(batches) == rows
    assert sum(batches) == 3_000


def test_memory_stays_small_where_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    rows = 1_000_000
    titles = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), ["x" * 1000])
    pq.write_table(pa.table({"item_id": ["a"] * rows, "title": titles}), path, compression="zstd")
    assert path.stat().st_size < 200_000
    command = [sys.executable, "-c", READS_ALL, str(path)]
    found = subprocess.run(command, cwd=ROOM, check=True, capture_output=True, text=True)
    said, megabytes = found.stdout.splitlines()
    assert "items.parquet has" in said
    assert int(megabytes) < 150, "a gigabyte of titles was about to be read"


def test_a_line_without_end_stops_at_the_limit_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(gzip.compress(b"x" * (1 << 25)))
    with pytest.raises(UnpackedSizeError), Utf8File(str(path)) as file:
        list(blocks_of_lines(file, str(path)))
