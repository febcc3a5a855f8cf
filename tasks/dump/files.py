"""Opens a dump's files as bytes of UTF-8, whole lines at a time, and names what is wrong.

Nothing is read whole: a gzip of any size passes through a few blocks of memory.
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import polars as pl
import pyarrow as pa

BLOCK_BYTES = 1 << 24
"""Read at a time: 16 MiB, some 100,000 lines."""

LONGEST_LINE = 1 << 28
"""A file without a line end in 256 MiB is no table of lines."""

COMPRESSED = (".gz", ".zst")

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class UnreadableDump(ValueError):
    """A dump's file is missing, damaged, of an unknown form, or lacks a column."""


def existing_file(path: str) -> Path:
    """Returns the path of a file; raises `UnreadableDump` where there is none."""
    if not Path(path).is_file():
        raise UnreadableDump(f"{path} is not a file; give the path of a Parquet, CSV or JSONL file")
    return Path(path)


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Turns what libraries raise about a damaged file into `UnreadableDump`."""
    try:
        yield
    except EOFError as error:
        raise UnreadableDump(
            f"{path} cannot be read: it ends in the middle, as after an interrupted download; "
            "fetch it again (fewer rows than there were would pass for all of them)"
        ) from error
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError, zlib.error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnreadableDump(f"{path} cannot be read: {reason}; export it again") from error


def open_utf8(path: str) -> BinaryIO:
    """Returns a text file's bytes as UTF-8: unzipped, without a byte-order mark.

    UTF-16 is known by its mark and brought to UTF-8; other encodings cannot be told apart, so
    their lines are judged one by one by who parses them.

    Raises:
        UnreadableDump: the file is empty.
    """
    file = _plain(path)
    start = file.peek(len(codecs.BOM_UTF8))
    if not start:
        file.close()
        raise UnreadableDump(f"{path} cannot be read: it is empty; export it again")
    if start.startswith(_UTF16_MARKS):
        return cast(BinaryIO, codecs.EncodedFile(file, "utf-8", "utf-16", errors="replace"))
    if start.startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))
    return cast(BinaryIO, file)


def blocks_of_lines(file: BinaryIO, path: str) -> Iterator[bytes]:
    """Gives a file in blocks that end where lines end; raises `UnreadableDump`."""
    rest = b""
    while block := file.read(BLOCK_BYTES):
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
            rest = block[end:]
        else:
            rest += block
        if len(rest) > LONGEST_LINE:
            raise UnreadableDump(f"{path} cannot be read: a line has over {LONGEST_LINE:,} bytes")
    if rest.strip():
        yield rest


def form_of(path: str) -> str:
    """Returns a file's name in lower case without the ending of its compression."""
    name = path.lower()
    return next((name.removesuffix(end) for end in COMPRESSED if name.endswith(end)), name)


def _plain(path: str) -> io.BufferedReader | gzip.GzipFile:
    match Path(path).suffix.lower():
        case ".gz":
            return gzip.GzipFile(path)
        case ".zst":
            zipped = pa.input_stream(path, compression="zstd")
            return io.BufferedReader(cast(io.RawIOBase, zipped), BLOCK_BYTES)
        case _:
            return io.BufferedReader(io.FileIO(path), BLOCK_BYTES)
