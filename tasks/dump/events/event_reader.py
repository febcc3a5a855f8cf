"""Reading of interactions in batches, into three integer arrays.

Ids are numbered on reading, so an event takes 16 bytes of memory.
"""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from functools import partial
from itertools import chain
from time import monotonic

import polars as pl

from artifacts import columns as col
from artifacts.user_error import UserError
from tasks.dump.dump_config import DumpConfig, Source
from tasks.dump.events.conditions import Condition, PlainField, telling_columns
from tasks.dump.events.event_numbers import EventNumbers, RawEvents
from tasks.dump.fields.field import FieldReader, Fields
from tasks.dump.fields.identifiers import IdField
from tasks.dump.fields.time_units import SECOND, latest
from tasks.dump.fields.times import IN_1970, TimeField
from tasks.dump.merge_mode import Mode
from tasks.dump.naming.dump_formats import INTERACTION_NAMES, open_interactions
from tasks.dump.reading import Reading, Rows, SourceKind, SourceReader, usable_rows
from tasks.dump.rows import Quarantine, parted
from tasks.dump.sources.files import UnreadableDumpError
from tasks.frame.stage import logger

NOT_ASKED_FOR = "domain not selected"
OUTSIDE_WINDOW = "outside the window"

NAMELESS_SHARE = 0.05
"""Minimum share of rows without user and time that is reported."""


class UndeclaredDomainError(UserError, ValueError):
    """A requested domain has no event in the dump."""


@dataclass(frozen=True)
class ReadEvents:
    """Result of reading: events, accounts and notes of the files, and the number of exports
    in one source."""

    events: RawEvents
    told: Reading
    exports: int


def read_events(config: DumpConfig, quarantine: Quarantine) -> ReadEvents:
    """Reads the interactions of all files; unusable rows are quarantined.

    Raises:
        UnreadableDumpError, UndeclaredDomainError.
    """
    numbers = EventNumbers()
    told = Reading()
    domains: Counter[str] = Counter()
    by_order: dict[bool, list[str]] = {True: [], False: []}
    opened = [event_reader(source, config.conditions).exports() for source in config.files]
    for reader in chain.from_iterable(opened):
        found, of_source = reader.read(
            _fields(config.conditions, must_hold=config.mode is not Mode.APPEND),
            _EventPass(reader, config, numbers),
        )
        reader.refuse_nothing_usable(of_source.accounts)
        quarantine.absorb(found.quarantine)
        domains += found.domains
        told.add(of_source)
        told.notes += _told_of_orders(found, of_source, reader.path_name)
        told.notes += _told_of_columns(reader, config.conditions)
        by_order[found.is_order].append(reader.path_name)
    if by_order[True] and by_order[False]:
        told.notes.append(
            f"{', '.join(by_order[True])}: times are an order of events, those of "
            f"{', '.join(by_order[False])} are dates: a user's history begins with the former"
        )
    if not any(account.tally.records for account in told.accounts):
        files = ", ".join(account.file for account in told.accounts)
        raise UnreadableDumpError(
            f"{files} cannot be read: there is no event in it; export it again"
        )
    _require_domains(config, domains)
    return ReadEvents(numbers.events(), told, max(map(len, opened)))


@dataclass
class _FoundEvents:
    quarantine: Quarantine = field(default_factory=Quarantine)
    domains: Counter[str] = field(default_factory=Counter)
    nameless: int = 0
    """Rows of an item without user and time."""
    is_order: bool = False
    """Whether times are an order of events instead of dates."""


def event_reader(source: Source, conditions: Sequence[Condition] = ()) -> SourceReader:
    """Opens the files of a source and reads their headers; raises `UnreadableDumpError`."""
    asked = tuple(each.column for each in conditions)
    needed = [col.USER_ID, col.ITEM_ID, col.TIMESTAMP]
    if source.domain is None:
        needed.append(col.DOMAIN)
    kind = SourceKind(
        holds="interactions",
        open_table=partial(open_interactions, form=source.form),
        names={**INTERACTION_NAMES[source.form], **source.columns},
        needed=tuple(needed),
        wanted=asked,
    )
    reader = SourceReader(source, source.interactions, kind)
    reader.require(asked, "--where")
    return reader


def _fields(conditions: Sequence[Condition], *, must_hold: bool) -> dict[str, FieldReader]:
    ids = (col.USER_ID, col.ITEM_ID, col.DOMAIN)
    by_column: dict[str, tuple[Condition, ...]] = {}
    for each in conditions:
        by_column[each.column] = (*by_column.get(each.column, ()), each)
    return {
        **{column: PlainField(of_it, must_hold) for column, of_it in by_column.items()},
        **{name: IdField(name) for name in ids},
        col.TIMESTAMP: TimeField(),
    }


