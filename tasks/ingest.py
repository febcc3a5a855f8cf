"""Stage 1, dump to dataset: clean, filter, index, order and split (METHOD 6).

Nothing is lost without a count: rows in = events kept + rows dropped by a named rule.
Equal timestamps keep the dump's order (METHOD 7.16).
"""

import hashlib

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from artifacts import columns as col
from artifacts.dataset import DROPPED, QUARANTINE, Split, write_dataset
from artifacts.fingerprint import sha256_of_file
from artifacts.manifest import Identity, Kind, identity
from artifacts.store import Draft, Store
from prompts.render import one_line
from tasks.dump import ITEM_KEY, DumpConfig, RawDump, Repeats, read_dump
from tasks.dump_columns import SECOND
from tasks.dump_files import existing_file
from tasks.stage import StageResult, run_stage

TITLE_CHARACTERS = 300
HELD_OUT_EVENTS = 2
"""Leave-one-out takes a user's last two events, and leaves users with fewer than three whole."""


class TooFewDomains(ValueError):
    """The dump has events in fewer than two domains after filtering."""


class Sieve:
    """Filters events by named rules and counts what each one drops."""

    def __init__(self, events: pl.DataFrame) -> None:
        self.events = events
        self.dropped: dict[str, int] = {}

    def keep(self, rule: str, condition: pl.Expr) -> None:
        """Keeps the rows where ``condition`` holds; the others are counted under ``rule``."""
        kept = self.events.filter(condition)
        self.dropped[rule] = self.dropped.get(rule, 0) + self.events.height - kept.height
        self.events = kept


@task(name="ingest", task_run_name="ingest", cache_policy=NO_CACHE)
def ingest(dump: DumpConfig, store_root: str) -> StageResult:
    """Returns the dataset artifact of a dump; raises `UnreadableDump`, `TooFewDomains`."""
    store = Store(store_root)
    return run_stage(
        store, "ingest", dataset_identity(dump), lambda draft: make_dataset(dump, draft)
    )


def dataset_identity(dump: DumpConfig) -> Identity:
    """The content of the files counts, not where they lie or what they are called."""
    paths = [path for path in (dump.interactions, dump.items) if path is not None]
    files = [sha256_of_file(existing_file(path)) for path in paths]
    settings = dump.model_dump(mode="json", exclude={"interactions", "items"})
    return identity(Kind.DATASET, {"files": files, **settings}, parents={})


