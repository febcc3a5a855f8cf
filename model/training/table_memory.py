"""Memory of item tables in training."""

from __future__ import annotations

from dataclasses import dataclass

from model.config import TrainConfig, TriThreadConfig
from model.network.domain_bridge import bridge_width
from model.training.large_catalogues import for_catalogue

FLOAT_BYTES = 4
MIB = 2**20


@dataclass(frozen=True)
class TableMemory:
    """Bytes of tables with one row per item in training; each process has its own."""

    frozen: int  # PCA of the texts, and a frozen local table
    trainable: int  # local table, correction, and trainable ids
    moments: int  # Adam's two moments per parameter
    gradients: int  # buffers of a dense update
    copies: int  # best weights and running average; on disk for lazy updates
    bridge: int = 0  # features and vectors of the bridge between domains

    @property
    def total(self) -> int:
        return (
            self.frozen + self.trainable + self.moments + self.gradients + self.copies + self.bridge
        )

    def __str__(self) -> str:
        parts = {
            "frozen": self.frozen,
            "trainable": self.trainable,
            "Adam moments": self.moments,
            "gradient buffers": self.gradients,
            "kept copies": self.copies,
            "bridge": self.bridge,
        }
        told = ", ".join(f"{size / MIB:,.1f} MiB {name}" for name, size in parts.items() if size)
        return f"{told}; {self.total / MIB:,.1f} MiB in all"


def table_memory(items: int, global_width: int, config: TriThreadConfig) -> TableMemory:
    """Returns the memory for a catalogue of `items`, without allocating it."""
    config = for_catalogue(config, items)
    model, train = config.model, config.train
    row = (items + 1) * FLOAT_BYTES
    table = row * model.hidden * model.ensemble_size
    is_dense = train.table_update == "dense"
    is_local = model.local_tables == "trainable"
    trainable = table * (is_local + model.global_correction + (model.global_items == "ids"))
    return TableMemory(
        frozen=row * global_width + (0 if is_local else table),
        trainable=trainable,
        moments=2 * trainable,
        gradients=trainable if is_dense else 0,
        copies=trainable * _copies(train) if is_dense else 0,
        bridge=row * bridge_width(model),
    )


def _copies(train: TrainConfig) -> int:
    """The best weights, their running average, and under a time limit the search's best ones while
    a refit runs."""
    is_kept = train.refit and train.max_seconds is not None
    return 1 + bool(train.averaging) + is_kept
