"""Sample recommendations of one user, printed at the end of a run."""

from operator import itemgetter

import numpy as np
import polars as pl
from rich.console import Group
from rich.text import Text

from artifacts import columns as col
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.kinds.results import scan_recommendations
from artifacts.manifest import ArtifactRef
from artifacts.shown_users import BY_ID, ShownUsers, shown_users
from artifacts.store import Store
from flows.cli.output import terminal

DOMAINS = 4
SHOWN = 3
LATEST_EVENTS = 3


def sample_of(store: Store, dataset: ArtifactRef, lists: ArtifactRef) -> Group | None:
    """Returns the table of `sample_table` of a release."""
    rows = scan_recommendations(store, lists)
    return sample_table(read_dataset(store, dataset), rows, shown_users(store))


def sample_table(data: Dataset, rows: pl.LazyFrame, shown: ShownUsers = BY_ID) -> Group | None:
    """Returns the latest events of one user and the best items of each domain, new ones first;
    None without recommendations.

    Selects the first user with events in one domain only, else the first user with a list.
    """
    user = _chosen(data, rows)
    if user is None:
        return None
    user_id = data.users[col.USER_ID][user]
    met = data.in_domain()[user]
    domains = sorted(zip(met.tolist(), data.domains, strict=True), key=itemgetter(0))[:DOMAINS]
    best = (
        rows.filter(pl.col(col.USER_ID) == user_id, pl.col(col.RANK) <= SHOWN)
        .sort(col.RANK, maintain_order=True)
        .select(col.DOMAIN, col.RANK, pl.coalesce(col.TITLE, col.ITEM_ID))
        .collect()
    )
    table = terminal.table(None, "domain", ">rank", "item")
    for is_met, domain in domains:
        name = domain if is_met else f"{domain} (new to the user)"
        for _, rank, item in best.filter(pl.col(col.DOMAIN) == domain).iter_rows():
            table.add_row(Text(name if rank == 1 else ""), str(rank), Text(item))
        table.add_section()
    latest = ", ".join(_latest(data, user))
    return Group(Text(f"Recommended to user {shown.name(user_id)} after {latest}:"), table)


def _chosen(data: Dataset, rows: pl.LazyFrame) -> int | None:
    listed = rows.select(pl.col(col.USER_ID).unique()).collect()
    index = data.users.join(listed, on=col.USER_ID, how="semi", maintain_order="left")
    users = index[col.USER_INDEX].to_numpy()
    if not len(users):
        return None
    of_one = data.in_domain()[users].sum(axis=1) == 1
    return int(users[np.argmax(of_one)])


def _latest(data: Dataset, user: int) -> list[str]:
    start, end = data.offsets[user], data.offsets[user + 1]
    items = data.item_indices[start:end][-LATEST_EVENTS:] - 1
    found = data.items[items].select(pl.coalesce(col.TITLE, col.ITEM_ID))
    return found.to_series().to_list() or ["no event"]
