"""Reading of a source's files as one normalised table, with accounts of all rows.

The format of a column is detected over all files of one export: a domain given as ``NAME=FILE`` is
one, the other files of a source are another.
"""

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Self, TypeVar

import polars as pl

from artifacts import columns as col
from tasks.dump.account import FileAccount
from tasks.dump.dump_config import Source
from tasks.dump.fields.field import FieldReader, Fields, read_in_one_form
from tasks.dump.naming.column_names import (
    AbsentColumnError,
    NamedColumns,
    listed,
    named_columns,
)
from tasks.dump.naming.likely_names import likely_column
from tasks.dump.readers.column_types import NOT_UTF8
from tasks.dump.readers.table import ROW, PartitionedTable, Table
from tasks.dump.rows import Quarantine, parted
from tasks.dump.sources.files import TO_UTF8, UnreadableDumpError
from tasks.dump.sources.source_files import Paths, SourceFile, paths_of, source_files

NOT_CLOSED = "a quotation mark not closed"
"""Prefix of an id or domain with an unclosed quotation mark."""

_IDS = (col.USER_ID, col.ITEM_ID, col.DOMAIN)
_REASONS = 3
_ADVICE = {NOT_UTF8: TO_UTF8}

Result = TypeVar("Result")


@dataclass(frozen=True)
class SourceKind:
    """Content of a source: ``interactions`` or ``items``. ``names``: mapping of columns;
    ``needed``: required, ``wanted``: optional columns."""

    holds: str
    open_table: Callable[[str], Table]
    names: Mapping[str, str]
    needed: tuple[str, ...]
    wanted: tuple[str, ...]


@dataclass(frozen=True)
class Rows:
    """A normalised batch: parsed rows and unparsable rows."""

    account: FileAccount
    rows: pl.DataFrame
    broken: pl.DataFrame


@dataclass
class Reading:
    """Accounts and notes of a source. ``is_repaired``: an older version reads it differently."""

    accounts: list[FileAccount] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_repaired: bool = False

    def add(self, other: "Reading") -> None:
        self.accounts += other.accounts
        self.notes += other.notes
        self.is_repaired |= other.is_repaired


@dataclass(frozen=True)
class _Opened:
    file: SourceFile
    table: Table
    columns: NamedColumns

    def likely(self, wanted: Iterable[str]) -> dict[str, str]:
        """Returns unread columns of the file by the standard columns that they look like."""
        read = self.columns.chosen
        found = {}
        for ours in sorted(set(wanted).difference(read.values())):
            free = [name for name in self.table.names if name not in (*read, *found.values())]
            if theirs := likely_column(ours, free):
                found[ours] = theirs
        return found


