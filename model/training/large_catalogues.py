"""What a catalogue of hundreds of thousands of items is trained without.

A dense update walks through whole tables at every step, and so does a running average of them; the
bridge between domains stores 321 floats an item. From `LARGE_CATALOGUE` items on, tables are
updated lazily, averages leave them out, there is no bridge, and the memory holds no co-occurrences,
whose pairs are counted in memory.
"""

from __future__ import annotations

from model.config import TriThreadConfig

LARGE_CATALOGUE = 500_000


def for_catalogue(config: TriThreadConfig, items: int) -> TriThreadConfig:
    """The configuration that a catalogue of `items` is trained with.

    A `table_update` that was set in the preset or by hand stays.
    """
    if items < LARGE_CATALOGUE:
        return config
    model = config.model.model_copy(update={"bridge_factors": 0, "memory_neighbours": 0})
    train = config.train
    if "table_update" not in train.model_fields_set:
        train = train.model_copy(update={"table_update": "lazy"})
    return TriThreadConfig(model=model, train=train)


def changes_for(config: TriThreadConfig, items: int) -> list[str]:
    """What is otherwise than configured, and why, in sentences."""
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
        found.append(f"the memory holds successions alone, no co-occurrences ({many})")
    return found
