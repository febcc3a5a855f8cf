"""Sequences a second of training, and seconds of full-ranking evaluation, on any dump.

Needs no language model: item vectors are the dummy endpoint's, as wide as MiniLM's.

    python benchmarks/train_speed.py --interactions events.parquet --items items.parquet
"""

import json
import resource
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from artifacts.dataset import Dataset, read_dataset
from artifacts.store import Store
from model.config import load_preset
from model.ranking import rank_all
from model.scoring import ModelScorer
from model.sequences import TEST
from model.tables import ItemTables
from model.trainer import EpochReport, fit
from prompts.render import Language
from tasks.dummy_endpoint import embed_texts
from tasks.dump import DumpConfig
from tasks.embed import item_texts
from tasks.ingest import ingest
from tasks.llm_shards import PROMPT
from tasks.model_inputs import sequences_of
from tasks.project import ProjectConfig, project_vectors

REFERENCE_SEQUENCES_PER_SECOND = 7.5
"""The middle of what METHOD 7.9 says of the released code on 2 CPU cores (5 to 10)."""


def main(
    interactions: Annotated[str, typer.Option(help="The dump's interactions.")],
    items: Annotated[str, typer.Option(help="The dump's items.")],
    preset: Annotated[str, typer.Option(help="Model preset.")] = "paper",
    epochs: Annotated[int, typer.Option(min=1, help="Epochs to time; the median counts.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.")
    ] = None,
) -> None:
    """Time training and evaluation, and print both with the peak memory."""
    torch.set_num_threads(threads)
    with TemporaryDirectory() as folder:
        store = Store(folder)
        ref = ingest.fn(DumpConfig(interactions=interactions, items=items), folder).ref
        data = read_dataset(store, ref)
    sequences, tables = sequences_of(data), _tables(data)
    changes = {"max_epochs": epochs, "refit": False, "validate_every": epochs + 1}
    reports: list[EpochReport] = []
    fitted = fit(
        sequences, tables, load_preset(preset, {"train": changes}), on_epoch=reports.append
    )
    started = time.perf_counter()
    prefixes = sequences.prefixes_of_split(TEST)
    rank_all(ModelScorer(fitted.model), prefixes)
    figures = {
        "preset": preset,
        "threads": threads,
        "users": sequences.user_count,
        "items": sequences.item_count,
        "sequences_per_second": median(report.sequences_per_second for report in reports),
        "ranked_targets": len(prefixes),
        "ranking_seconds": time.perf_counter() - started,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    figures["ratio_to_released"] = figures["sequences_per_second"] / REFERENCE_SEQUENCES_PER_SECOND
    _print(figures)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2), encoding="utf-8")


def _tables(data: Dataset) -> ItemTables:
    texts = item_texts(data.items, Language.ENGLISH)[PROMPT].to_list()
    vectors = np.vstack([np.zeros((1, 384), np.float32), embed_texts(texts)])
    is_embedded = np.array([False, *map(bool, texts)])
    made = project_vectors(vectors, is_embedded, data.domains, data.domain_starts, ProjectConfig())
    return ItemTables(made.global_table, made.local_table)


def _print(figures: dict[str, object]) -> None:
    table = Table("figure", "value")
    for name, value in figures.items():
        shown = f"{value:,.2f}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), shown)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