class SourceReader:
    """Reader of the files of one source and kind."""

    def __init__(self, source: Source, paths: Paths, kind: SourceKind) -> None:
        self.kind = kind
        self.path = _shown(paths)
        self._domain = source.domain
        self._files = [_opened(file, kind) for file in source_files(paths)]
        self._is_one = len(self._files) == 1
        self._parsed = 0
        self._said: list[str] = []

    def exports(self) -> list[Self]:
        """Returns one reader per export."""
        files: dict[str | None, list[_Opened]] = {}
        for opened in self._files:
            domain = opened.file.partition[col.DOMAIN] if opened.file.names_domain else None
            files.setdefault(domain, []).append(opened)
        return [self] if len(files) == 1 else [self._of(each) for each in files.values()]

    def _of(self, files: Sequence[_Opened]) -> Self:
        part = copy(self)
        part._files = list(files)
        part.path = _shown(tuple(opened.file.path for opened in files))
        return part

    @property
    def columns(self) -> frozenset[str]:
        """Returns the standard columns in at least one file."""
        found = {name for opened in self._files for name in opened.columns.chosen.values()}
        return frozenset(found if self._domain is None else found | {col.DOMAIN})

    @property
    def unread(self) -> tuple[str, ...]:
        """Returns the columns of the first file that are not read, by its own names."""
        first = self._files[0]
        return tuple(name for name in first.table.names if name not in first.columns.chosen)

    def require(self, names: Iterable[str], option: str) -> None:
        """Raises `UnreadableDumpError` if no export has a column that an option names, or only some
        files of one."""
        for name in set(names) - self.columns - {col.DOMAIN}:
            self._refuse_without(name, option)
        for export in self.exports():
            for name in export.columns.intersection(names):
                export._refuse_without(name, option)

    def _refuse_without(self, name: str, option: str) -> None:
        for opened in self._files:
            if name not in opened.columns.chosen.values():
                raise UnreadableDumpError(
                    f"{option}: {opened.file.path} has no column {name} (it has "
                    f"{listed(opened.table.names)}); correct {option}"
                )

    def read(
        self,
        fields: Mapping[str, FieldReader],
        one_pass: Callable[[Iterator[Rows], Fields], Result],
    ) -> tuple[Result, Reading]:
        """Returns the result of `one_pass` over all rows, with accounts and notes.

        Args:
            fields: new field readers by standard name.
            one_pass: consumes all batches; may be called again, and must then restart.

        Raises:
            UnreadableDumpError: a file cannot be read, or a column has no usable value.
        """
        accounts: list[FileAccount] = []

        def once(readers: Fields) -> Result:
            accounts.clear()
            self._parsed = 0
            return one_pass(self._batches(readers, accounts), readers)

        result, readers = read_in_one_form(fields, once)
        self._said = [
            f"{self._theirs(name)}: {sentence}"
            for name, reader in readers.items()
            for sentence in reader.notes()
        ]
        self._refuse_faults(readers)
        told = Reading(accounts)
        self._tell(told, readers)
        return result, told

    def _batches(self, fields: Fields, accounts: list[FileAccount]) -> Iterator[Rows]:
        for opened in self._files:
            account = FileAccount(opened.file.name, self.kind.holds)
            accounts.append(account)
            for batch in opened.table.batches(opened.columns.chosen):
                rows = batch.rows
                if self._domain is not None:
                    rows = rows.with_columns(pl.lit(self._domain).alias(col.DOMAIN))
                self._parsed += rows.height
                rows, unclosed = _without_unclosed(rows, batch.repaired)
                found = [
                    fields[name].read(rows[name]).alias(name)
                    for name in fields
                    if name in rows.columns
                ]
                broken = pl.concat([batch.broken, unclosed], how="diagonal")
                yield Rows(account, rows.select(ROW).with_columns(found), broken)
            account.tally = opened.table.tally

    def _refuse_faults(self, fields: Fields) -> None:
        for name, reader in fields.items():
            fault = reader.fault() if self._parsed and name in self.columns else None
            if fault is not None:
                raise UnreadableDumpError(f"{self.path}: the column {self._theirs(name)} {fault}")

    def refuse_nothing_usable(
        self, accounts: list[FileAccount], *, may_be_empty: bool = True
    ) -> None:
        """Raises `UnreadableDumpError` if all rows were quarantined, or if there is no row and must
        be one."""
        rows = sum(account.tally.records for account in accounts)
        if not may_be_empty and not rows:
            raise UnreadableDumpError(
                f"{self.path} cannot be read: there is no row in it; export it again"
            )
        reasons = sum((account.set_aside for account in accounts), start=Counter[str]())
        if not rows or reasons.total() < rows:
            return
        most = ", ".join(f"{why} ({count:,})" for why, count in reasons.most_common(_REASONS))
        cause = reasons.most_common(1)[0][0]
        lacked = cause.removeprefix("no ")
        way = _ADVICE.get(cause, "export it again")
        if lacked in _IDS and (theirs := likely_column(lacked, self.unread)):
            option = shlex.join(("--column", f"{theirs}={lacked}"))
            way = f"{lacked} is empty, and {theirs} looks like it: add {option}"
        raise UnreadableDumpError(
            f"{self.path}: none of its {rows:,} rows can be used: {most}; "
            + ("; ".join(self._said) or way)
        )

    def _tell(self, told: Reading, fields: Fields) -> None:
        for opened in self._files:
            for theirs, ours in opened.columns.guessed.items():
                told.notes.append(f"{opened.file.name}: the column {theirs} is read as {ours}")
                told.is_repaired = True
            told.notes += [
                f"{opened.file.name}: {opened.columns.theirs(ours)} is read as {ours}, the column "
                f"{theirs} is not"
                for theirs, ours in opened.columns.beaten.items()
            ]
            told.notes += [
                f"{opened.file.name}: {theirs} looks like {ours} and is not read; to read it, add "
                + shlex.join(("--column", f"{theirs}={ours}"))
                for ours, theirs in opened.likely(self.kind.wanted).items()
            ]
            said = opened.table.tally.said
            told.notes += [f"{opened.file.name}: {sentence}" for sentence in said]
            told.is_repaired |= bool(said)
        for name, reader in fields.items():
            of = f"{self.path_name}: {self._theirs(name)}"
            told.notes += [f"{of}: {sentence}" for sentence in reader.notes()]
            told.is_repaired |= reader.is_repaired()

    def likely_title(self) -> AbsentColumnError | None:
        """Returns the error of items without any text column, of which one looks like a title."""
        for opened in self._files:
            if theirs := opened.likely((col.TITLE,)).get(col.TITLE):
                return AbsentColumnError(
                    opened.file.path, [col.TITLE], opened.table.names, (theirs,)
                )
        return None

    @property
    def path_name(self) -> str:
        """Returns the name of the source for notes."""
        first = self._files[0].file.name
        more = len(self._files) - 1
        return f"{first} and {more} more" if more else first

    def name_of(self, account: FileAccount) -> str:
        """Returns the name of the source in the quarantine."""
        whose = self.kind.holds if self._domain is None else f"{self.kind.holds} of {self._domain}"
        return whose if self._is_one else f"{whose} ({account.file})"

    def _theirs(self, name: str) -> str:
        return self._files[0].columns.theirs(name)


