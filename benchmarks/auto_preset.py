"""NDCG@10 and seconds of `--preset auto` beside every hand-chosen preset with the same time budget.

Reads the latest refresh of a store, so that all presets are fitted on equal inputs. Each fit is
written to the JSON file at its end; a repeated call fits what is missing.

    python benchmarks/auto_preset.py --store artifacts/data --minutes 3 --json auto.json
"""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from artifacts.bundles import latest_refresh, parts_of
from artifacts.fingerprint import fingerprint_of
from artifacts.kinds.training_choice import read_training_choice
from artifacts.store import Store
from model.data.sequences import TEST
from model.scoring.model_scorer import ModelScorer
from model.scoring.ranking import rank_all, ranking_metrics
from model.training import time_limit
from model.training.processes import alone
from model.training.time_limit import Stopwatch
from model.training.trainer import fit
from tasks.choose_preset import as_chosen, choose_preset
from tasks.frame.model_inputs import load_profiles, load_sequences, load_tables
from tasks.frame.training_config import AUTO, TrainingConfig
from tasks.frame.training_sources import TrainingSources

CUTOFF = 10
BY_HAND = "best,single,large,paper"

Cells = dict[str, dict[str, float]]


def main(
    store: Annotated[str, typer.Option(help="Store whose latest refresh is fitted.")],
    minutes: Annotated[float, typer.Option(help="Time budget of each training.")] = 3.0,
    presets: Annotated[str, typer.Option(help="Hand-chosen presets.")] = BY_HAND,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0",
    threads: Annotated[int, typer.Option(min=1)] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "cpu",
    cpu: Annotated[
        bool, typer.Option("--cpu-seconds", help="Count CPU seconds of one thread, not time.")
    ] = False,
    json_file: Annotated[Path, typer.Option("--json", help="Finished fits.")] = Path("auto.json"),
) -> None:
    """Fit what is missing; print figures and the ratio of auto to the best preset."""
    if cpu:  # On a busy machine time measures the others.
        threads, time_limit.time = 1, SimpleNamespace(perf_counter=time.process_time)
    torch.set_num_threads(threads)
    parts = parts_of(Store(store), latest_refresh(Store(store)))
    inputs = fingerprint_of([str(parts[role]) for role in ("dataset", "tables", "profiles")])
    cells: Cells = json.loads(json_file.read_text("utf-8")) if json_file.exists() else {}
    names = [AUTO, *presets.split(",")]
    numbers = [int(text) for text in seeds.split(",")]
    for seed in numbers:
        for preset in names:
            key = _key(inputs, preset, minutes, seed)
            if key not in cells:
                config = TrainingConfig(preset=preset, minutes=minutes, seed=seed, device=device)
                cells[key] = _fitted(store, config)
                json_file.write_text(json.dumps(cells, indent=2), "utf-8")
    means = {
        preset: {
            name: float(np.mean([cells[_key(inputs, preset, minutes, n)][name] for n in numbers]))
            for name in ("ndcg", "seconds")
        }
        for preset in names
    }
    auto = means[AUTO]["ndcg"]
    table = Table("preset", "NDCG@10", "seconds", "auto / preset")
    for preset, figures in means.items():
        ndcg = figures["ndcg"]
        ratio = f"{auto / ndcg:.3f}" if ndcg else "–"
        table.add_row(preset, f"{ndcg:.4f}", f"{figures['seconds']:,.0f}", ratio)
    Console().print(table)


def _key(inputs: str, preset: str, minutes: float, seed: int) -> str:
    return f"{inputs} {preset} {minutes:g}m seed {seed}"


def _fitted(root: str, config: TrainingConfig) -> dict[str, float]:
    """Returns the mean NDCG@10 of test events, and the seconds of choice and training."""
    store = Store(root)
    parts = parts_of(store, latest_refresh(store))
    sequences = load_sequences(store, parts["dataset"])
    watch = Stopwatch()
    label = config.preset
    if config.is_automatic:
        choice = choose_preset.fn(TrainingSources.of(parts), config, root)
        label = read_training_choice(store, choice.ref).label
        config = as_chosen(store, choice, config)
    fitted = fit(
        sequences,
        load_tables(store, parts["tables"]),
        config.resolved(),
        profiles=load_profiles(store, parts["profiles"]),
        process_group=alone(config.device),
        watch=watch,
    )
    ranks = rank_all(ModelScorer(fitted.model), sequences.prefixes_of_split(TEST))
    ndcg = ranking_metrics(ranks, (CUTOFF,)).ndcg[CUTOFF]
    found = {"ndcg": ndcg, "seconds": fitted.used, "epochs": float(fitted.best.epoch)}
    print(label, found, fitted.stopped, "refit cut" if fitted.refit_cut else "", flush=True)
    return found


if __name__ == "__main__":
    typer.run(main)
