"""Check that a dataset suffices for a model, before paid requests."""

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.kinds.dataset import Dataset, Split
from prompts.render import one_line
from tasks.dump.items.item_reader import has_text
from tasks.dump.sources.files import UnreadableDumpError


class NothingToTrainOnError(UnreadableDumpError):
    """The dump does not suffice for a model: no history with two events, or no text."""


def require_trainable(data: Dataset) -> None:
    """Raises `NothingToTrainOnError` if training or embedding would have no input."""
    _require_histories(data)
    for number, domain in enumerate(data.domains):
        items = data.items.slice(
            int(data.domain_starts[number]),
            int(data.domain_starts[number + 1] - data.domain_starts[number]),
        )
        if not _has_usable_text(items):
            raise NothingToTrainOnError(
                f"no item of the domain {domain} has a usable text, so its items cannot be "
                "distinguished; give --items a file with their titles, which may be that of the "
                f"events, or map the title column: --column NAME_IN_FILE={col.TITLE}"
            )


def _require_histories(data: Dataset) -> None:
    users = len(data.offsets) - 1
    trained = np.bincount(data.user_of_event[data.splits == Split.TRAIN], minlength=users)
    if (trained > 1).any():
        return
    events = np.diff(data.offsets)
    single, held_out = int((events == 1).sum()), int((data.splits != Split.TRAIN).sum())
    raise NothingToTrainOnError(
        f"no user has two training events to learn an order from: {single:,} of {users:,} users "
        f"have one event, {held_out:,} of {len(data.item_indices):,} events are held out. Give "
        "more of each user's history (is user_id the customer, and not the order or the "
        "session?), lower --user-core and --item-core, or hold out less"
    )


def _has_usable_text(items: pl.DataFrame) -> bool:
    """Returns whether any item has text after removing characters that prompts omit."""
    told = items.filter(has_text())
    fields = (col.TITLE, col.BRAND, col.DESCRIPTION)
    return any(
        any(one_line(text, 1) for text in (*texts, *(categories or ())) if text)
        for *texts, categories in told.select(*fields, col.CATEGORIES).iter_rows()
    )
