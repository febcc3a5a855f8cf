"""Seconds to rank every held-out event of a dump against its whole domain, beside a plain loop.

Needs no language model: item vectors are the dummy endpoint's, as wide as MiniLM's, and the model
is untrained, which takes as long to rank with as a trained one.

    python benchmarks/evaluate_speed.py --interactions events.parquet --items items.parquet
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import typer
from devices import device_name, peak_memory
from figures import tell
from text_tables import text_tables

from artifacts.kinds.dataset import read_dataset
from artifacts.store import Store
from model.config import load_preset
from model.data.sequences import TEST, Prefixes
from model.network.tri_thread import TriThread
from model.scoring.model_scorer import ModelScorer
from model.scoring.ranking import Ranks, rank_all
from model.training.processes import alone
from tasks.dump.dump_config import DumpConfig
from tasks.frame.model_inputs import sequences_of
from tasks.ingest import ingest


class DisagreementError(AssertionError):
    """The fast ranking and the plain loop found different ranks; the message names a user."""


def main(
    interactions: Annotated[str, typer.Option(help="The dump's interactions.")],
    items: Annotated[str, typer.Option(help="The dump's items.")],
    preset: Annotated[str, typer.Option(help="Model preset.")] = "paper",
    sample: Annotated[int, typer.Option(min=1, help="Users that the plain loop ranks.")] = 300,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "cpu",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.")
    ] = None,
) -> None:
    """Time full ranking of all users, check it against a loop on a sample, print the ratio."""
    torch.set_num_threads(threads)
    with TemporaryDirectory() as folder:
        ref = ingest.fn(DumpConfig(interactions=interactions, items=items), folder).ref
        data = read_dataset(Store(folder), ref)
    sequences, tables = sequences_of(data), text_tables(data)
    torch.manual_seed(0)
    place = alone(device).device
    model = TriThread(tables, sequences.domain_starts, load_preset(preset).model).to(place)
    prefixes = sequences.prefixes_of_split(TEST)

    started, cpu_started = time.perf_counter(), time.process_time()
    ranks = rank_all(ModelScorer(model), prefixes)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(len(prefixes), min(sample, len(prefixes)), replace=False))
    loop_seconds = _time_loop(ModelScorer(model), prefixes.select(chosen), _rows(ranks, chosen))

    figures = {
        "preset": preset,
        "threads": threads,
        "device": device_name(place),
        "users": len(prefixes),
        "items": sequences.item_count,
        "seconds": seconds,
        # Beside other programs the clock says little; these seconds are ours, over all threads.
        "cpu_seconds": cpu_seconds,
        "users_per_second": len(prefixes) / seconds,
        "loop_sample": len(chosen),
        "loop_users_per_second": len(chosen) / loop_seconds,
        "ratio_to_loop": (len(prefixes) / seconds) / (len(chosen) / loop_seconds),
        **peak_memory(place),
    }
    tell(figures, json_file)


def _time_loop(scorer: ModelScorer, prefixes: Prefixes, expected: Ranks) -> float:
    """One user at a time, every item sorted; the ranks must agree. Returns its seconds."""
    sequences = prefixes.sequences
    spent = 0.0
    for row in range(len(prefixes)):
        one = prefixes.select(np.array([row]))
        started = time.perf_counter()
        domain = int(sequences.domain_of(one.targets)[0])
        first = int(sequences.domain_starts[domain]) + 1
        scores = scorer.score(one, domain)[0].cpu().numpy().copy()
        target = int(one.targets[0]) - first
        seen = sequences.items[one.start[0] : one.stop[0]] - first
        seen = seen[(seen >= 0) & (seen < len(scores)) & (seen != target)]
        scores[seen] = -np.inf
        place = int(np.flatnonzero(np.argsort(-scores, kind="stable") == target)[0])
        spent += time.perf_counter() - started
        # Scores of one user and of many differ in the last bits, so near ties may swap.
        if abs(place - int(expected.greater[row])) > 2 + 0.001 * len(scores):
            raise DisagreementError(
                f"user {int(one.users[0])}: place {place} by the loop, "
                f"{int(expected.greater[row])} by rank_all"
            )
    return spent


def _rows(ranks: Ranks, rows: np.ndarray) -> Ranks:
    mask = np.zeros(len(ranks.users), bool)
    mask[rows] = True
    return ranks.select(mask)


if __name__ == "__main__":
    typer.run(main)
