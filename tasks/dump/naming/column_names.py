"""Mapping of a file's columns to standard names."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from artifacts import columns as col
from tasks.dump.dump_config import ITEM_KEY
from tasks.dump.naming.conversions import a_row_an_element, joined, numbered, way_to_a_header
from tasks.dump.naming.likely_names import likely_column
from tasks.dump.readers.table import LIST, Table
from tasks.dump.sources.files import UnreadableDumpError
from tasks.dump.sources.source_files import SourceFile

_LONG_VALUE = re.compile(r"(?!.*::)\d[\d\s:.,/TZ+-]{7,}")
"""A time or a long number, which is certainly no name."""

_LISTED_ID = re.compile(r"id|sku", re.IGNORECASE)
"""End of the name of an id of the objects in a list."""

_ORDER = ("orderid", "ordernumber", "orderno", "basketid", "invoiceno")
"""Plain names of a column that rows of an order and the order have in common."""

LISTED = (col.TITLE, col.BRAND, col.CATEGORIES, col.DESCRIPTION, col.IMAGE)
"""Columns of items that may be fields of objects in a list."""

_ROW_ID = "id"
"""Plain name of the column of a row's own id."""

_ATOMIC = re.compile(r":(?:token|float)(?:_seq)?$")
"""RecBole's types of columns."""


@dataclass(frozen=True)
class NamedColumns:
    """``chosen``: file columns (keys) and standard names (values). ``guessed``: those equal
    without case and punctuation. ``beaten``: those of another column's standard name."""

    chosen: dict[str, str]
    guessed: dict[str, str]
    beaten: dict[str, str]

    def theirs(self, ours: str) -> str:
        """Returns the file's name of a standard column."""
        return next((name for name, mine in self.chosen.items() if mine == ours), ours)


class AbsentColumnError(UnreadableDumpError):
    """A file lacks columns; ``renamed``: options that map the likely columns."""

    def __init__(
        self, path: str, absent: list[str], names: tuple[str, ...], free: tuple[str, ...]
    ) -> None:
        flat = [name for name in free if LIST not in name]
        listed_ones = [name for name in free if LIST in name]
        likely = {name: likely_column(name, flat) for name in absent}
        inside = [
            theirs
            for name in absent
            if likely[name] is None and (theirs := likely_column(name, listed_ones))
        ] or [
            theirs
            for theirs in listed_ones
            if likely.get(col.ITEM_ID, theirs) is None and _LISTED_ID.search(theirs[-3:])
        ]
        are_values = any(map(_LONG_VALUE.fullmatch, names))
        found = {} if are_values else {theirs: ours for ours, theirs in likely.items() if theirs}
        pairs = [f"{theirs}={name}" for theirs, name in found.items()]
        self.renamed = tuple(part for pair in pairs for part in ("--column", pair))
        if found:
            alike = ", ".join(f"{theirs} looks like {name}" for theirs, name in found.items())
            way = f"{alike}: add {shlex.join(self.renamed)}"
        elif col.USER_ID in absent and col.TITLE in map(plain_name, names):
            way = "it looks like a file of items: are --interactions and --items swapped?"
        else:
            way = (
                col.ITEM_ID in absent and way_to_a_header(path, names)
            ) or f"if {absent[0]} has another name, map it: --column NAME_IN_FILE={absent[0]}"
            if absent == [col.TIMESTAMP]:
                way += f"; if there are no times but the rows are in order, {numbered(path)}"
        order = order_column(names) if likely.get(col.USER_ID, "") is None else None
        if order:
            way += f"; if {col.USER_ID} is in a file of orders, join them: {joined(path, order)}"
        if inside:
            way = f"{a_row_an_element(path, inside[0])}" + (f"; {way}" if found else "")
        elif absent == [col.DOMAIN] and not found:
            way += "; or name the domain of each file: NAME=FILE in place of FILE"
        super().__init__(
            f"{path} has no column {', '.join(absent)} (it has {listed(names)}); {way}"
        )


def order_column(names: Sequence[str]) -> str | None:
    """Returns the column that names a row's order, None without one."""
    return next((name for name in names if plain_name(name) in _ORDER), None)


