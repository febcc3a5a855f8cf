"""Export of all users' recommendations as Parquet or CSV files, one per domain, in blocks.

Memory is bounded by a block. The folder is replaced atomically.
"""

import re
import shutil
import unicodedata
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
import pyarrow.csv as pc
import pyarrow.parquet as pq
from pydantic import Field

from artifacts.files.durable import write_atomically
from artifacts.fingerprint import fingerprint_of
from artifacts.kinds.results import RECOMMENDATION_SCHEMA
from artifacts.strict import Strict
from artifacts.user_error import UserError
from model.data.sequences import IntArray
from model.scoring.top_k import Recommendations
from tasks.serving.catalogue import user_rows
from tasks.serving.export.file_formats import TableFormat
from tasks.serving.recommender import Recommender
from tasks.serving.state import ServingState, Wish

BLOCK_USERS = 8192
SUMMARY = "export.json"


class NotAnExportError(UserError, ValueError):
    """The output folder contains other files."""


class ExportConfig(Strict):
    """Settings of an export."""

    k: int = Field(default=20, ge=1, description="Items a user and domain.")
    exclude_seen: bool = Field(default=True, description="Exclude items of the user's history.")
    domains: tuple[str, ...] | None = Field(default=None, description="Domains; all if None.")
    since: datetime | None = Field(
        default=None, description="Only users with an event at or after this time."
    )
    form: TableFormat = Field(default=TableFormat.PARQUET, description="Of the files.")


class DomainExport(Strict):
    """One file. `short_lists`: users with fewer than k unseen items; `items`: distinct items."""

    file: str
    rows: int
    items: int
    coverage: float
    short_lists: int


class Exported(Strict):
    """Content of `export.json`. Times are UTC."""

    release: str
    created: datetime
    config: ExportConfig
    users: int
    users_left_out: int
    domains: dict[str, DomainExport]


def export_recommendations(
    recommender: Recommender,
    folder: Path,
    config: ExportConfig,
    on_block: Callable[[int], None] = lambda users: None,
) -> Exported:
    """Writes `RECOMMENDATION_SCHEMA` for every user, by user and rank; replaces an older export.

    `on_block` gets the number of users of each finished block and domain.

    Raises:
        NotAnExportError: the folder exists and is not an export.
        UnknownDomainError: one of the domains is not in the catalogue.
    """
    folder = folder.resolve()
    _require_replaceable(folder)
    state = recommender.state
    numbers = (
        state.catalogue.domain_numbers(None)
        if config.domains is None
        else [state.catalogue.domain_number(name) for name in dict.fromkeys(config.domains)]
    )
    asked = [state.catalogue.domains[number] for number in numbers]
    users = _users_since(recommender, config.since)
    draft = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    draft.mkdir(parents=True)
    try:
        with ExitStack() as open_files:
            files = {
                number: open_files.enter_context(
                    _DomainFile(draft / f"{slug}.{config.form}", state, number, config)
                )
                for number, slug in zip(numbers, file_names(asked), strict=True)
            }
            for begin in range(0, len(users), BLOCK_USERS):
                block = users[begin : begin + BLOCK_USERS]
                names = [recommender.user_ids[user] for user in block.tolist()]
                wish = Wish(config.k, config.exclude_seen)
                for number, best in state.best(state.histories, block, numbers, wish).items():
                    files[number].add(best, names)
                    on_block(len(names))
        domains = {state.catalogue.domains[number]: files[number].made() for number in numbers}
        made = Exported(
            release=recommender.facts.ref.fingerprint,
            created=datetime.now(UTC),
            config=config,
            users=len(users),
            users_left_out=len(recommender.user_ids) - len(users),
            domains=domains,
        )
        write_atomically(draft / SUMMARY, made.model_dump_json(indent=2).encode())
        _replace(folder, draft)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return made


class _DomainFile:
    """The file of one domain during writing, with its counts."""

    def __init__(self, path: Path, state: ServingState, domain: int, config: ExportConfig) -> None:
        self._state, self._domain, self._k = state, domain, config.k
        self._path, self._form = path, config.form
        self._is_shown = np.zeros(state.catalogue.items.height + 1, bool)
        self._rows = self._short_lists = 0

    def __enter__(self) -> Self:
        if self._form is TableFormat.CSV:
            self._file = pc.CSVWriter(self._path, _ARROW_SCHEMA)
        else:
            self._file = pq.ParquetWriter(self._path, _ARROW_SCHEMA, compression="zstd")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, best: Recommendations, names: list[str]) -> None:
        table = user_rows(self._state.catalogue, best, names)
        self._file.write_table(table.to_arrow().cast(_ARROW_SCHEMA))
        filled = (best.items > 0).sum(axis=1)
        self._rows += table.height
        self._short_lists += int((filled < self._k).sum())
        self._is_shown[best.items] = True

    def made(self) -> DomainExport:
        place = self._state.catalogue.domain_rows(self._domain)
        items = int(self._is_shown[1:].sum())
        return DomainExport(
            file=self._path.name,
            rows=self._rows,
            items=items,
            coverage=round(items / (place.stop - place.start), 4),
            short_lists=self._short_lists,
        )


def _users_since(recommender: Recommender, since: datetime | None) -> IntArray:
    users = np.flatnonzero(recommender.last_seen >= 0)
    if since is None:
        return users
    moment = since if since.tzinfo else since.replace(tzinfo=UTC)
    return users[recommender.last_seen[users] >= moment.timestamp()]


def _require_replaceable(folder: Path) -> None:
    if Path.cwd().is_relative_to(folder):
        raise NotAnExportError(
            f"{folder} is replaced by the export and has the current folder; name a folder below it"
        )
    if not folder.exists():
        return
    if not folder.is_dir() or (not (folder / SUMMARY).is_file() and any(folder.iterdir())):
        raise NotAnExportError(
            f"{folder} contains files that are not an export; name another folder"
        )


def _replace(folder: Path, draft: Path) -> None:
    old = draft.with_suffix(".old")
    if folder.exists():
        folder.rename(old)
    draft.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


_ARROW_SCHEMA = pl.DataFrame(schema=RECOMMENDATION_SCHEMA).to_arrow().schema


LONGEST = 48
"""Maximum bytes of the readable part; file systems allow 255 in total."""

_PLAIN = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST - 1}}}")
_OTHERS = re.compile(r"[^A-Za-z0-9._-]+")


def file_names(names: Sequence[str]) -> list[str]:
    """Returns a safe, short file name for each of distinct names, without an ending.

    Simple names are unchanged. Long names, names with other characters, and names that differ in
    case only get a hash as suffix.
    """
    folded = Counter(name.casefold() for name in names)
    return [
        name if _PLAIN.fullmatch(name) and folded[name.casefold()] == 1 else _with_hash(name)
        for name in names
    ]


def _with_hash(name: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    shown = _OTHERS.sub("-", ascii_only).strip(".-_")[:LONGEST] or "domain"
    return f"{shown}-{fingerprint_of(name)}"
