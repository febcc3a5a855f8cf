"""Reduced training settings of large catalogues.

Dense updates and running averages process whole tables at every step, and the domain bridge stores
321 floats per item. From `LARGE_CATALOGUE` items on, tables are updated lazily and excluded from
averages, and there is no bridge and no co-occurrence memory, whose pairs are counted in memory.
"""

from __future__ import annotations

from model.config import TriThreadConfig

LARGE_CATALOGUE = 500_000


def for_catalogue(config: TriThreadConfig, items: int) -> TriThreadConfig:
    """Returns the configuration for a catalogue of `items`.

    An explicit `table_update` is kept.
    """
    if items < LARGE_CATALOGUE:
        return config
    model = config.model.model_copy(update={"bridge_factors": 0, "memory_neighbours": 0})
    train = config.train
    if "table_update" not in train.model_fields_set:
        train = train.model_copy(update={"table_update": "lazy"})
    return TriThreadConfig(model=model, train=train)


def changes_for(config: TriThreadConfig, items: int) -> list[str]:
    """Returns sentences about the changed settings and their reasons."""
    made = for_catalogue(config, items)
    many = f"{items:,} items, from {LARGE_CATALOGUE:,} on"
    found = []
    if made.train.table_update != config.train.table_update:
        found.append(
            f"tables are updated lazily and not averaged ({many}); train.table_update='dense' "
            "updates whole tables at every step"
        )
    if made.model.bridge_factors != config.model.bridge_factors:
        found.append(
            f"the model has no bridge between domains ({many} it would take more memory than it "
            "may): users without an event in a domain are served by the global thread alone"
        )
    if made.model.memory_neighbours != config.model.memory_neighbours:
        found.append(f"the memory has transitions only, no co-occurrences ({many})")
    return found
