"""Peak memory of profiling users, at two sizes: does it follow the block or the data?

Each size is a process of its own: a made-up shop of that many users, a ledger that is empty, and a
server that answers at once (`instant_server.py`). Prints the peak of resident memory, what of it
each user takes, and how it grows from one size to the other.

    python benchmarks/planning_memory.py --users 20000 --more-users 80000
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from unittest.mock import patch

import numpy as np
import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from artifacts import columns as col
from artifacts.kinds.clusters import write_clusters
from artifacts.kinds.dataset import Split, write_dataset
from artifacts.ledger.answers import Role
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from tasks.llm.providers.endpoints import Endpoint, Endpoints
from tasks.llm.settings.llm_config import EndpointSpec, LlmConfig
from tasks.profile import ProfileConfig, profile_users

ITEMS, CLUSTERS, EVENTS_A_USER = 50_000, 3, 10
MIB = 2**20

app = typer.Typer(add_completion=False)


@app.callback(help=__doc__, invoke_without_command=True)
def main(
    context: typer.Context,
    users: Annotated[int, typer.Option(help="The smaller size.")] = 20_000,
    more_users: Annotated[int, typer.Option(help="The larger size.")] = 80_000,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.")
    ] = None,
) -> None:
    """Profile both shops and compare."""
    if context.invoked_subcommand is not None:
        return
    rows = [_measured(size) for size in (users, more_users)]
    growth = (rows[1]["peak"] - rows[0]["peak"]) / (more_users - users)
    table = Table("users", "prompts", "seconds", "CPU seconds", "peak MiB")
    for row in rows:
        table.add_row(
            *(f"{row[name]:,.0f}" for name in ("users", "prompts", "seconds", "cpu")),
            f"{row['peak'] / MIB:,.0f}",
        )
    Console().print(table)
    print(
        f"peak ratio {rows[1]['peak'] / rows[0]['peak']:.2f} for {more_users / users:.1f} times "
        f"the users; {growth / 1000:.1f} kB a user more"
    )
    if json_file is not None:
        json_file.write_text(json.dumps({"runs": rows, "bytes_a_user": growth}), encoding="utf-8")


def _measured(users: int) -> dict[str, float]:
    server = Path(__file__).with_name("instant_server.py")
    with TemporaryDirectory() as folder:
        serving = subprocess.Popen([sys.executable, str(server)], stdout=subprocess.PIPE, text=True)
        try:
            assert serving.stdout is not None
            url = serving.stdout.readline().strip()
            command = [sys.executable, __file__, "one", str(users), url, folder]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        finally:
            serving.kill()
            serving.wait()
    return json.loads(said.splitlines()[-1])


@app.command(hidden=True)
def one(users: int, url: str, folder: Path) -> None:
    """Profiles a made-up shop; prints its figures as a line of JSON."""
    store = Store(folder / "store")
    dataset, clusters = _shop(store, users)
    seconds, cpu = time.monotonic(), time.process_time()
    # Without a Prefect server: what it takes is no part of the stage.
    with patch("tasks.llm.shards.shard_run.has_given_up", return_value=True):
        made = profile_users.fn(
            dataset,
            clusters,
            Endpoints(chat=endpoint(url, Role.CHAT), embedding=endpoint(url, Role.EMBEDDING)),
            LlmConfig(),
            ProfileConfig(),
            store.root,
        )
    figures = {
        "users": users,
        "prompts": made.usage.prompts,
        "requests": made.usage.requests,
        "seconds": time.monotonic() - seconds,
        "cpu": time.process_time() - cpu,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(figures))


def endpoint(url: str, role: Role) -> Endpoint:
    """Returns an instant server's endpoint, 64 requests at once."""
    spec = EndpointSpec(
        role=role,
        base_url=url,
        model="instant",
        concurrency=64,
        timeout_seconds=60,
        max_retries=3,
        batch_size=64,
    )
    return Endpoint("instant", {}, (), lambda: spec)


def _shop(store: Store, users: int) -> tuple[ArtifactRef, ArtifactRef]:
    rng = np.random.default_rng(0)
    events = users * EVENTS_A_USER
    items = pl.DataFrame(
        {
            col.ITEM_INDEX: pl.Series(range(1, ITEMS + 1), dtype=pl.UInt32),
            col.ITEM_ID: [f"item{number}" for number in range(ITEMS)],
            col.DOMAIN: pl.Series(["shop"] * ITEMS, dtype=pl.Categorical),
            col.TITLE: [f"A made-up article, number {number}, of steel" for number in range(ITEMS)],
        }
    )
    people = pl.DataFrame(
        {
            col.USER_INDEX: pl.Series(range(users), dtype=pl.UInt32),
            col.USER_ID: [f"user{number}" for number in range(users)],
            "events": [EVENTS_A_USER] * users,
        }
    )
    bought = {
        col.ITEM_INDEX: rng.integers(1, ITEMS + 1, events),
        col.TIMESTAMP: np.arange(events),
        col.SPLIT: np.full(events, Split.TRAIN),
    }
    with store.create(identity(Kind.DATASET, {"users": users}, {})) as draft:
        write_dataset(draft.path, people, items, pl.DataFrame(bought))
    labels = rng.integers(0, CLUSTERS, ITEMS)
    with store.create(identity(Kind.CLUSTERS, {"users": users}, {})) as draft:
        write_clusters(draft.path, labels, np.zeros(ITEMS), np.zeros((CLUSTERS, 1)))
    return (
        identity(Kind.DATASET, {"users": users}, {}).ref,
        identity(Kind.CLUSTERS, {"users": users}, {}).ref,
    )


if __name__ == "__main__":
    app()
