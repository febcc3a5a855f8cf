"""Sample recommendations of one user, printed at the end of a run."""

import numpy as np
import polars as pl
from rich.console import Group
from rich.table import Table
from rich.text import Text

from artifacts import columns as col
from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.kinds.results import RECOMMENDATIONS
from artifacts.manifest import ArtifactRef
from artifacts.store import Store

SHOWN = 5
LATEST_EVENTS = 3


def sample_of(store: Store, dataset: ArtifactRef, lists: ArtifactRef) -> Group | None:
    """Returns the latest events and the top five items of one user; None without recommendations.

    Selects the first user with events in one domain only, else the first user with a list.
    """
    data = read_dataset(store, dataset)
    rows = pl.scan_parquet(store.path(lists) / RECOMMENDATIONS, glob=False)
    user = _chosen(data, rows)
    if user is None:
        return None
    user_id = data.users[col.USER_ID][user]
    best = rows.filter(pl.col(col.USER_ID) == user_id).sort(col.RANK, maintain_order=True)
    met = ", ".join(_latest(data, user))
    table = Table()
    table.add_column("rank", justify="right")
    table.add_column("domain")
    table.add_column("item")
    for rank, domain, title, item in (
        best.head(SHOWN).select(col.RANK, col.DOMAIN, col.TITLE, col.ITEM_ID).collect().iter_rows()
    ):
        table.add_row(str(rank), Text(domain), Text(title or item))
    return Group(Text(f"Recommended to user {user_id} after {met}:"), table)


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