def named_columns(
    path: str,
    table: Table,
    names: Mapping[str, str],
    needed: Iterable[str],
    wanted: Iterable[str],
) -> NamedColumns:
    """Returns the mapping of the file's columns.

    Args:
        path: of the file, for messages.
        table: the file.
        names: configured mapping to standard names.
        needed: required columns.
        wanted: optional columns.

    Raises:
        UnreadableDumpError: a required column is missing, two columns would be equal, or the table
            has none.
    """
    if not table.names:
        raise UnreadableDumpError(
            f"{path} cannot be read: no row of it is an object with named fields; write one JSON "
            "object per line, or correct the ending of the file"
        )
    wanted = dict.fromkeys((*needed, *wanted))
    # A name that was given for a column of one kind of file beats a column of that name. An item's
    # id and domain are in both kinds, where the column may be meant for the other file alone.
    # A field of an object of that name is meant for the file with the object.
    given = {
        ours
        for theirs, ours in names.items()
        if theirs in table.names and (ours not in ITEM_KEY or theirs.startswith(f"{ours}."))
    }
    ours = {
        theirs: names.get(theirs, theirs)
        for theirs in table.names
        if theirs in names or theirs not in given
    }
    chosen = {theirs: name for theirs, name in ours.items() if name in wanted}
    if inside := next(
        (theirs for theirs, name in chosen.items() if LIST in theirs and name not in LISTED), None
    ):
        raise UnreadableDumpError(f"{path}: {a_row_an_element(path, inside)}")
    guessed = {}
    for name in wanted:
        if name not in chosen.values():
            alike = [
                theirs
                for theirs in ours
                if theirs not in chosen and plain_name(theirs) == plain_name(name)
            ]
            if len(alike) == 1:
                guessed[alike[0]] = name
    chosen |= guessed
    # Beside a column of item ids, an ``id`` is that of the row: of an order, or of a variant.
    others = {name for theirs, name in chosen.items() if plain_name(theirs) != _ROW_ID}
    beaten = {
        theirs: name
        for theirs, name in chosen.items()
        if plain_name(theirs) == _ROW_ID and name in others
    }
    chosen = {theirs: name for theirs, name in chosen.items() if theirs not in beaten}
    doubled = [name for name, count in Counter(chosen.values()).items() if count > 1]
    if doubled:
        both = ", ".join(theirs for theirs, name in chosen.items() if name == doubled[0])
        theirs = next(theirs for theirs, name in chosen.items() if name == doubled[0])
        raise UnreadableDumpError(
            f"{path}: the columns {both} would all be {doubled[0]}; name one, for a domain "
            "NAME=FILE " + shlex.join(("as", "--column", f"NAME:{theirs}={doubled[0]}"))
        )
    for theirs, count in Counter(table.names).items():
        if count > 1 and theirs in chosen:
            raise UnreadableDumpError(
                f"{path}: {count} columns are called {theirs}; rename all but one"
            )
    absent = [name for name in needed if name not in chosen.values()]
    if absent:
        free = tuple(name for name in ours if name not in chosen)
        raise AbsentColumnError(path, absent, table.names, free)
    beaten |= {
        name: name
        for name in given.intersection(table.names, chosen.values())
        if name not in chosen
    }
    return NamedColumns(chosen, guessed, beaten)


def require_named(named: Mapping[str, str], files: Iterable[tuple[SourceFile, Table]]) -> None:
    """Raises `UnreadableDumpError` if a configured column is in none of the files."""
    files = list(files)
    unknown = [
        name for name in named if not any(file.theirs(name) in table.names for file, table in files)
    ]
    if unknown:
        for file, table in files:
            for inside in (name for name in table.names if name.replace(LIST, "") in unknown):
                raise UnreadableDumpError(f"{file.path}: {a_row_an_element(file.path, inside)}")
        there = "; ".join(f"{file.path} has {listed(table.names)}" for file, table in files)
        raise UnreadableDumpError(
            f"no file has a column {', '.join(unknown)}; correct --column: {there}"
        )


def plain_name(name: str) -> str:
    """Returns the letters and digits of a name without its RecBole type, case-folded."""
    return re.sub(r"[\W_]", "", _ATOMIC.sub("", name)).casefold()


def listed(names: Sequence[str]) -> str:
    """Returns a bounded list of names for messages."""
    shown = [name if len(name) <= 40 else f"{name[:40]}…" for name in names[:20]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")
