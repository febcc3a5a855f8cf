"""How well people are served in a domain where they have no history (METHOD 9).

From a seeded share of the users of several domains one whole domain is withheld; every model is
fitted on the rest and ranks that domain for them. Each seed draws a split and trains a model of its
own. Differences are to EMCDR, with 95 % intervals of a paired bootstrap over the users of all
splits. Items are embedded by `--provider`, or by the refresh that a store holds already.

    python benchmarks/cold_domain.py --interactions F --items F --seeds 0,1,2 --json OUT
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import torch
import typer
from embedded_dump import (
    BaselinesOnly,
    Embedded,
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

from artifacts import columns as col
from artifacts.kinds.dataset import Dataset
from flows.cli.options.shared_options import LlmProvider
from flows.cli.options.training_options import FitOptions, Replaced, training_config
from flows.cli.output import terminal
from model.baselines.registry import EMCDR, cold_baselines
from model.config import TriThreadConfig
from model.data.sequences import COLD_TEST, COLD_VALIDATION
from model.scoring.bootstrap import paired_bootstrap
from model.scoring.cold_domain_metrics import METRICS, ColdGains, measure_cold
from model.scoring.model_scorer import ModelScorer
from model.training.processes import alone
from model.training.trainer import fit
from tasks.dump.dump_config import ColdDomain
from tasks.frame.model_inputs import sequences_of

OURS, TOGETHER = "llm4cdsr", "together"


def main(
    interactions: Interactions,
    items: Items,
    seeds: Annotated[str, typer.Option(help="Each draws a split: 0,1,2.")] = "0",
    max_single_domain_users: Annotated[
        int | None, typer.Option(min=0, help="Keep a sample of the users of one domain.")
    ] = None,
    share: Annotated[float, typer.Option(help="Of the users of several domains: tested.")] = 0.15,
    validation_share: Annotated[float, typer.Option(help="Of the same: cold validation.")] = 0.1,
    on_validation: Annotated[
        bool, typer.Option(help="Measure the cold validation users, for choosing settings.")
    ] = False,
    preset: Preset = "large",
    replaced: Replaced = None,
    baselines_only: BaselinesOnly = False,
    refreshed: EmbeddedBy = None,
    provider: LlmProvider = None,
    store: KeptStore = None,
    threads: Threads = 1,
    device: TrainingDevice = "cpu",
    json_file: JsonFile = None,
) -> None:
    """Split, fit, rank; print one table a direction."""
    terminal.show_logs(verbose=False)
    torch.set_num_threads(threads)
    drawn = [int(seed) for seed in seeds.replace(",", " ").split()]
    measured = COLD_VALIDATION if on_validation else COLD_TEST
    configs = [
        training_config(
            FitOptions(preset=preset, replaced=replaced, device=device), seed
        ).resolved()
        for seed in drawn
    ]
    found: dict[str, list[ColdGains]] = {}
    directions: list[str] = []
    rows: list[dict[str, object]] = []
    with kept_folder(store) as folder:
        files = {
            "interactions": _cut(interactions, max_single_domain_users, folder),
            "items": str(items.resolve()),
        }
        embedded = None if baselines_only else embedded_items(files, refreshed, provider, folder)
        for seed, config in zip(drawn, configs, strict=True):
            split = ColdDomain(test_share=share, validation_share=validation_share)
            data = ingested(dump_of(files, split=split, seed=seed), folder)
            gains = _gains(data, embedded, config, measured, device)
            for name, of_model in gains.items():
                found.setdefault(name, []).append(of_model)
            directions += gains[EMCDR].directions(data.domains)
            rows = _rows(found, np.array(directions))
            # After each split: a night may be cut short.
            seeds_so_far = drawn[: len(found[EMCDR])]
            keep({"seeds": seeds_so_far, "preset": preset, "rows": rows}, json_file)
    _print(rows, len(drawn))


def _cut(interactions: Path, most: int | None, folder: Path) -> str:
    """Returns the interactions of all users of several domains and a sample of the others."""
    if most is None:
        return str(interactions.resolve())
    events = pl.read_parquet(interactions)
    domains = events.group_by(col.USER_ID).agg(pl.col(col.DOMAIN).n_unique().alias("domains"))
    single = domains.filter(domains=1)[col.USER_ID].sort()
    dropped = single.sample(max(0, len(single) - most), seed=0)
    path = folder / "interactions.parquet"
    events.filter(~pl.col(col.USER_ID).is_in(dropped.implode())).write_parquet(path)
    return str(path.resolve())


def _gains(
    data: Dataset, embedded: Embedded | None, config: TriThreadConfig, measured: int, device: str
) -> dict[str, ColdGains]:
    """Returns what each scorer achieves; baselines see the events that our model sees."""
    sequences = sequences_of(data)
    seen = sequences.with_validation_in_training() if config.train.refit else sequences
    withheld = sequences.prefixes_of_withheld(measured)
    tables = None if embedded is None else tables_of(data, embedded, config.model.hidden)
    scorers = timed("baselines", lambda: cold_baselines(seen, tables))
    if tables is not None:
        fitted = timed(
            OURS, lambda: fit(sequences, tables, config, on_epoch=show, process_group=alone(device))
        )
        scorers = {OURS: ModelScorer(fitted.model), **scorers}
    return {name: measure_cold(scorer, withheld) for name, scorer in scorers.items()}


def _rows(found: dict[str, list[ColdGains]], directions: np.ndarray) -> list[dict[str, object]]:
    """One row a scorer, direction and metric."""
    rows: list[dict[str, object]] = []
    for metric in METRICS:
        values = {
            name: np.concatenate([each.values[metric] for each in gains])
            for name, gains in found.items()
        }
        for direction in (TOGETHER, *np.unique(directions).tolist()):
            chosen = (directions == direction) | (direction == TOGETHER)
            for name, of_model in values.items():
                ours = of_model[chosen]
                (compared,) = paired_bootstrap(ours, values[EMCDR][chosen][:, None])
                rows.append(
                    {
                        "model": name,
                        "direction": direction,
                        "metric": metric,
                        "users": len(ours),
                        "value": float(ours.mean()),
                        "minus EMCDR": compared.difference,
                        "low": compared.low,
                        "high": compared.high,
                    }
                )
    return rows


def _print(rows: list[dict[str, object]], splits: int) -> None:
    frame = pl.DataFrame(rows)
    for (direction, users), part in frame.group_by("direction", "users", maintain_order=True):
        title = f"{direction}: {users:,} users of {splits} splits; below, less EMCDR's"
        table = Table("model", *METRICS, title=title)
        for (name,), of_model in part.group_by("model", maintain_order=True):
            by_metric = {row["metric"]: row for row in of_model.iter_rows(named=True)}
            cells = [
                f"{each['value']:.4f}\n{each['minus EMCDR']:+.3f}"
                f" ({each['low']:+.3f} {each['high']:+.3f})"
                for each in (by_metric[metric] for metric in METRICS)
            ]
            table.add_row(str(name), *cells)
        Console().print(table)


if __name__ == "__main__":
    typer.run(main)
