"""How well people are served in a domain where they have no history (METHOD 9).

From a seeded share of the users of several domains one whole domain is withheld; every model is
fitted on the rest and ranks that domain for them. Each seed is a split of its own. Differences are
to EMCDR, with 95 % intervals of a paired bootstrap over the users of all seeds.

    python benchmarks/cold_domain.py --interactions F --items F --seeds 0,1,2 --json OUT
"""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import polars as pl
import torch
import typer
from rich.console import Console
from rich.table import Table

from artifacts import columns as col
from artifacts.dataset import read_dataset
from artifacts.store import Store
from model.bootstrap import paired_bootstrap
from model.cold_domain import METRICS, ColdGains, measure_cold
from model.sequences import COLD_TEST, COLD_VALIDATION, Sequences
from tasks.baselines import COLD_BASELINES, EMCDR
from tasks.dump.config import ColdDomain, DumpConfig
from tasks.ingest import ingest
from tasks.model_inputs import sequences_of

TOGETHER = "together"


def main(
    interactions: Annotated[Path, typer.Option(help="File of interactions.")],
    items: Annotated[Path, typer.Option(help="File that describes the items.")],
    seeds: Annotated[str, typer.Option(help="Each draws a split: 0,1,2.")] = "0",
    max_single_domain_users: Annotated[
        int | None, typer.Option(min=0, help="Keep a sample of the users of one domain.")
    ] = None,
    share: Annotated[float, typer.Option(help="Of the users of several domains: tested.")] = 0.15,
    validation_share: Annotated[float, typer.Option(help="Of the same: cold validation.")] = 0.1,
    on_validation: Annotated[
        bool, typer.Option(help="Measure the cold validation users, for choosing settings.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.")
    ] = None,
) -> None:
    """Split, fit, rank; print one table."""
    torch.set_num_threads(threads)
    drawn = [int(seed) for seed in seeds.replace(",", " ").split()]
    protocol = ColdDomain(test_share=share, validation_share=validation_share)
    found: dict[str, list[ColdGains]] = {}
    directions: list[str] = []
    with TemporaryDirectory() as folder:
        cut = _cut(interactions, max_single_domain_users, Path(folder))
        for seed in drawn:
            dump = DumpConfig(
                interactions=str(cut.resolve()),
                items=str(items.resolve()),
                split=protocol,
                seed=seed,
            )
            sequences = _sequences(dump, Path(folder) / "store")
            gains = _baselines(sequences, COLD_VALIDATION if on_validation else COLD_TEST)
            for name, of_model in gains.items():
                found.setdefault(name, []).append(of_model)
            directions += next(iter(gains.values())).directions(sequences.domain_names)
    rows = _rows(found, np.array(directions))
    _print(rows, len(drawn))
    if json_file is not None:
        json_file.write_text(json.dumps(rows, indent=2, ensure_ascii=False), encoding="utf-8")


def _cut(interactions: Path, most: int | None, folder: Path) -> Path:
    """Returns the interactions of all users of several domains and a sample of the others."""
    if most is None:
        return interactions
    events = pl.read_parquet(interactions)
    domains = events.group_by(col.USER_ID).agg(pl.col(col.DOMAIN).n_unique().alias("domains"))
    single = domains.filter(domains=1)[col.USER_ID].sort()
    dropped = single.sample(max(0, len(single) - most), seed=0)
    path = folder / "interactions.parquet"
    events.filter(~pl.col(col.USER_ID).is_in(dropped.implode())).write_parquet(path)
    return path


def _sequences(dump: DumpConfig, folder: Path) -> Sequences:
    store = Store(str(folder))
    return sequences_of(read_dataset(store, ingest.fn(dump, store.root).ref))


def _baselines(sequences: Sequences, split: int) -> dict[str, ColdGains]:
    withheld = sequences.prefixes_of_withheld(split)
    gains = {}
    for name, fit in COLD_BASELINES.items():
        started = time.monotonic()
        gains[name] = measure_cold(fit(sequences), withheld)
        print(f"{name}: {time.monotonic() - started:.1f} s")
    return gains


def _rows(found: dict[str, list[ColdGains]], directions: np.ndarray) -> list[dict[str, object]]:
    """One row a scorer, direction and metric."""
    values = {
        name: {
            metric: np.concatenate([each.values[metric] for each in gains]) for metric in METRICS
        }
        for name, gains in found.items()
    }
    rows: list[dict[str, object]] = []
    for direction in (TOGETHER, *np.unique(directions).tolist()):
        chosen = (
            np.ones(len(directions), bool) if direction == TOGETHER else directions == direction
        )
        for metric in METRICS:
            rival = values[EMCDR][metric][chosen]
            for name, of_model in values.items():
                ours = of_model[metric][chosen]
                (compared,) = paired_bootstrap(ours, rival[:, None])
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


def _print(rows: list[dict[str, object]], seeds: int) -> None:
    frame = pl.DataFrame(rows)
    for (direction, users), part in frame.group_by("direction", "users", maintain_order=True):
        table = Table("model", *METRICS, "first HR@10 minus EMCDR")
        for (name,), of_model in part.group_by("model", maintain_order=True):
            by_metric = {row["metric"]: row for row in of_model.iter_rows(named=True)}
            first = by_metric["first HR@10"]
            table.add_row(
                str(name),
                *(f"{by_metric[metric]['value']:.4f}" for metric in METRICS),
                f"{first['minus EMCDR']:+.4f} ({first['low']:+.4f} to {first['high']:+.4f})",
            )
        Console().print(f"{direction}: {users:,} users of {seeds} splits", table)


if __name__ == "__main__":
    typer.run(main)
