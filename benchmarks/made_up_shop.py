"""A shop of a real one's size that nobody trained for: what serving costs does not depend on it.

Items are bought by a power law, and what was bought lately makes its neighbours likelier, so that
the transition memory has long rows and short ones. The model is that of a preset with the weights
it starts from, and its memory holds all events.
"""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import torch

from artifacts.manifest import ArtifactRef, Kind
from model.config import load_preset
from model.data.sequences import IntArray, Sequences
from model.data.tables import ItemTables
from model.network.tri_thread import TriThread
from tasks.serving.catalogue import Catalogue
from tasks.serving.recommender import Recommender
from tasks.serving.served_release import OpenRelease, ReleaseFacts
from tasks.serving.text_space import TextSpace

USERS, ITEMS, EVENTS = 53_061, 36_298, 8.2
"""Those of `food-kitchen`: users, items of both domains, mean events of a user."""
DOMAINS = ("food", "kitchen")
TEXT_WIDTH = 384
NEAR = 30
"""Half of the events are on items at most this far from the one before."""


def made_up_recommender(histories: Sequences, preset: str) -> Recommender:
    """Returns a recommender over `made_up_histories`, ready to be asked."""
    rng = np.random.default_rng(1)
    config = load_preset(preset).model
    rows = histories.item_count + 1
    text = rng.standard_normal((rows, TEXT_WIDTH), np.float32)
    local = rng.standard_normal((rows, config.hidden), np.float32)
    text[0] = local[0] = 0
    torch.manual_seed(0)
    model = TriThread(ItemTables(text, local), histories.domain_starts, config)
    if model.memory is not None:
        model.memory.learn(histories)
    release = OpenRelease(
        facts=_facts(),
        catalogue=_catalogue(histories),
        model=model,
        vectors=text,
        has_text=np.arange(rows) > 0,
        space=TextSpace({}, {}),
        histories=histories,
        user_ids=[f"U{user:08}" for user in range(histories.user_count)],
        last_seen=np.ones(histories.user_count, np.int64),
        profiles={},
        forgettings=0,
    )
    return Recommender(release)


def made_up_histories(users: int = USERS, items: int = ITEMS, events: float = EVENTS) -> Sequences:
    """Returns histories of `events` items in the mean; a third of the items are food."""
    rng = np.random.default_rng(0)
    lengths = np.maximum(3, rng.geometric(1 / events, users))
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    total = int(offsets[-1])
    popular = np.minimum(rng.zipf(1.2, total), items) - 1
    # A power law over shuffled items, so that both domains have popular ones.
    chosen = rng.permutation(items)[(popular + rng.integers(0, items // 20, total)) % items]
    near = (np.roll(chosen, 1) + rng.integers(-NEAR, NEAR + 1, total)) % items
    chosen = np.where(rng.random(total) < 0.5, near, chosen)
    starts = np.array([0, items // 3, items], np.int64)
    return Sequences(offsets, chosen + 1, np.zeros(total, np.int8), starts, DOMAINS)


def _catalogue(histories: Sequences) -> Catalogue:
    starts: IntArray = histories.domain_starts
    index = np.arange(1, histories.item_count + 1)
    table = pl.DataFrame(
        {
            "item_index": index,
            "item_id": [f"B{number:09}" for number in index.tolist()],
            "domain": np.repeat(DOMAINS, np.diff(starts)),
            "title": [f"A made-up product with a title of common length {n}" for n in index],
        }
    )
    bought = np.bincount(histories.items, minlength=histories.item_count + 1)
    return Catalogue(table, DOMAINS, starts, bought)


def _facts() -> ReleaseFacts:
    def ref(kind: Kind) -> ArtifactRef:
        return ArtifactRef(kind=kind, fingerprint="0" * 16)

    return ReleaseFacts(ref(Kind.RELEASE), ref(Kind.MODEL), datetime.now(UTC), (), None, {})
