"""Notes on a dataset: quarantined rows, and content that hardly suffices for a model."""

import polars as pl

from artifacts import columns as col
from artifacts.kinds.dataset import DROPPED, QUARANTINE
from tasks.dump.account import FileAccount
from tasks.dump.items.item_reader import has_text
from tasks.dump.rows import QUARANTINE_ROWS, Quarantine
from tasks.frame.stage import logger

_MOST_REASONS = 3
_MOST_FILES = 5

_DOMINANT_EVENTS, _DOMINANT_SHARE, _DOMINANT_LEAD = 20, 0.02, 3
"""Thresholds of a dominant user: events, share of all events, ratio to the next user."""

FEWEST_ITEMS = 10
"""Minimum items of a domain for a note."""

MOST_ALIKE = 10
"""Items per different text from which a note is made."""

ID_SHARE = 0.9

_TEXTS = (col.TITLE, col.BRAND, col.CATEGORIES, col.DESCRIPTION)
_SHOWN = 60


def dataset_notes(
    quarantine: Quarantine,
    accounts: list[FileAccount],
    users: pl.DataFrame,
    items: pl.DataFrame,
) -> list[str]:
    """Returns all notes."""
    return [
        *_warnings(quarantine),
        *_set_aside_by_file(accounts),
        *_dominant_user(users),
        *_missing_titles(items),
        *_alike_texts(items),
    ]


def reasons_of(quarantine: Quarantine) -> str:
    """Returns the most frequent reasons of quarantined rows, as the end of a sentence."""
    most = [
        f"{why} ({rows:,} of {source})"
        for (source, why), rows in quarantine.counts.most_common(_MOST_REASONS)
    ]
    return f"; rows were quarantined: {', '.join(most)}" if most else ""


def emptied_files(accounts: list[FileAccount]) -> str:
    """Returns the files of which no event is kept, with the most frequent rule, as the beginning of
    a sentence."""
    emptied = [account for account in accounts if account.kept <= 0 < account.tally.records]
    said = [
        f"{account.file} has no event left: {account.gone.most_common(1)[0][0]} "
        f"({account.gone.most_common(1)[0][1]:,} of {account.tally.records:,} rows)"
        for account in emptied[:_MOST_FILES]
    ]
    return f"{', '.join(said)}, so that " if said else ""


def _warnings(quarantine: Quarantine) -> list[str]:
    total = sum(quarantine.counts.values())
    if total <= QUARANTINE_ROWS:
        return []
    return [
        f"{total:,} rows were quarantined; {QUARANTINE} has the first {QUARANTINE_ROWS:,}, "
        f"{DROPPED} the counts of all"
    ]


def _set_aside_by_file(accounts: list[FileAccount]) -> list[str]:
    said = []
    lost = sorted(
        (account for account in accounts if account.set_aside.total()),
        key=lambda account: -account.set_aside.total(),
    )
    for account in lost[:_MOST_FILES]:
        most = ", ".join(
            f"{why} ({count:,})" for why, count in account.set_aside.most_common(_MOST_REASONS)
        )
        said.append(
            f"{account.file}: {account.set_aside.total():,} of {account.tally.records:,} rows were "
            f"quarantined: {most}"
        )
    if others := lost[_MOST_FILES:]:
        rows = sum(account.set_aside.total() for account in others)
        said.append(f"{rows:,} rows of {len(others):,} more files were quarantined")
    return said


def _dominant_user(users: pl.DataFrame) -> list[str]:
    """Returns a note on a user with far more events than others, often an anonymous placeholder."""
    first, *others = users.sort("events", descending=True).head(2).iter_rows(named=True)
    events = int(users["events"].sum())
    least = max(_DOMINANT_EVENTS, _DOMINANT_SHARE * events)
    if not others or first["events"] < max(least, _DOMINANT_LEAD * others[0]["events"]):
        return []
    return [
        f"the most frequent {col.USER_ID} alone has {first['events']:,} of {events:,} events, the "
        f"next one {others[0]['events']:,}: if it is a placeholder of anonymous users, remove its "
        "rows"
    ]


def _missing_titles(items: pl.DataFrame) -> list[str]:
    if items[col.TITLE].null_count() < items.height:
        return []
    told = (
        "no item has a title: no user gets a profile, and lists show no titles. If titles have "
        f"another column name, map it: --column NAME_IN_FILE={col.TITLE}"
    )
    logger.warning("ingest: %s", told)
    return [told]


def _alike_texts(items: pl.DataFrame) -> list[str]:
    """Returns a note for each domain whose texts are few, or are the ids of its items."""
    said = []
    for (domain,), part in items.filter(has_text()).group_by(col.DOMAIN, maintain_order=True):
        if part.height < FEWEST_ITEMS:
            continue
        texts = part.select(_TEXTS).unique()
        titles = part[col.TITLE].drop_nulls()
        named = titles.n_unique()
        if texts.height * MOST_ALIKE <= part.height:
            example = next((text for text in part[col.TITLE] if text), "")
            said.append(
                f"{domain}: {part.height:,} items have {texts.height:,} different text"
                f"{'s' * (texts.height > 1)}, such as {example[:_SHOWN]!r}; items with equal texts "
                "cannot be distinguished: are the titles in another column?"
            )
        elif len(titles) >= FEWEST_ITEMS and named * MOST_ALIKE <= len(titles):
            said.append(
                f"{domain}: {len(titles):,} items have {named:,} different title"
                f"{'s' * (named > 1)}, such as {titles[0][:_SHOWN]!r}, and profiles of users are "
                "written from titles: are they in another column?"
            )
        elif (part[col.TITLE] == part[col.ITEM_ID]).sum() >= ID_SHARE * part.height:
            said.append(
                f"{domain}: the titles are the ids of the items, such as "
                f"{part[col.TITLE][0]!r}, which carry no information: are the titles "
                "in another column?"
            )
    return said
