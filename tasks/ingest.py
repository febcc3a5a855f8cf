"""Stage 1, dump to dataset: clean, filter, index, order and split (METHOD 6).

Nothing is lost without a count: rows in = events kept + rows dropped by a named rule.
"""

import time
from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from artifacts import columns as col
from artifacts.fingerprint import sha256_of_file
from artifacts.kinds.dataset import (
    DROPPED,
    EVENTS,
    ITEMS,
    QUARANTINE,
    USERS,
    Dataset,
    Split,
    read_dataset,
    write_dataset,
)
from artifacts.manifest import ArtifactRef, Identity, Kind, identity
from artifacts.store import Draft, Store
from tasks.dump.append import (
    ALREADY_THERE,
    Histories,
    NothingNew,
    append_to,
    changes,
    described_by_both,
    previous_dataset,
)
from tasks.dump.dump_config import ITEM_KEY, Catalogue, DumpConfig, Mode, Source
from tasks.dump.event_sieve import Sieve, sifted
from tasks.dump.events import ReadEvents, read_events
from tasks.dump.files import existing_file
from tasks.dump.forms import open_interactions, open_items, require_mapped_columns
from tasks.dump.item_catalogue import TooFewDomains, catalogue_of, has_text, index_of
from tasks.dump.items import read_items
from tasks.dump.normalize import SECOND
from tasks.dump.rows import QUARANTINE_ROWS, Quarantine
from tasks.dump.split import split_events
from tasks.frame.stage import StageResult, logger, run_stage, stage_result

PREVIOUS = "previous"
"""The parent of a dataset that was added to."""

TABLES = (USERS, ITEMS, EVENTS)

OnStep = Callable[[str], None]


@task(name="ingest", task_run_name="ingest", cache_policy=NO_CACHE)
def ingest(dump: DumpConfig, store_root: str) -> StageResult:
    """Returns the dataset artifact of a dump; where it adds nothing, the one it was to add to.

    Raises:
        UnreadableDump, UnknownDomain, TooFewDomains, NothingHeldOut.
    """
    store = Store(store_root)
    started = time.monotonic()
    previous = previous_dataset(store) if dump.mode is Mode.APPEND else None
    earlier = None if previous is None else read_dataset(store, previous)

    def make(draft: Draft) -> None:
        make_dataset(dump, draft, earlier)
        if previous is not None:
            _refuse_no_change(draft, store, previous)

    try:
        return run_stage(store, "ingest", dataset_identity(dump, previous), make)
    except NothingNew:
        assert previous is not None
        return stage_result(store, "ingest", previous, started, reused=True)


def dataset_identity(dump: DumpConfig, previous: ArtifactRef | None = None) -> Identity:
    """The content of the files counts, not where they lie or what they are called."""
    paths = [path for source in dump.files for path in (source.interactions, source.items) if path]
    files = [sha256_of_file(existing_file(path)) for path in paths]
    parents = {} if previous is None else {PREVIOUS: previous}
    return identity(Kind.DATASET, {"files": files, **_settings(dump)}, parents)


def make_dataset(
    dump: DumpConfig,
    draft: Draft,
    previous: Dataset | None = None,
    on_step: OnStep = lambda step: None,
) -> None:
    """Fills a draft with the dataset of a dump, added to a previous one where that is given.

    ``on_step`` is told the name of each step when it is done.
    """
    quarantine = Quarantine()
    for source in dump.files:
        _require_named_columns(source)
    read = read_events(dump, quarantine)
    on_step("read")
    sieve, item_keys, user_ids = _kept(read, dump, previous)
    on_step("order and filter")
    bought = item_keys[np.flatnonzero(np.bincount(sieve.items, minlength=1))]
    try:
        items = _items(dump, quarantine, bought, previous)
    except TooFewDomains as error:
        raise TooFewDomains(f"{error}{_set_aside(quarantine)}") from error
    on_step("catalogue")
    made, notes = _histories(sieve, user_ids, item_keys, items, dump)
    on_step("split")
    _write(draft, made)
    _write_dropped(draft, sieve.dropped | read.dropped, quarantine)
    draft.counts.update(_facts(made, read, previous))
    if previous is not None:
        draft.counts.update(changes(previous, made, sieve.is_new))
    draft.notes.extend(notes + _warnings(quarantine) + _missing_titles(made.items))
    on_step("write")


def _settings(dump: DumpConfig) -> dict[str, object]:
    settings = dump.model_dump(mode="json", exclude={"interactions", "items", "sources"})
    sources = [
        source.model_dump(mode="json", exclude={"interactions", "items"}) for source in dump.sources
    ]
    return {**settings, "sources": sources}


