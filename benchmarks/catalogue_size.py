"""What a step of training costs, and how much memory it takes, as the catalogue grows.

Each size is a process of its own: made-up users with events on items drawn evenly, no validation,
two epochs of which the second counts. Item vectors are noise as wide as MiniLM's.

    OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=1000 \\
        python benchmarks/catalogue_size.py --items 200000 --items 2000000 --preset paper
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import typer
from figures import JsonFile, keep, peak_gib
from own_process import in_own_process
from rich.console import Console
from rich.table import Table

from model.config import load_preset
from model.data.sequences import sequences_from_lists
from model.data.tables import ItemTables
from model.training.table_memory import table_memory
from model.training.trainer import EpochReport, fit

WIDTH, EVENTS_A_USER, BATCH, STEPS = 384, 10, 128, 40


def main(
    items: Annotated[list[int] | None, typer.Option(help="A size; once for each.")] = None,
    preset: Annotated[str, typer.Option(help="Model preset.")] = "paper",
    update: Annotated[str | None, typer.Option(help="dense or lazy; by size.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Train a few steps of each size and compare."""
    rows = [in_own_process(one, size, preset, update) for size in items or (200_000, 2_000_000)]
    table = Table("items", "updates", "ms a step", "tables, GiB", "peak, GiB")
    for row in rows:
        sizes = (f"{row[name]:.2f}" for name in ("tables_gib", "peak_gib"))
        table.add_row(f"{row['items']:,.0f}", update or "by size", f"{row['ms']:.1f}", *sizes)
    Console().print(table)
    print(f"step: {rows[-1]['ms'] / rows[0]['ms']:.2f} times that of the first size")
    keep(rows, json_file)


def one(items: int, preset: str, update: str | None) -> dict[str, float]:
    """Trains on a catalogue of one size; returns its figures."""
    torch.set_num_threads(2)
    rng = np.random.default_rng(0)
    users = BATCH * STEPS
    histories = rng.integers(1, items + 1, (users, EVENTS_A_USER)).tolist()
    half = items // 2
    sequences = sequences_from_lists(histories, [0, half, items], ("a", "b"))
    changes = {"max_epochs": 2, "batch_size": BATCH, "refit": False, "cold_items": "trained"}
    chosen = {} if update is None else {"table_update": update}
    config = load_preset(preset, {"train": {**changes, **chosen}})
    tables = ItemTables(_noise(rng, items + 1, WIDTH), _noise(rng, items + 1, config.model.hidden))
    reports: list[EpochReport] = []
    with TemporaryDirectory(dir=Path.cwd()) as folder:
        fit(sequences, tables, config, None, Path(folder), reports.append)
    return {
        "items": items,
        "ms": 1000 * reports[-1].seconds / STEPS,
        "tables_gib": table_memory(items, WIDTH, config).total / 2**30,
        "peak_gib": peak_gib(),
    }


def _noise(rng: np.random.Generator, rows: int, width: int) -> np.ndarray:
    table = rng.standard_normal((rows, width), np.float32)
    table[0] = 0
    return table


if __name__ == "__main__":
    typer.run(main)
