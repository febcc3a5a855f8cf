"""What item texts and user profiles bring, on several samples of the users of one refresh.

Each seed draws a sample, held-out events and a training of its own; differences are pooled, with
95 % intervals of a paired bootstrap over the users of all samples (docs/quality.md). With
`--profiles` and `--crossings` the dataset's own withheld-domain split is measured instead, each
named artifact against the model without it.

    python benchmarks/llm_contribution.py --store artifacts/data --preset single --seeds 0,1,2
    python benchmarks/llm_contribution.py --store S --profiles retrieval=FINGERPRINT --crossings a=F
"""

from typing import Annotated

import numpy as np
import torch
import typer
from figures import JsonFile, keep
from llm_arms import Arms, own_split
from rich.console import Console
from rich.table import Table

from artifacts.bundles import latest_refresh, parts_of
from artifacts.store import Store
from model.config import load_preset
from tasks.ablate import ablation_training
from tasks.ablation.differences import Inputs, PairedGains, paired_gains, table_of
from tasks.ablation.sample import draw_sample
from tasks.frame.model_inputs import load_profiles, load_sequences, load_tables


def main(
    store: Annotated[str, typer.Option(help="Store whose latest refresh is measured.")],
    preset: Annotated[str, typer.Option(help="Model preset.")] = "single",
    seeds: Annotated[str, typer.Option(help="Each draws a sample: 0,1,2.")] = "0,1,2",
    profiles_of: Annotated[
        list[str] | None,
        typer.Option("--profiles", help="NAME=FINGERPRINT of user profiles; may be repeated."),
    ] = None,
    crossings_of: Annotated[
        list[str] | None,
        typer.Option("--crossings", help="NAME=FINGERPRINT of crossing answers; likewise."),
    ] = None,
    users: Annotated[int, typer.Option(min=30, help="Users of each sample.")] = 4_000,
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs of each variant.")] = 12,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda, auto.")] = "cpu",
    json_file: JsonFile = None,
) -> None:
    """Sample, fit, rank; print one table."""
    torch.set_num_threads(threads)
    opened = Store(store)
    parts = parts_of(opened, latest_refresh(opened))
    sequences = load_sequences(opened, parts["dataset"])
    tables, profiles = (
        load_tables(opened, parts["tables"]),
        load_profiles(opened, parts["profiles"]),
    )
    arms = Arms.read(opened, parts, profiles_of or [], crossings_of or [])
    found: dict[tuple[str, str], list[PairedGains]] = {}
    pooled = table_of([])
    for seed in (int(text) for text in seeds.split(",")):
        config = ablation_training(load_preset(preset, {"train": {"seed": seed}}), epochs)
        first = None if profiles is None else profiles.has_profile
        if arms.are_given:
            measured = arms.measured(own_split(sequences, seed), tables, config, seed, device)
        else:
            sample = draw_sample(sequences, users, first, seed)
            inputs = Inputs(tables, sample.own(profiles), config)
            measured = paired_gains(sample, inputs, seed, device)
        for paired in measured:
            found.setdefault((paired.part, paired.group), []).append(paired)
        pooled = table_of([_pooled(each) for each in found.values()])
        # After each seed: a night may be cut short.
        keep(pooled.to_dicts(), json_file)
    table = Table("part", "group", "events", "with", "without", "difference")
    for row in pooled.iter_rows(named=True):
        cells = ("", "", "too few events")
        if row["difference"] is not None:
            interval = f"{row['low']:+.4f} to {row['high']:+.4f}"
            gap = f"{row['difference']:+.4f} ({interval})"
            cells = (f"{row['with']:.4f}", f"{row['without']:.4f}", gap)
        table.add_row(row["part"], row["group"], f"{row['events']:,}", *cells)
    Console().print(table)


def _pooled(paired: list[PairedGains]) -> PairedGains:
    return PairedGains(
        paired[0].part,
        paired[0].group,
        np.concatenate([each.reference for each in paired]),
        np.concatenate([each.without for each in paired]),
    )


if __name__ == "__main__":
    typer.run(main)