def usable_rows(
    batch: Rows, rules: Mapping[str, pl.Expr], quarantine: Quarantine, name: str
) -> pl.DataFrame:
    """Returns the valid rows of a batch; quarantines and counts the others."""
    usable, bad = parted(batch.rows, rules)
    bad = pl.concat([batch.broken, bad], how="diagonal").sort(ROW)
    quarantine.add(name, bad)
    batch.account.set_aside.update(dict(bad[col.REASON].value_counts().iter_rows()))
    batch.account.kept += usable.height
    return usable


def _opened(file: SourceFile, kind: SourceKind) -> _Opened:
    table = kind.open_table(file.path)
    if file.names_domain and col.DOMAIN in table.names:
        raise UnreadableDumpError(
            f"{file.path} has a column {col.DOMAIN} itself: give it as FILE, not as NAME=FILE"
        )
    if file.partition:
        table = PartitionedTable(table, file.partition)
    names = file.own_names(kind.names, table.names)
    columns = named_columns(file.path, table, names, kind.needed, kind.wanted)
    return _Opened(file, table, columns)


def _without_unclosed(
    rows: pl.DataFrame, repaired: tuple[int, ...]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Quarantines rows with an unclosed quotation mark before an id."""
    names = [name for name in _IDS if name in rows.columns]
    if not repaired:
        return rows, pl.DataFrame(schema={ROW: pl.Int64, col.REASON: pl.String})
    opens = pl.any_horizontal(pl.col(names).str.starts_with('"')).fill_null(value=False)
    is_odd = opens & pl.col(ROW).is_in(list(repaired))
    odd = rows.filter(is_odd).select(ROW, *names, pl.lit(NOT_CLOSED).alias(col.REASON))
    return rows.filter(~is_odd), odd


def _shown(paths: Paths) -> str:
    first, *others = paths_of(paths)
    return f"{first} and {len(others):,} more" if others else first