def _require_named_columns(source: Source) -> None:
    if not source.columns:
        return
    files = [(source.interactions, open_interactions(source.interactions, source.form))]
    if source.items is not None:
        files.append((source.items, open_items(source.items, source.form)))
    require_mapped_columns(source.columns, files)


def _kept(
    read: ReadEvents, dump: DumpConfig, previous: Dataset | None
) -> tuple[Sieve, pl.DataFrame, pl.Series]:
    if previous is None:
        events = read.events
        return sifted(events, dump), events.item_keys, events.user_ids
    events, known = append_to(previous, read.events)
    sieve = sifted(events, dump, first_new=len(previous.item_indices))
    sieve.dropped[ALREADY_THERE] = known
    return sieve, events.item_keys, events.user_ids


def _items(
    dump: DumpConfig, quarantine: Quarantine, bought: pl.DataFrame, previous: Dataset | None
) -> pl.DataFrame:
    only = bought if dump.catalogue is Catalogue.BOUGHT else None
    described = read_items(dump, quarantine, only)
    if previous is not None:
        described = described_by_both(previous, described)
    if only is not None:
        described = described.join(only, on=ITEM_KEY, how="semi")
    return catalogue_of(bought, described)


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
    domains = _domains(items, indices)
    splits, notes = split_events(
        dump.split, offsets, sieve.times, domains, users[col.USER_ID], dump.seed
    )
    return Histories(users, items, offsets, indices, sieve.times, splits), notes


def _write(draft: Draft, made: Histories) -> None:
    events = pl.DataFrame(
        {
            col.ITEM_INDEX: made.item_indices,
            col.TIMESTAMP: made.times // SECOND,  # Ordered by microseconds, stored by seconds.
            col.SPLIT: made.splits,
        }
    )
    write_dataset(draft.path, made.users, made.items, events)


def _write_dropped(draft: Draft, dropped: dict[str, int], quarantine: Quarantine) -> None:
    rules = [(rule, rows) for rule, rows in dropped.items() if rows]
    refused = sorted(
        (f"{source}: {why}", rows) for (source, why), rows in quarantine.counts.items()
    )
    table = pl.DataFrame(
        rules + refused, schema={"rule": pl.String, "rows": pl.Int64}, orient="row"
    )
    table.write_parquet(draft.path / DROPPED)
    quarantine.table().write_parquet(draft.path / QUARANTINE)


def _facts(made: Histories, read: ReadEvents, previous: Dataset | None) -> dict[str, int | float]:
    rows_in = read.rows_in + (0 if previous is None else len(previous.item_indices))
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
        **{
            f"{split.name.lower()}_events": int(held_out[split])
            for split in Split
            if split <= Split.TEST or held_out[split]
        },
    }


def _users_in_several_domains(made: Histories) -> int:
    """Counts users whose events are not all of the domain of their first one."""
    domains = _domains(made.items, made.item_indices)
    first = np.repeat(domains[made.offsets[:-1]], np.diff(made.offsets))
    users = np.repeat(np.arange(made.users.height), np.diff(made.offsets))
    return len(np.unique(users[domains != first]))


def _domains(items: pl.DataFrame, indices: NDArray[np.int32]) -> NDArray[np.int64]:
    """Returns the number of each event's domain; items are grouped by domain, numbered from 1."""
    sizes = items.group_by(col.DOMAIN, maintain_order=True).len()["len"].to_numpy()
    return np.searchsorted(np.cumsum(sizes), indices, side="left")


def _warnings(quarantine: Quarantine) -> list[str]:
    total = sum(quarantine.counts.values())
    if total <= QUARANTINE_ROWS:
        return []
    return [
        f"{total:,} rows were set aside; {QUARANTINE} holds the first {QUARANTINE_ROWS:,}, "
        f"{DROPPED} counts all"
    ]


def _missing_titles(items: pl.DataFrame) -> list[str]:
    if items[col.TITLE].null_count() < items.height:
        return []
    told = (
        "no item has a title: nobody gets a profile, and lists show no names. If titles are there "
        f"under another name, say so: --column THEIR_NAME={col.TITLE}"
    )
    logger.warning("ingest: %s", told)
    return [told]


def _set_aside(quarantine: Quarantine) -> str:
    """Returns the most frequent reasons for which rows were set aside, as the end of a sentence."""
    most = [
        f"{why} ({rows:,} of {source})" for (source, why), rows in quarantine.counts.most_common(3)
    ]
    return f"; rows were set aside: {', '.join(most)}" if most else ""


def _refuse_no_change(draft: Draft, store: Store, previous: ArtifactRef) -> None:
    """Raises `NothingNew` where the draft's tables are, byte for byte, those of before."""
    files = store.manifest(previous).files
    if all(sha256_of_file(draft.path / name) == files[name].sha256 for name in TABLES):
        raise NothingNew(str(previous))