def _told_of_columns(reader: SourceReader, conditions: Sequence[Condition]) -> list[str]:
    """Returns notes about unread columns that may distinguish events from other rows, and about
    conditions on columns of other exports."""
    kept = [
        f"{reader.path_name}: there is no column {each.column}, so --where {each.text!r} drops no "
        "row of it"
        for each in conditions
        if each.column not in {*reader.columns, col.DOMAIN}
    ]
    return kept + [
        f"{reader.path_name}: {name} is not read, every row is an event; to keep some rows, add "
        + shlex.join(("--where", example))
        for name, example in telling_columns(reader.unread)
    ]


class _EventPass:
    """Consumes all batches of a source; a second pass discards the first."""

    def __init__(self, reader: SourceReader, config: DumpConfig, numbers: EventNumbers) -> None:
        self._reader = reader
        self._config = config
        self._numbers = numbers
        self._start = numbers.mark()

    def __call__(self, batches: Iterator[Rows], fields: Fields) -> _FoundEvents:
        from tasks.frame.progress import LOG_EVERY_SECONDS  # Imports Prefect.

        self._numbers.go_back(self._start)
        found = _FoundEvents()
        times = fields[col.TIMESTAMP]
        assert isinstance(times, TimeField)
        rows_read, shown_at = 0, monotonic()
        for batch in batches:
            rows_read += batch.rows.height
            if monotonic() - shown_at > LOG_EVERY_SECONDS:
                shown_at = monotonic()
                logger.info("ingest: %s rows read, now of %s", f"{rows_read:,}", batch.account.file)
            rules = _rules(times)
            name = self._reader.name_of(batch.account)
            usable = usable_rows(batch, rules, found.quarantine, name)
            found.nameless += int(batch.rows.select(_IS_NAMELESS.sum()).item())
            for domain, count in usable[col.DOMAIN].value_counts().iter_rows():
                found.domains[domain] += count
            self._numbers.add(_chosen(usable, self._config, batch), batch.account)
        found.is_order = times.is_order
        if times.is_order and (self._config.since or self._config.until):
            raise UnreadableDumpError(
                f"{self._reader.path}: its times are small numbers, such as "
                f"{times.any_number!r}, and no dates; leave out --since and --until, or give "
                "the file dates"
            )
        return found


_IS_NAMELESS = (
    pl.col(col.USER_ID).is_null() & pl.col(col.TIMESTAMP).is_null() & ~pl.col(col.ITEM_ID).is_null()
)


def _told_of_orders(found: _FoundEvents, told: Reading, source: str) -> list[str]:
    """Returns a note about rows that belong to the row above."""
    rows = sum(account.tally.records for account in told.accounts)
    if found.nameless < max(1, NAMELESS_SHARE * rows):
        return []
    return [
        f"{source}: {found.nameless:,} of {rows:,} rows have an item_id and neither user_id nor "
        "timestamp. Exports of orders, as Shopify's, write both in the first row of an order only: "
        "fill them down (pandas: df[[USER, TIME]].ffill())"
    ]


def _rules(times: TimeField) -> Mapping[str, pl.Expr]:
    moment = pl.col(col.TIMESTAMP)
    rules = {
        "no user_id": pl.col(col.USER_ID).is_null(),
        "no item_id": pl.col(col.ITEM_ID).is_null(),
        "no domain": pl.col(col.DOMAIN).is_null(),
        "no usable timestamp": moment.is_null(),
        "timestamp in the future": moment > latest(),
    }
    if times.is_dated:
        rules["timestamp of zero or less"] = moment <= 0
    if times.is_finer:
        rules["timestamp in 1970"] = moment < IN_1970
    return rules


def _chosen(rows: pl.DataFrame, config: DumpConfig, batch: Rows) -> pl.DataFrame:
    """Returns the rows of the selected domains and days that fulfil all conditions; counts the
    others."""
    day = 86_400 * SECOND
    rules: dict[str, pl.Expr] = {}
    if config.domains is not None:
        rules[NOT_ASKED_FOR] = ~pl.col(col.DOMAIN).is_in(list(config.domains))
    if config.since is not None:
        rules[OUTSIDE_WINDOW] = pl.col(col.TIMESTAMP) < _midnight(config.since)
    if config.until is not None:
        late = pl.col(col.TIMESTAMP) >= _midnight(config.until) + day
        rules[OUTSIDE_WINDOW] = rules.get(OUTSIDE_WINDOW, pl.lit(False)) | late
    rules |= {each.rule: ~each.holds() for each in config.conditions if each.column in rows.columns}
    if not rules:
        return rows
    kept, others = parted(rows, rules)
    for rule, count in others[col.REASON].value_counts().iter_rows():
        batch.account.drop(rule, count)
    return kept


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp()) * SECOND


def _require_domains(config: DumpConfig, found: Counter[str]) -> None:
    unknown = [domain for domain in config.domains or () if not found[domain]]
    if unknown:
        most = sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))[:20]
        there = ", ".join(f"{domain} ({count:,} events)" for domain, count in most)
        raise UndeclaredDomainError(
            f"the dump has no event of the domain {', '.join(unknown)}; correct --domain: "
            f"it has {there or 'none'}"
        )
