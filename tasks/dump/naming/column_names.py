"""Mapping of a file's columns to standard names."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from artifacts import columns as col
from tasks.dump.dump_config import ITEM_KEY
from tasks.dump.naming.likely_names import likely_column
from tasks.dump.readers.table import LIST, Table
from tasks.dump.sources.files import UnreadableDumpError, form_of

TYPED = (".parquet", ".pq", ".jsonl", ".ndjson", ".json", ".feather", ".arrow", ".ipc")
"""Endings of forms whose columns have names in the file."""

_VALUE = re.compile(r"\d[\d\s:.,/TZ+-]*|\w*\d{3,}")
"""A number, a time or a numbered id, which names no column."""

_LONG_VALUE = re.compile(r"(?!.*::)\d[\d\s:.,/TZ+-]{7,}")
"""A time or a long number, which is certainly no name."""

_NO_HEADER = "its first line holds values: write a line with the columns' names above it"

_WIDE = "::"
"""MovieLens' separator."""

_QUOTED_LINE = re.compile(r"[^,;\t]+([,;\t])[^,;\t]+\1[^,;\t]+.*")
"""A whole header in one name."""

LISTED = (col.TITLE, col.BRAND, col.CATEGORIES, col.DESCRIPTION, col.IMAGE)
"""Columns of items that may be fields of objects in a list."""

_ATOMIC = re.compile(r":(?:token|float)(?:_seq)?$")
"""RecBole's types of columns."""


@dataclass(frozen=True)
class NamedColumns:
    """``chosen``: file columns (keys) and standard names (values). ``guessed``: those equal
    without case and punctuation. ``replaced``: those of a given name in place of a column of that
    name."""

    chosen: dict[str, str]
    guessed: dict[str, str]
    replaced: dict[str, str]

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
        elif any(_WIDE in name for name in names):
            way = (
                f"its separator is {_WIDE!r}, and one character is needed: "
                "sed 's/::/\\t/g' FILE > NEW.tsv; the first line must name the columns"
            )
        elif any(map(_QUOTED_LINE.fullmatch, names)):
            way = (
                "each line is in quotation marks as a whole; remove them: "
                'sed \'s/^"//; s/"$//; s/""/"/g\' FILE > NEW.csv'
            )
        elif len(names) == 1 and not form_of(path).endswith(TYPED):
            way = "its first line must name the columns, separated by a comma, ; tab or |"
        elif col.ITEM_ID in absent and any(map(_VALUE.fullmatch, names)):
            way = _NO_HEADER
        else:
            way = f"if {absent[0]} has another name, map it: --column NAME_IN_FILE={absent[0]}"
        if inside:
            way = f"{_a_row_an_element(path, inside[0])}" + (f"; {way}" if found else "")
        elif absent == [col.DOMAIN] and not found:
            way += "; or name the domain of each file: NAME=FILE in place of FILE"
        super().__init__(
            f"{path} has no column {', '.join(absent)} (it has {listed(names)}); {way}"
        )


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
        raise UnreadableDumpError(f"{path}: {_a_row_an_element(path, inside)}")
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
    doubled = [name for name, count in Counter(chosen.values()).items() if count > 1]
    if doubled:
        both = ", ".join(theirs for theirs, name in chosen.items() if name == doubled[0])
        raise UnreadableDumpError(f"{path}: the columns {both} would all be {doubled[0]}; name one")
    for theirs, count in Counter(table.names).items():
        if count > 1 and theirs in chosen:
            raise UnreadableDumpError(
                f"{path}: {count} columns are called {theirs}; rename all but one"
            )
    absent = [name for name in needed if name not in chosen.values()]
    if absent:
        free = tuple(name for name in ours if name not in chosen)
        raise AbsentColumnError(path, absent, table.names, free)
    beaten = given.intersection(table.names)
    replaced = {
        theirs: name for theirs, name in chosen.items() if name in beaten and theirs != name
    }
    return NamedColumns(chosen, guessed, replaced)


def _a_row_an_element(path: str, name: str) -> str:
    """Returns the way to a file with one row per element of a list of objects."""
    field, _, inner = name.partition(LIST)
    rows = f"SELECT * REPLACE (unnest({field}) AS {field})"
    if not form_of(path).endswith((".parquet", ".pq")):
        rows = f"jq -c '.{field}[] as $x | .{field} = $x' FILE > rows.jsonl"
    return (
        f"{name} lies in a list, so that a row holds several: write one row per element ({rows}), "
        f"where it is the column {field}{inner}"
    )


def require_named(named: Mapping[str, str], files: Iterable[tuple[str, Table]]) -> None:
    """Raises `UnreadableDumpError` if a configured column is in none of the files."""
    files = list(files)
    unknown = [name for name in named if not any(name in table.names for _, table in files)]
    if unknown:
        for path, table in files:
            for inside in (name for name in table.names if name.replace(LIST, "") in unknown):
                raise UnreadableDumpError(f"{path}: {_a_row_an_element(path, inside)}")
        there = "; ".join(f"{path} has {listed(table.names)}" for path, table in files)
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
