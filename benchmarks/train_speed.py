"""Sequences a second of training, and seconds of full-ranking evaluation, on any dump.

Needs no language model: item vectors are the dummy endpoint's, profiles are noise, one a user,
both as wide as MiniLM's.

    OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=1000 \\
        python benchmarks/train_speed.py --interactions events.parquet --items items.parquet

The two variables are what the command line sets for itself (`flows/cli/entry.py`).
"""

import time
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from figures import JsonFile, peak_gib, tell

from artifacts.kinds.dataset import Dataset, read_dataset
from artifacts.store import Store
from model.config import load_preset
from model.data.sequences import TEST
from model.data.tables import ItemTables, ProfileVectors
from model.scoring.model_scorer import ModelScorer
from model.scoring.ranking import rank_all
from model.training.processes import alone
from model.training.trainer import EpochReport, fit
from prompts.render import Language
from tasks.dump.dump_config import DumpConfig
from tasks.embed import item_texts
from tasks.frame.model_inputs import sequences_of
from tasks.ingest import ingest
from tasks.llm.answer_all import PROMPT
from tasks.llm.providers.dummy_endpoint import embed_texts
from tasks.project import ProjectConfig, project_vectors

REFERENCE_SEQUENCES_PER_SECOND = 7.5
"""The middle of what METHOD 7.9 says of the released code on 2 CPU cores (5 to 10)."""


def main(
    interactions: Annotated[str, typer.Option(help="The dump's interactions.")],
    items: Annotated[str, typer.Option(help="The dump's items.")],
    preset: Annotated[str, typer.Option(help="Model preset.")] = "paper",
    epochs: Annotated[int, typer.Option(min=1, help="Epochs to time; the median counts.")] = 3,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Users a step; the preset's by default.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    profiled: Annotated[
        bool, typer.Option("--profiles/--no-profiles", help="Align with a profile of every user.")
    ] = True,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "cpu",
    precision: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="What the threads train in.")
    ] = "float32",
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile the threads.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Time training and evaluation, and print both with the peak memory."""
    torch.set_num_threads(threads)
    with TemporaryDirectory() as folder:
        store = Store(folder)
        ref = ingest.fn(DumpConfig(interactions=interactions, items=items), folder).ref
        data = read_dataset(store, ref)
    sequences, tables = sequences_of(data), _text_tables(data)
    profiles = _profiles(sequences.user_count, tables.global_table.shape[1]) if profiled else None
    changes = {
        "max_epochs": epochs,
        "refit": False,
        "validation_users": 100,
        "precision": precision,
    }
    if batch_size is not None:
        changes["batch_size"] = batch_size
    config = load_preset(preset, {"train": changes})
    reports: list[EpochReport] = []
    process_group = alone(device)
    fitted = fit(
        sequences,
        tables,
        config,
        profiles,
        on_epoch=reports.append,
        process_group=process_group,
        compiled=compiled,
    )
    started = time.perf_counter()
    prefixes = sequences.prefixes_of_split(TEST)
    rank_all(ModelScorer(fitted.model), prefixes)
    place = process_group.device
    figures = {
        "preset": preset,
        "threads": threads,
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else place.type,
        "precision": precision,
        "compiled": compiled,
        "batch_size": config.train.batch_size,
        "profiles": sequences.user_count if profiled else 0,
        "users": sequences.user_count,
        "items": sequences.item_count,
        "sequences_per_second": median(report.sequences_per_second for report in reports),
        "ranked_targets": len(prefixes),
        "ranking_seconds": time.perf_counter() - started,
        # With the CUDA libraries that are loaded, some gigabytes, which no tensor needs.
        "peak_gib": peak_gib(),
    }
    if place.type == "cuda":
        figures["gpu_peak_gib"] = torch.cuda.max_memory_allocated(place) / 2**30
    figures["ratio_to_released"] = figures["sequences_per_second"] / REFERENCE_SEQUENCES_PER_SECOND
    tell(figures, json_file)


def _text_tables(data: Dataset) -> ItemTables:
    """Returns what the stages embed and project would make of a dataset with the dummy endpoint."""
    texts = item_texts(data.items, Language.ENGLISH)[PROMPT].to_list()
    is_embedded = np.array([False, *map(bool, texts)])
    vectors = np.zeros((len(is_embedded), 384), np.float32)
    vectors[is_embedded] = embed_texts([text for text in texts if text])
    made = project_vectors(vectors, is_embedded, data.domains, data.domain_starts, ProjectConfig())
    return ItemTables(made.global_table, made.local_table)


def _profiles(users: int, width: int) -> ProfileVectors:
    vectors = np.random.default_rng(0).normal(size=(users, width)).astype(np.float32)
    return ProfileVectors(vectors, np.ones(users, bool))


if __name__ == "__main__":
    typer.run(main)
