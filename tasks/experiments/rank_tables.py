"""Ranks of many cells in few Parquet files, one per list of ranked events.

Cells of a dataset rank the same events, so these are stored once, and each cell adds two columns of
small integers. Files are replaced atomically.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue, TypeAdapter, ValidationError

from artifacts import columns as col
from artifacts.files.durable import write_atomically
from artifacts.files.ownership import locked
from artifacts.manifest import ArtifactRef
from artifacts.strict import Strict
from artifacts.user_error import UserError

DEEPEST = 100
"""Maximum stored rank; deeper ranks do not affect metrics."""

EVENTS = ("ranking", col.USER_INDEX, col.ITEM_INDEX, "candidates")
GREATER, EQUAL = "greater", "equal"
CELLS = b"cells"
"""Key of the file's metadata with the cells of its columns."""

_LOCK = ".lock"
_LEVEL = 15


class DamagedTableError(UserError):
    """A file of kept ranks cannot be read."""


class KeptCell(Strict):
    """A cell's manifest without files."""

    schema_version: int
    parameters: dict[str, JsonValue]
    parents: dict[str, ArtifactRef]
    counts: dict[str, int | float]
    notes: list[str]


_CELLS = TypeAdapter(dict[str, KeptCell])


class RankTables:
    """The files ``ranks-EVENTS.parquet`` of a folder, by fingerprints of cells."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[str, tuple[Path, KeptCell]] | None = None

    def find(self, fingerprint: str) -> KeptCell | None:
        """Returns a cell's key and counts, None if it is not kept. Raises DamagedTableError."""
        found = self._index().get(fingerprint)
        return None if found is None else found[1]

    def ranks(self, fingerprint: str) -> pl.DataFrame:
        """Returns the ranks of a kept cell as written by `make_cell`, limited to `DEEPEST`.

        Raises:
            DamagedTableError: the file does not match its digest.
        """
        path, _ = self._index()[fingerprint]
        columns = [f"{fingerprint}.{name}" for name in (GREATER, EQUAL)]
        with _readable(path):
            content = pq.read_table(
                path, columns=[*EVENTS, *columns], page_checksum_verification=True
            )
        table = pl.DataFrame(content).rename(dict(zip(columns, (GREATER, EQUAL), strict=True)))
        if path != self._path(table.select(EVENTS)):
            raise _damage(path, "its events do not match its name")
        return table.select("ranking", col.USER_INDEX, col.ITEM_INDEX, GREATER, EQUAL, "candidates")

    def add(
        self,
        cells: Mapping[str, ArtifactRef],
        read: Callable[[ArtifactRef], tuple[KeptCell, pl.DataFrame]],
    ) -> None:
        """Adds new cells; safe with concurrent processes.

        Raises:
            DamagedTableError: a file cannot be read. Nothing is replaced.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with locked(self._folder / _LOCK):
            self._found = None
            known = self._index()
            added: dict[Path, dict[str, tuple[KeptCell, pl.DataFrame]]] = {}
            for fingerprint in sorted(cells.keys() - known.keys()):
                cell, ranks = read(cells[fingerprint])
                added.setdefault(self._path(ranks), {})[fingerprint] = (cell, ranks)
            for path, new in added.items():
                self._rewrite(path, new)
            self._found = None

    def _rewrite(self, path: Path, new: dict[str, tuple[KeptCell, pl.DataFrame]]) -> None:
        kept: dict[str, KeptCell] = {}
        columns: dict[str, pa.ChunkedArray | pa.Array] = {}
        if path.exists():
            kept = cells_of(path)
            with _readable(path):
                whole = pq.read_table(path, page_checksum_verification=True)
            columns = dict(zip(whole.column_names, whole.columns, strict=True))
        else:
            _, ranks = next(iter(new.values()))
            events = ranks.select(EVENTS).to_arrow()
            columns = dict(zip(events.column_names, events.columns, strict=True))
        for fingerprint, (cell, ranks) in new.items():
            kept[fingerprint] = cell
            is_below = ranks[GREATER].to_numpy() >= DEEPEST
            for name, instead in ((GREATER, DEEPEST), (EQUAL, 0)):
                values = np.where(is_below, instead, ranks[name].to_numpy()).astype(np.int32)
                columns[f"{fingerprint}.{name}"] = pa.array(values)
        names = [*EVENTS, *(f"{key}.{name}" for key in sorted(kept) for name in (GREATER, EQUAL))]
        table = pa.table({name: columns[name] for name in names})
        write_atomically(path, encoded(table, kept))

    def _index(self) -> dict[str, tuple[Path, KeptCell]]:
        if self._found is None:
            self._found = {
                fingerprint: (path, cell)
                for path in sorted(self._folder.glob("ranks-*.parquet"))
                for fingerprint, cell in cells_of(path).items()
            }
        return self._found

    def _path(self, ranks: pl.DataFrame) -> Path:
        """The file of those events, in that order."""
        content = hashlib.sha256()
        for name in EVENTS:
            values = ranks[name]
            if name == "ranking":
                content.update("\n".join(values.cast(pl.String)).encode())
            else:
                content.update(values.to_numpy().astype("<i8").tobytes())
        return self._folder / f"ranks-{content.hexdigest()[:16]}.parquet"


def encoded(table: pa.Table, cells: Mapping[str, KeptCell]) -> bytes:
    """Returns a file's content, compressed by byte-stream splitting."""
    facts = {key: cells[key].model_dump(mode="json") for key in sorted(cells)}
    by_byte = {name: "BYTE_STREAM_SPLIT" for name in table.column_names if "." in name}
    by_step = dict.fromkeys((col.USER_INDEX, col.ITEM_INDEX, "candidates"), "DELTA_BINARY_PACKED")
    file = io.BytesIO()
    with pq.ParquetWriter(
        file,
        table.schema,
        compression="zstd",
        compression_level=_LEVEL,
        use_dictionary=["ranking"],  # pyright: ignore[reportArgumentType]
        column_encoding={**by_byte, **by_step},
        write_page_checksum=True,
        store_schema=False,  # It would duplicate the metadata of cells.
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({CELLS: json.dumps(facts, separators=(",", ":"))})
    return file.getvalue()


def cells_of(path: Path) -> dict[str, KeptCell]:
    """Returns the cells of a file by their fingerprints; raises DamagedTableError."""
    with _readable(path):
        metadata = pq.read_metadata(path).metadata or {}
        return _CELLS.validate_json(metadata.get(CELLS, b""))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValidationError) as error:
        raise _damage(path, str(error).partition("\n")[0]) from error


def _damage(path: Path, reason: str) -> DamagedTableError:
    return DamagedTableError(
        f"{path} cannot be read ({reason}): restore it, from the repository say, or move it away, "
        "and its cells are made again"
    )
