"""Seconds and memory of exporting the best items of every user, at the size of a real shop.

The shop is made up: items are bought by a power law, and what was bought lately makes its
neighbours likelier, so that the transition memory has long rows and short ones. The model is that
of a preset with the weights it starts from, and its memory holds all events: an export's work does
not depend on how well the weights are trained.

    python benchmarks/export_speed.py --users 53061 --items 36298
"""

import json
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import torch
import typer
from rich.console import Console
from rich.table import Table

from artifacts.manifest import ArtifactRef, Kind
from model.config import load_preset
from model.sequences import IntArray, Sequences
from model.tables import ItemTables
from model.tri_thread import TriThread
from tasks.catalogue import Catalogue
from tasks.export_recs import ExportConfig, export_recommendations
from tasks.recommender import Recommender
from tasks.release import OpenRelease, ReleaseFacts
from tasks.text_space import TextSpace

DOMAINS = ("food", "kitchen")
TEXT_WIDTH = 384
NEAR = 30
"""Half of the events are on items at most this far from the one before."""


def main(
    users: Annotated[int, typer.Option(min=1)] = 53_061,
    items: Annotated[int, typer.Option(min=100, help="Of both domains together.")] = 36_298,
    events: Annotated[float, typer.Option(min=1, help="Mean of a user.")] = 8.2,
    k: Annotated[int, typer.Option(min=1)] = 20,
    preset: Annotated[str, typer.Option(help="Model preset.")] = "large",
    threads: Annotated[int, typer.Option(min=1)] = 2,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.")
    ] = None,
) -> None:
    """Export top-k of both domains for every user; print seconds and peak memory."""
    torch.set_num_threads(threads)
    recommender = _recommender(_histories(users, items, events), preset)
    memory = recommender.state.scorer.model.memory
    before = _peak_gib()
    with tempfile.TemporaryDirectory() as folder:
        started, worked = time.perf_counter(), time.process_time()
        made = export_recommendations(recommender, Path(folder) / "out", ExportConfig(k=k))
        seconds, worked = time.perf_counter() - started, time.process_time() - worked
    figures = {
        "users": users,
        "items": items,
        "events": len(recommender.state.histories.items),
        "remembered_successions": 0 if memory is None else len(memory.items),
        "threads": threads,
        "rows": sum(part.rows for part in made.domains.values()),
        "seconds": seconds,
        "cpu_seconds": worked,
        "users_per_second": users / seconds,
        "peak_gib_before": before,
        "peak_gib": _peak_gib(),
    }
    table = Table("figure", "value", title=f"Top {k} of {len(DOMAINS)} domains, preset {preset}")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:,.2f}" if value % 1 else f"{value:,.0f}")
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2), encoding="utf-8")


def _histories(users: int, items: int, mean: float) -> Sequences:
    """Made-up histories; a third of the items are of the first domain."""
    rng = np.random.default_rng(0)
    lengths = np.maximum(3, rng.geometric(1 / mean, users))
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    total = int(offsets[-1])
    popular = np.minimum(rng.zipf(1.2, total), items) - 1
    # A power law over shuffled items, so that both domains have popular ones.
    chosen = rng.permutation(items)[(popular + rng.integers(0, items // 20, total)) % items]
    near = (np.roll(chosen, 1) + rng.integers(-NEAR, NEAR + 1, total)) % items
    chosen = np.where(rng.random(total) < 0.5, near, chosen)
    starts = np.array([0, items // 3, items], np.int64)
    return Sequences(offsets, chosen + 1, np.zeros(total, np.int8), starts, DOMAINS)


def _recommender(histories: Sequences, preset: str) -> Recommender:
    rng = np.random.default_rng(1)
    config = load_preset(preset).model
    rows = histories.item_count + 1
    text = rng.standard_normal((rows, TEXT_WIDTH), np.float32)
    local = rng.standard_normal((rows, config.hidden), np.float32)
    text[0] = local[0] = 0
    torch.manual_seed(0)
    model = TriThread(ItemTables(text, local), histories.domain_starts, config)
    if model.memory is not None:
        model.memory.learn(histories)
    release = OpenRelease(
        facts=_facts(),
        catalogue=_catalogue(histories),
        model=model,
        vectors=text,
        space=TextSpace({}, {}),
        histories=histories,
        user_ids=[f"U{user:08}" for user in range(histories.user_count)],
        last_seen=np.ones(histories.user_count, np.int64),
        profiles={},
    )
    return Recommender(release)


def _catalogue(histories: Sequences) -> Catalogue:
    starts: IntArray = histories.domain_starts
    index = np.arange(1, histories.item_count + 1)
    table = pl.DataFrame(
        {
            "item_index": index,
            "item_id": [f"B{number:09}" for number in index.tolist()],
            "domain": np.repeat(DOMAINS, np.diff(starts)),
            "title": [f"A made-up product with a title of common length {n}" for n in index],
        }
    )
    bought = np.bincount(histories.items, minlength=histories.item_count + 1)
    return Catalogue(table, DOMAINS, starts, bought)


def _facts() -> ReleaseFacts:
    def ref(kind: Kind) -> ArtifactRef:
        return ArtifactRef(kind=kind, fingerprint="0" * 16)

    return ReleaseFacts(ref(Kind.RELEASE), ref(Kind.MODEL), datetime.now(UTC), (), {})


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    typer.run(main)