def make_dataset(dump: DumpConfig, draft: Draft) -> None:
    """Fills a draft with the dataset of a dump."""
    raw = read_dump(dump)
    sieve = _filtered(raw, dump)
    items = _catalogue(sieve.events, raw.items, dump)
    users = (
        sieve.events.group_by(col.USER_ID).agg(pl.len().alias("events")).sort(col.USER_ID)
    ).with_row_index(col.USER_INDEX)
    # Ordered by microseconds, stored by seconds.
    in_seconds = sieve.events.with_columns(pl.col(col.TIMESTAMP) // SECOND)
    events = _with_splits(_indexed(in_seconds, users, items))
    write_dataset(draft.path, users, items, events)
    _write_dropped(draft, sieve, raw.quarantine)
    draft.counts.update(_facts(users, items, sieve.events, raw))


def _filtered(raw: RawDump, dump: DumpConfig) -> Sieve:
    sieve = Sieve(raw.interactions)
    if dump.domains is not None:
        sieve.keep("domain not asked for", pl.col(col.DOMAIN).is_in(list(dump.domains)))
    sieve.keep(
        "repeated row",
        pl.struct(col.USER_ID, col.DOMAIN, col.ITEM_ID, col.TIMESTAMP).is_first_distinct(),
    )
    sieve.events = sieve.events.sort(col.USER_ID, col.TIMESTAMP, "row")
    if dump.repeats is Repeats.FIRST:
        sieve.keep(
            "item chosen before",
            pl.struct(col.USER_ID, col.DOMAIN, col.ITEM_ID).is_first_distinct(),
        )
    if dump.max_users is not None:
        sample = _sampled_users(sieve.events, dump.max_users, dump.seed)
        sieve.keep("user not in the sample", pl.col(col.USER_ID).is_in(sample.implode()))
    _keep_cores(sieve, dump)
    return sieve


def _keep_cores(sieve: Sieve, dump: DumpConfig) -> None:
    """Drops until both cores hold: dropping an item can leave a user short, and the reverse."""
    before = -1
    while sieve.events.height != before:
        before = sieve.events.height
        sieve.keep("item below its core", pl.len().over(ITEM_KEY) >= dump.item_core)
        sieve.keep("user below its core", pl.len().over(col.USER_ID) >= dump.user_core)


def _sampled_users(events: pl.DataFrame, count: int, seed: int) -> pl.Series:
    """Users in the order of a seeded hash of their id: a larger sample contains a smaller one."""
    users = events[col.USER_ID].unique()
    draw = [hashlib.sha256(f"{seed}:{user}".encode()).hexdigest() for user in users]
    return users.gather(pl.Series(draw).arg_sort()[:count])


def _catalogue(events: pl.DataFrame, described: pl.DataFrame, dump: DumpConfig) -> pl.DataFrame:
    """All items that were bought or described, described text attached, indexed by domain."""
    if dump.domains is not None:
        described = described.filter(pl.col(col.DOMAIN).is_in(list(dump.domains)))
    bought = events.select(ITEM_KEY).unique()
    _require_two_domains(bought)
    items = (
        pl.concat([bought, described.select(ITEM_KEY)])
        .unique()
        .join(described, on=ITEM_KEY, how="left")
        .sort(ITEM_KEY)
        .with_row_index(col.ITEM_INDEX, offset=1)
    )
    return items.with_columns(_clean_titles(items[col.TITLE]))


def _require_two_domains(bought: pl.DataFrame) -> None:
    domains = sorted(bought[col.DOMAIN].unique())
    if len(domains) < 2:
        raise TooFewDomains(
            f"the dump has events in {len(domains)} domain(s) ({', '.join(domains) or 'none'}) "
            "after filtering; bridging domains needs at least two in the column 'domain'"
        )


def _clean_titles(titles: pl.Series) -> pl.Series:
    clean = titles.map_elements(
        lambda title: one_line(title, TITLE_CHARACTERS) or None, return_dtype=pl.String
    )
    return clean.alias(col.TITLE)


def _indexed(events: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    return events.join(
        users.select(col.USER_ID, col.USER_INDEX), on=col.USER_ID, maintain_order="left"
    ).join(items.select(*ITEM_KEY, col.ITEM_INDEX), on=ITEM_KEY, maintain_order="left")


def _with_splits(events: pl.DataFrame) -> pl.DataFrame:
    """Leave-one-out: a user's last event tests, the one before validates (METHOD 6)."""
    from_end = pl.int_range(pl.len(), 0, -1).over(col.USER_INDEX)
    long_enough = pl.len().over(col.USER_INDEX) > HELD_OUT_EVENTS
    split = (
        pl.when(long_enough & (from_end == 1))
        .then(int(Split.TEST))
        .when(long_enough & (from_end == HELD_OUT_EVENTS))
        .then(int(Split.VALIDATION))
        .otherwise(int(Split.TRAIN))
    )
    return events.with_columns(split.alias(col.SPLIT))


def _write_dropped(draft: Draft, sieve: Sieve, quarantine: pl.DataFrame) -> None:
    reasons = quarantine.group_by("source", col.REASON).len("rows").sort("source", col.REASON)
    refused = [(f"{source}: {reason}", rows) for source, reason, rows in reasons.iter_rows()]
    rules = [(rule, rows) for rule, rows in sieve.dropped.items() if rows]
    table = pl.DataFrame(
        rules + refused, schema={"rule": pl.String, "rows": pl.Int64}, orient="row"
    )
    table.write_parquet(draft.path / DROPPED)
    quarantine.write_parquet(draft.path / QUARANTINE)


def _facts(
    users: pl.DataFrame, items: pl.DataFrame, events: pl.DataFrame, raw: RawDump
) -> dict[str, int | float]:
    domains_of_user = events.group_by(col.USER_ID).agg(pl.col(col.DOMAIN).n_unique())
    bought = events.select(ITEM_KEY).unique().height
    has_text = pl.any_horizontal(
        pl.col(col.TITLE, col.BRAND, col.DESCRIPTION).is_not_null(),
        pl.col(col.CATEGORIES).list.len() > 0,
    ).fill_null(value=False)
    return {
        "rows_in": raw.rows_in,
        "events": events.height,
        "rows_dropped": raw.rows_in - events.height,
        "users": users.height,
        "users_in_several_domains": domains_of_user.filter(pl.col(col.DOMAIN) > 1).height,
        "items": items.height,
        "items_without_text": items.filter(~has_text).height,
        "items_never_bought": items.height - bought,
    }
