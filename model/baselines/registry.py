"""Baselines by name."""

from collections.abc import Callable

from model.baselines.cross_domain import Emcdr, JointFactors
from model.baselines.ease import Ease
from model.baselines.simple import (
    History,
    Popularity,
    item_neighbours,
    markov_chain,
    sequence_rules,
    tf_idf_neighbours,
)
from model.baselines.text_bridge import TextBridge
from model.data.sequences import Sequences
from model.data.tables import ItemTables
from model.scoring.model_scorer import Scorer

POPULARITY = "popularity"
EMCDR = "EMCDR"
TEXT_BRIDGE = "text bridge"

BASELINES: dict[str, Callable[[Sequences], Scorer]] = {
    POPULARITY: Popularity.fit,
    "history-repeat": lambda sequences: History(sequences.domain_starts),
    "item-kNN": item_neighbours,
    "TF-IDF item-kNN": tf_idf_neighbours,
    "EASE": Ease.fit,
    "Markov chain": markov_chain,
    "sequence rules": sequence_rules,
}
"""Each is fitted on the training events of its argument."""

COLD_BASELINES: dict[str, Callable[[Sequences], Scorer]] = {
    POPULARITY: Popularity.fit,
    "item-kNN": item_neighbours,
    "joint ALS": JointFactors.fit,
    EMCDR: Emcdr.tuned,
}
"""Baselines of withheld domains, fitted likewise; additionally the text bridge, which needs item
texts."""

LEARNS_NOTHING = frozenset({"history-repeat"})
"""Baselines independent of the fitted events."""

IN_EVERY_RUN = (POPULARITY, "item-kNN", "Markov chain")
"""Baselines reported after each training; experiments may request all."""


def baselines(sequences: Sequences) -> dict[str, Scorer]:
    """Returns the baselines, fitted on the training events."""
    return {name: BASELINES[name](sequences) for name in IN_EVERY_RUN}


def cold_baselines(sequences: Sequences, tables: ItemTables | None) -> dict[str, Scorer]:
    """Returns the baselines of withheld domains; the text bridge only with tables."""
    found = {name: fit(sequences) for name, fit in COLD_BASELINES.items()}
    if tables is not None:
        found[TEXT_BRIDGE] = TextBridge.fit(sequences, tables.global_table)
    return found
