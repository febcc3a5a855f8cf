"""``llm4cdsr recommend``: next items of a known user, each with the event that supports it."""

from difflib import get_close_matches
from typing import Annotated

import typer
from rich.text import Text

from flows.cli.options.opened_store import opened_store
from flows.cli.options.shared_options import StoreRoot
from flows.cli.output import terminal

EXAMPLES = (
    "Examples:\n\nllm4cdsr recommend u10166d16cb53\n\nllm4cdsr recommend 4711 --domain food --k 10"
)
LATEST_EVENTS = 3


def recommend(
    user: Annotated[str, typer.Argument(help="Id (or hashed name) of a user of the data set.")],
    domain: Annotated[str | None, typer.Option(help="Only this domain.")] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Items per domain.")] = 5,
    release: Annotated[str, typer.Option(help="latest, or a release's fingerprint.")] = "latest",
    store: StoreRoot = None,
) -> None:
    """Show the next items of one user in every domain.

    Each item is shown with the event of the history whose removal lowers its score most.
    """
    import numpy as np
    import polars as pl

    from artifacts import columns as col
    from artifacts.shown_users import quoted
    from tasks.serving.recommender import Recommender
    from tasks.serving.user_names import UnknownUserError

    recommender = Recommender.load(opened_store(store), release)
    names, known = recommender.names, recommender.user_ids
    try:
        user_id = known[names.index(user)]
    except UnknownUserError as error:
        if names.shown.are_hashed:  # Ids alike are ids of users.
            raise typer.BadParameter(f"the release has no user {quoted(user)}") from error
        near = get_close_matches(user, known, n=3) or known[:3]
        raise typer.BadParameter(
            f"the release has no user {user!r}; it has {', '.join(near)} and others "
            f"({len(known):,} in all)"
        ) from error
    items, history = recommender.catalogue.items, recommender.history(user_id)
    titles = items.select(pl.coalesce(col.TITLE, col.ITEM_ID)).to_series().to_list()
    met = {name for name, _ in history}
    table = terminal.table(None, "domain", ">rank", "item", "supported most by")
    rows = recommender.recommend_users([user_id], domain, k)
    for within, rank, item, title in rows.select(
        col.DOMAIN, col.RANK, col.ITEM_ID, col.TITLE
    ).iter_rows():
        if rank == 1:
            table.add_section()
        label = within if within in met else f"{within} (new to the user)"
        found = recommender.effects(history, (within, item))
        support = (
            titles[found.items[np.argmax(found.effects)] - 1] if found.effects.max() > 0 else ""
        )
        cells = (label if rank == 1 else "", str(rank), title or item, support)
        table.add_row(*map(Text, cells))
    latest = recommender.catalogue.indices(history[-LATEST_EVENTS:]).tolist()
    said = ", ".join(titles[index - 1] for index in latest)
    shown = names.shown.name(user_id)
    terminal.out.print(Text(f"User {shown}: {len(history):,} events, the latest {said}"))
    terminal.out.print(table)
