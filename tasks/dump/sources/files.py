"""Text files as UTF-8 bytes, with line counts and error messages.

Files are streamed in blocks.
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Self, cast

import polars as pl
import pyarrow as pa

from artifacts.shown_users import shown_cause
from artifacts.user_error import UserError
from tasks.dump.sources.size_limits import LimitedFile

BLOCK_BYTES = 1 << 24
"""Block size: 16 MiB, about 100,000 lines."""

LONGEST_LINE = 1 << 28
"""Maximum line length; a file without a line end in 256 MiB is refused."""

COMPRESSED = (".gz", ".zst")

TO_UTF8 = (
    "convert it: zcat -f FILE | iconv -f WINDOWS-1252 -t UTF-8 > NEW, or from its own encoding: "
    "SHIFT_JIS, GB18030, …"
)

_GZIP, _ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"

OTHER_CONTENT = {
    b"PAR1": "Parquet: give it the ending .parquet",
    b"PK\x03\x04": "a zip archive or an Excel workbook: unpack it, or save the sheet as CSV UTF-8",
    b"\x1f\x8b": "compressed by gzip: unpack it",
    b"BZh": "compressed by bzip2: unpack it, or use gzip or Zstandard",
    b"\xfd7zXZ": "compressed by xz: unpack it, or use gzip or Zstandard",
    b"ARROW1": "an Arrow (Feather) file: give it the ending .arrow",
    b"Obj\x01": "Avro: export it as Parquet, CSV or JSON lines",
    b"ORC": "ORC: export it as Parquet, CSV or JSON lines",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the sheet as CSV UTF-8",
    b"SQLite format 3": "an SQLite database: export its tables as CSV",
    b"version https://git-lfs": "a pointer of Git LFS and not the file: run git lfs pull",
    b"<!DOCTYPE": "a web page, as a download without login gives: fetch the file again",
    b"<!doctype": "a web page, as a download without login gives: fetch the file again",
    b"<html": "a web page, as a download without login gives: fetch the file again",
    b"<?xml": "XML: export it as Parquet, CSV or JSON lines",
}
"""Signatures of binary files with text names."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # Before UTF-16, because its mark has the same prefix.
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LONGEST_START = 512


class UnreadableDumpError(UserError, ValueError):
    """An input file is missing, damaged, of an unknown format, or lacks a column."""


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Converts errors of libraries about damaged files to `UnreadableDumpError`."""
    try:
        yield
    except EOFError as error:
        raise UnreadableDumpError(
            f"{path} cannot be read: it ends in the middle, as after an interrupted download; "
            "fetch it again (the rows so far could be taken for all rows)"
        ) from error
    except UnicodeDecodeError as error:
        raise UnreadableDumpError(
            f"{path} cannot be read: it is no valid {error.encoding.upper()} ({error.reason}); "
            "save it as UTF-8"
        ) from error
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError, zlib.error) as error:
        cause = error if isinstance(error, OSError) else shown_cause(error)
        reason = (str(cause or "").splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UnreadableDumpError(f"{path} cannot be read: {reason}; export it again") from cause


class Utf8File:
    """A text file's bytes as UTF-8: decompressed, without a byte-order mark.

    UTF-16 and UTF-32 are detected by their mark or by the zero bytes of an ASCII header; lines in
    other encodings are validated by the parsing reader. ``lines`` counts the line ends (LF, CR LF
    or CR) of all bytes read so far, and an unterminated last line, independent of parsers.

    Raises:
        UnreadableDumpError: the file is empty or not text.
    """

    def __init__(self, path: str) -> None:
        self._file = _plain(path)
        start = self._file.peek(_LONGEST_START)[:_LONGEST_START]
        if not start:
            self._file.close()
            raise UnreadableDumpError(f"{path} cannot be read: it is empty; export it again")
        for mark, what in OTHER_CONTENT.items():
            if start.lstrip().startswith(mark):
                self._file.close()
                raise UnreadableDumpError(f"{path} cannot be read: its content is {what}")
        if start[257:262] == b"ustar":
            self._file.close()
            raise UnreadableDumpError(f"{path} cannot be read: it is a tar archive: unpack it")
        encoding, mark = _encoding(start)
        self._file.read(len(mark))
        self._decoder = (
            None
            if encoding == "utf-8"
            else codecs.getincrementaldecoder(encoding)(errors="surrogatepass")
        )
        self._ready = b""
        self._ends = 0
        self._last = b""

    @property
    def lines(self) -> int:
        """Lines of the bytes read so far."""
        return self._ends + (self._last not in (b"", b"\n", b"\r"))

    def read(self, size: int) -> bytes:
        """Returns at most ``size`` bytes, none at the end only. Unpaired surrogates become invalid
        UTF-8, so that their row is detected as broken."""
        ready = self._ready or self._decoded(size)
        block, self._ready = ready[:size], ready[size:]
        return self._counted(block)

    def _decoded(self, size: int) -> bytes:
        """Returns the next bytes, which may be more than the ``size`` read before decoding."""
        while block := self._file.read(size):
            if self._decoder is None:
                return block
            if text := self._decoder.decode(block):
                return text.encode("utf-8", "surrogatepass")
        rest = "" if self._decoder is None else self._decoder.decode(b"", True)
        return rest.encode("utf-8", "surrogatepass")

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _counted(self, block: bytes) -> bytes:
        if block:
            pairs = block.count(b"\r\n") + (self._last == b"\r" and block[:1] == b"\n")
            self._ends += block.count(b"\n") + block.count(b"\r") - pairs
            self._last = block[-1:]
        return block


def blocks_of_lines(file: Utf8File, path: str) -> Iterator[bytes]:
    """Yields a file in blocks of complete lines (LF, CR LF or CR); raises `UnreadableDumpError`."""
    rest = b""
    while block := file.read(BLOCK_BYTES):
        rest += block
        # A CR at the end of a block may be part of CR LF.
        end = max(rest.rfind(b"\n"), rest.rfind(b"\r", 0, len(rest) - 1)) + 1
        if end:
            yield rest[:end]
            rest = rest[end:]
        if len(rest) > LONGEST_LINE:
            raise UnreadableDumpError(
                f"{path} cannot be read: a line has over {LONGEST_LINE:,} bytes"
            )
    if rest:
        yield rest


def form_of(path: str) -> str:
    """Returns a file's name in lower case without its compression suffix."""
    name = path.lower()
    return next((name.removesuffix(end) for end in COMPRESSED if name.endswith(end)), name)


def _encoding(start: bytes) -> tuple[str, bytes]:
    """Returns the encoding of a file and its mark, by its beginning."""
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding, mark
    if len(start) >= 4 and start[1] == start[3] == 0 and start[0] and start[2]:
        return "utf-16-le", b""
    if len(start) >= 4 and start[0] == start[2] == 0 and start[1] and start[3]:
        return "utf-16-be", b""
    return "utf-8", b""


def _plain(path: str) -> "io.BufferedReader[io.RawIOBase]":
    file = io.BufferedReader(cast(io.RawIOBase, io.FileIO(path)), BLOCK_BYTES)
    start, name = file.peek(len(_ZSTANDARD)), path.lower()
    if start and (name.endswith(".gz") or start.startswith(_GZIP)):
        unzipped = cast(BinaryIO, gzip.GzipFile(path))
    elif start and (name.endswith(".zst") or start.startswith(_ZSTANDARD)):
        unzipped = cast(BinaryIO, pa.input_stream(path, compression="zstd"))
    else:
        return file
    file.close()
    return io.BufferedReader(cast(io.RawIOBase, LimitedFile(unzipped, path)), BLOCK_BYTES)
