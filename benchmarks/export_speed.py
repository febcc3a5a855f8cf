"""Seconds and memory of exporting the best items of every user, at the size of a real shop.

The shop is made up (`made_up_shop.py`).

    python benchmarks/export_speed.py --users 53061 --items 36298
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from figures import JsonFile, peak_gib, tell
from made_up_shop import DOMAINS, EVENTS, ITEMS, USERS, made_up_histories, made_up_recommender

from tasks.serving.export.export_recs import ExportConfig, export_recommendations


def main(
    users: Annotated[int, typer.Option(min=1)] = USERS,
    items: Annotated[int, typer.Option(min=100, help="Of both domains together.")] = ITEMS,
    events: Annotated[float, typer.Option(min=1, help="Mean of a user.")] = EVENTS,
    k: Annotated[int, typer.Option(min=1)] = 20,
    preset: Annotated[str, typer.Option(help="Model preset.")] = "large",
    threads: Annotated[int, typer.Option(min=1)] = 2,
    json_file: JsonFile = None,
) -> None:
    """Export top-k of both domains for every user; print seconds and peak memory."""
    torch.set_num_threads(threads)
    recommender = made_up_recommender(made_up_histories(users, items, events), preset)
    memory = recommender.state.scorer.model.memory
    before = peak_gib()
    with tempfile.TemporaryDirectory() as folder:
        started, worked = time.perf_counter(), time.process_time()
        made = export_recommendations(recommender, Path(folder) / "out", ExportConfig(k=k))
        seconds, worked = time.perf_counter() - started, time.process_time() - worked
    figures = {
        "domains": len(DOMAINS),
        "preset": preset,
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
        "peak_gib": peak_gib(),
    }
    tell(figures, json_file)


if __name__ == "__main__":
    typer.run(main)
