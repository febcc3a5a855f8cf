"""How much a model owes to the order of events: leave-one-out, with and without that order.

`--order shuffled` puts each user's *training* events into a random order; the validation and test
events stay the last two. Every model is fitted on the same events (training and validation, where
the preset refits) and ranks the test event among all items of its domain that the user has not
met. Leads over each of `--rivals` have 95 % intervals of a paired bootstrap over users.

    python benchmarks/event_order.py --interactions F --items F --order shuffled --json OUT
"""

from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Annotated

import numpy as np
import torch
import typer
from embedded_dump import (
    BaselinesOnly,
    EmbeddedBy,
    Interactions,
    Items,
    KeptStore,
    Preset,
    Threads,
    TrainingDevice,
    dump_of,
    embedded_items,
    ingested,
    kept_folder,
    show,
    tables_of,
    timed,
)
from figures import JsonFile, keep
from rich.console import Console
from rich.table import Table

from flows.cli.options.shared_options import LlmProvider
from flows.cli.options.training_options import FitOptions, Replaced, training_config
from flows.cli.output import terminal
from model.baselines.registry import BASELINES
from model.data.sequences import TEST, TRAIN, VALIDATION, Prefixes, Sequences
from model.scoring.bootstrap import paired_bootstrap
from model.scoring.model_scorer import ModelScorer, Scorer
from model.scoring.ranking import expected_gains, rank_all
from model.training.processes import alone
from model.training.trainer import fit
from tasks.frame.model_inputs import sequences_of

RIVALS = "item-kNN,TF-IDF item-kNN,EASE,sequence rules"
CUTOFF = 10


class Order(StrEnum):
    """Of the training events of each user."""

    KEPT = "kept"
    SHUFFLED = "shuffled"


def main(
    interactions: Interactions,
    items: Items,
    order: Annotated[Order, typer.Option(help="Of each user's training events.")] = Order.SHUFFLED,
    seeds: Annotated[str, typer.Option(help="Of training; each shuffles anew: 0,1,2.")] = "0",
    preset: Preset = "large",
    replaced: Replaced = None,
    rivals: Annotated[str, typer.Option(help="Baselines, by name.")] = RIVALS,
    baselines_only: BaselinesOnly = False,
    test_events: Annotated[
        int | None, typer.Option(min=1, help="A seeded sample of the test events.")
    ] = None,
    on_validation: Annotated[
        bool,
        typer.Option(help="Rank validation events, fit on training events: to choose settings."),
    ] = False,
    refreshed: EmbeddedBy = None,
    provider: LlmProvider = None,
    store: KeptStore = None,
    threads: Threads = 1,
    device: TrainingDevice = "cpu",
    json_file: JsonFile = None,
) -> None:
    """Fit, rank, print one table."""
    terminal.show_logs(verbose=False)
    torch.set_num_threads(threads)
    found: dict[str, list[np.ndarray]] = {}
    rows: list[dict[str, object]] = []
    files = {"interactions": str(interactions.resolve()), "items": str(items.resolve())}
    split = VALIDATION if on_validation else TEST
    with kept_folder(store) as folder:
        embedded = None if baselines_only else embedded_items(files, refreshed, provider, folder)
        data = ingested(dump_of(files), folder)
        for seed in [int(seed) for seed in seeds.replace(",", " ").split()]:
            config = training_config(
                FitOptions(preset=preset, replaced=replaced, device=device), seed
            ).resolved()
            sequences = sequences_of(data)
            if order is Order.SHUFFLED:
                sequences = in_random_order(sequences, seed)
            asked = sequences.prefixes_of_split(split)
            asked = asked.select(asked.sampled_rows(test_events, np.random.default_rng(0)))
            refits = config.train.refit and not on_validation
            config = config.model_copy(
                update={"train": config.train.model_copy(update={"refit": refits})}
            )
            seen = sequences.with_validation_in_training() if refits else sequences
            for name in [name.strip() for name in rivals.split(",")]:
                scorer = timed(name, partial(BASELINES[name], seen))
                found.setdefault(name, []).append(gains_of(scorer, asked))
            if embedded is not None:
                tables, process_group = (
                    tables_of(data, embedded, config.model.hidden),
                    alone(device),
                )
                trained = partial(
                    fit, sequences, tables, config, on_epoch=show, process_group=process_group
                )
                scorer = ModelScorer(timed(preset, trained).model)
                found.setdefault(preset, []).append(gains_of(scorer, asked))
            rows = rows_of(found, preset)
            keep(
                {"order": order, "preset": preset, "rows": rows}, json_file
            )  # After each seed: a night may be cut short.
    print_rows(rows, f"training events {order}, {len(found[preset])} seeds" if embedded else order)


def in_random_order(sequences: Sequences, seed: int) -> Sequences:
    """Returns the same users, the training events of each in a random order."""
    events = np.flatnonzero(sequences.split == TRAIN)
    drawn = np.random.default_rng(seed).random(len(events))
    items = sequences.items.copy()
    items[events] = items[events[np.lexsort((drawn, sequences.event_users[events]))]]
    return replace(sequences, items=items)


def gains_of(scorer: Scorer, asked: Prefixes) -> np.ndarray:
    """NDCG and hit rate of each event, (2, R)."""
    gains = expected_gains(rank_all(scorer, asked), (CUTOFF,))
    return np.stack((gains["NDCG"][CUTOFF], gains["HR"][CUTOFF]))


def rows_of(found: dict[str, list[np.ndarray]], preset: str) -> list[dict[str, object]]:
    """One row a model: means, and how far the preset is ahead in NDCG, seeds averaged first."""
    means = {name: np.mean(gains, axis=0) for name, gains in found.items()}
    rows: list[dict[str, object]] = []
    for name, gains in sorted(means.items(), key=lambda item: -item[1][0].mean()):
        row: dict[str, object] = {
            "model": name,
            "seeds": len(found[name]),
            "events": gains.shape[1],
            "NDCG@10": float(gains[0].mean()),
            "HR@10": float(gains[1].mean()),
        }
        if preset in means and name != preset:
            (lead,) = paired_bootstrap(means[preset][0], gains[0][:, None])
            row |= {"lead": lead.difference, "low": lead.low, "high": lead.high}
        rows.append(row)
    return rows


def print_rows(rows: list[dict[str, object]], title: str) -> None:
    table = Table("model", "NDCG@10", "HR@10", "lead in NDCG@10", title=title)
    for row in rows:
        lead = "–"
        if "lead" in row:
            lead = f"{row['lead']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
        table.add_row(str(row["model"]), f"{row['NDCG@10']:.4f}", f"{row['HR@10']:.4f}", lead)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
