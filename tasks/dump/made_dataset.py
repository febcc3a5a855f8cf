"""From input files to the tables of a dataset: read, filter, order, index, split (METHOD 6).

Every row is kept, dropped by a named rule, or quarantined; the sums are checked before writing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.drafts import Draft
from artifacts.kinds.dataset import ACCOUNTS, DROPPED, QUARANTINE, Dataset, Split, write_dataset
from tasks.dump.account import FileAccount, table_of
from tasks.dump.append import (
    ALREADY_THERE,
    Histories,
    append_to,
    changes,
    described_by_both,
    event_domains,
)
from tasks.dump.dataset_notes import dataset_notes, emptied_files, reasons_of
from tasks.dump.dump_config import ITEM_KEY, CatalogueScope, DumpConfig
from tasks.dump.events.event_reader import NOT_ASKED_FOR, OUTSIDE_WINDOW, ReadEvents, read_events
from tasks.dump.events.event_sieve import Sieve, sifted
from tasks.dump.events.split import split_events
from tasks.dump.fields.time_units import SECOND
from tasks.dump.history_notes import history_notes
from tasks.dump.items.item_match import ItemMatch, matched
from tasks.dump.items.item_reader import (
    ReadItems,
    TooFewDomainsError,
    catalogue_of,
    has_text,
    index_of,
    read_items,
)
from tasks.dump.naming.headers import require_named_columns
from tasks.dump.reading import Reading
from tasks.dump.rows import AreForgotten, Quarantine, nobody

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class MadeDataset:
    """Content of a dataset artifact; ``is_repaired``: whether an older version would read the files
    differently."""

    histories: Histories
    dropped: dict[str, int]
    quarantine: Quarantine
    accounts: list[FileAccount]
    counts: dict[str, int | float]
    notes: list[str]
    is_repaired: bool

    def write(self, draft: Draft) -> None:
        """Fills a draft with the tables, the counts and the notes."""
        made = self.histories
        events = pl.DataFrame(
            {
                col.ITEM_INDEX: made.item_indices,
                col.TIMESTAMP: made.times // SECOND,  # Ordered by microseconds, stored by seconds.
                col.SPLIT: made.splits,
            }
        )
        write_dataset(draft.path, made.users, made.items, events)
        _dropped_table(self.dropped, self.quarantine).write_parquet(draft.path / DROPPED)
        self.quarantine.table().write_parquet(draft.path / QUARANTINE)
        table_of(self.accounts).write_parquet(draft.path / ACCOUNTS)
        draft.counts.update(self.counts)
        draft.notes.extend(self.notes)


def made_from(
    dump: DumpConfig,
    previous: Dataset | None = None,
    on_step: OnStep = lambda step: None,
    forgotten: AreForgotten = nobody,
) -> MadeDataset:
    """Returns the dataset of a dump, merged with a previous one if given.

    ``forgotten`` tests ids for forgotten users. ``on_step`` is called with the name of each
    finished step.

    Raises:
        UnreadableDumpError, UndeclaredDomainError, TooFewDomainsError, NothingHeldOutError.
        LostRowsError: a defect of the program.
    """
    quarantine = Quarantine(forgotten)
    for source in dump.files:
        require_named_columns(source)
    read = read_events(dump, quarantine)
    on_step("read")
    events, known = (read.events, 0) if previous is None else append_to(previous, read.events)
    sieve, item_keys = sifted(events, dump, forgotten), events.item_keys
    if previous is not None:
        sieve.dropped[ALREADY_THERE] = known
    on_step("order and filter")
    bought = item_keys[np.flatnonzero(np.bincount(sieve.items, minlength=1))]
    try:
        items, described, match = _items(dump, quarantine, bought, previous)
    except TooFewDomainsError as error:
        emptied = emptied_files(read.told.accounts)
        raise TooFewDomainsError(f"{emptied}{error}{reasons_of(quarantine)}") from error
    on_step("catalogue")
    made, split_notes = _histories(sieve, events.user_ids, item_keys, items, dump)
    on_step("split")
    told = Reading()
    told.add(read.told)
    told.add(described.told)
    for account in told.accounts:
        account.require_balance()
    counts = _facts(made, read, match, previous)
    if previous is not None:
        counts.update(changes(previous, made, sieve.is_new))
    notes = [
        *split_notes,
        *told.notes,
        *match.notes,
        *dataset_notes(quarantine, told.accounts, made.users, made.items),
        *history_notes(made, int(counts["users_in_several_domains"]), read.exports),
    ]
    dropped = dict(sieve.dropped)
    for rule in (NOT_ASKED_FOR, OUTSIDE_WINDOW, *(each.rule for each in dump.conditions)):
        dropped[rule] = sum(account.dropped[rule] for account in read.told.accounts)
    return MadeDataset(made, dropped, quarantine, told.accounts, counts, notes, told.is_repaired)


def _items(
    dump: DumpConfig, quarantine: Quarantine, bought: pl.DataFrame, previous: Dataset | None
) -> tuple[pl.DataFrame, ReadItems, ItemMatch]:
    only = bought if dump.catalogue is CatalogueScope.BOUGHT else None
    read = read_items(dump, quarantine, only)
    items, keys = read.items, read.described
    if previous is not None:
        items = described_by_both(previous, items)
        earlier = previous.items.filter(has_text()).select(keys.columns)
        keys = pl.concat([keys, earlier]).unique()
    if only is not None:
        items = items.join(only, on=ITEM_KEY, how="semi")
    catalogue = catalogue_of(bought, items)
    return catalogue, read, matched(bought, keys)


def _histories(
    sieve: Sieve,
    user_ids: pl.Series,
    item_keys: pl.DataFrame,
    items: pl.DataFrame,
    dump: DumpConfig,
) -> tuple[Histories, list[str]]:
    lengths = np.bincount(sieve.users, minlength=len(user_ids))
    present = np.flatnonzero(lengths)
    users = pl.DataFrame(
        {
            col.USER_ID: user_ids.gather(present),
            "events": pl.Series(lengths[present], dtype=pl.UInt32),
        }
    ).with_row_index(col.USER_INDEX)
    offsets = np.concatenate([[0], np.cumsum(lengths[present])]).astype(np.int64)
    indices = index_of(item_keys, items)[sieve.items]
    domains = event_domains(items, indices)
    splits, notes = split_events(
        dump.split, offsets, sieve.times, domains, users[col.USER_ID], dump.seed
    )
    return Histories(users, items, offsets, indices, sieve.times, splits), notes


def _dropped_table(dropped: dict[str, int], quarantine: Quarantine) -> pl.DataFrame:
    rules = [(rule, rows) for rule, rows in dropped.items() if rows]
    refused = sorted(
        (f"{source}: {why}", rows) for (source, why), rows in quarantine.counts.items()
    )
    return pl.DataFrame(rules + refused, schema={"rule": pl.String, "rows": pl.Int64}, orient="row")


def _facts(
    made: Histories, read: ReadEvents, match: ItemMatch, previous: Dataset | None
) -> dict[str, int | float]:
    rows_in = sum(account.tally.records for account in read.told.accounts)
    rows_in += 0 if previous is None else len(previous.item_indices)
    held_out = np.bincount(made.splits, minlength=len(Split))
    bought = int(np.count_nonzero(np.bincount(made.item_indices)))
    return {
        "rows_in": rows_in,
        "events": len(made.item_indices),
        "rows_dropped": rows_in - len(made.item_indices),
        "users": made.users.height,
        "users_in_several_domains": _users_in_several_domains(made),
        "items": made.items.height,
        "items_without_text": made.items.filter(~has_text()).height,
        "items_never_bought": made.items.height - bought,
        "items_not_described": match.bought - match.met,
        **{
            f"{split.name.lower()}_events": int(held_out[split])
            for split in Split
            if split <= Split.TEST or held_out[split]
        },
    }


def _users_in_several_domains(made: Histories) -> int:
    """Returns the number of users with events in several domains."""
    domains = event_domains(made.items, made.item_indices)
    first = np.repeat(domains[made.offsets[:-1]], np.diff(made.offsets))
    users = np.repeat(np.arange(made.users.height), np.diff(made.offsets))
    return len(np.unique(users[domains != first]))
