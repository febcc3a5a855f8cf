"""Peak memory of each stage of a refresh: what follows the block, and what follows the data?

Each size is a process of its own: a made-up shop of that many users and items in two domains, an
empty ledger, and a server that answers at once and to each prompt otherwise (`instant_server.py
--varied`). The kernel's high-water mark of resident memory is set back before each stage; pages of
mapped files, which the kernel may drop, are told apart.

    python benchmarks/refresh_memory.py --size 100000 --size 200000
"""

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from unittest.mock import patch

import typer
from figures import JsonFile, keep
from ingest_scale import Shape, generate
from own_process import in_own_process, instant_server
from rich.console import Console
from rich.table import Table

from artifacts.ledger.answers import Role
from artifacts.store import Store
from tasks.cluster import ClusterConfig, cluster_items
from tasks.dump.dump_config import DumpConfig
from tasks.embed import embed_items
from tasks.frame.stage import StageResult
from tasks.ingest import ingest
from tasks.llm.providers.endpoints import Endpoint, Endpoints
from tasks.llm.settings.llm_config import EndpointSpec, LlmConfig
from tasks.name_clusters import name_clusters
from tasks.profile import ProfileConfig, profile_users
from tasks.project import ProjectConfig, project_items

MIB = 2**20
WATCH_SECONDS = 0.2

Figures = dict[str, dict[str, float]]
"""Of one size, by stage."""


def main(
    size: Annotated[
        list[int] | None, typer.Option(min=1000, help="Users, and items; may be repeated.")
    ] = None,
    events_per_user: Annotated[float, typer.Option(help="Mean length of a history.")] = 5,
    profiled: Annotated[
        int | None, typer.Option(help="Users who get a profile; everyone by default.")
    ] = None,
    clusters: Annotated[int, typer.Option(min=1, help="Interests of the catalogue.")] = 10,
    folder: Annotated[Path | None, typer.Option(help="Where stores lie for a while.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Refresh each shop and compare."""
    found: dict[int, Figures] = {}
    for count in size or (100_000, 200_000):
        with (
            TemporaryDirectory(dir=folder) as name,
            instant_server("--varied") as (url, _),
        ):
            place = Path(name)
            # The dump is made by a process of its own: its memory must not count.
            dump = in_own_process(make, count, events_per_user, place)
            found[count] = in_own_process(one, url, place, dump, profiled, clusters)
    _print(found)
    keep(found, json_file)


def make(size: int, events_per_user: float, folder: Path) -> DumpConfig:
    """Writes a dump."""
    shape = Shape(
        events=round(size * events_per_user),
        users=size,
        items=size,
        domain_shares=(0.35, 0.65),
        overlap=0.2,
        zipf=0.6,
        spread=0.5,
        cores=1,
        gzip=False,
        seed=0,
    )
    return generate(shape, folder)


def one(url: str, folder: Path, dump: DumpConfig, profiled: int | None, clusters: int) -> Figures:
    """Refreshes the shop of a dump; returns the figures of each stage."""
    store = Store(folder / "store")
    by = Endpoints(chat=_endpoint(url, Role.CHAT), embedding=_endpoint(url, Role.EMBEDDING))
    llm, figures = LlmConfig(), Figures()

    def measured(stage: Callable[[], StageResult]) -> StageResult:
        with _high_water() as held:
            started, cpu = time.monotonic(), time.process_time()
            made = stage()
        figures[made.stage] = {
            "seconds": time.monotonic() - started,
            "cpu": time.process_time() - cpu,
            "requests": made.usage.requests,
            **held,
        }
        print(json.dumps({made.stage: figures[made.stage]}), file=sys.stderr, flush=True)
        return made

    # Without a Prefect server: what it takes is no part of the stages.
    with patch("tasks.llm.shards.shard_run.has_given_up", return_value=True):
        data = measured(lambda: ingest.fn(dump, store.root)).ref
        vectors = measured(lambda: embed_items.fn(data, by.embedding, llm, store.root)).ref
        groups = ClusterConfig(clusters=clusters)
        clustered = measured(lambda: cluster_items.fn(vectors, groups, store.root)).ref
        who = ProfileConfig(max_users=profiled)
        measured(lambda: profile_users.fn(data, clustered, by, llm, who, store.root))
        measured(lambda: name_clusters.fn(data, clustered, by.chat, llm, store.root))
        measured(lambda: project_items.fn(data, vectors, ProjectConfig(), store.root))
    return figures


def _endpoint(url: str, role: Role) -> Endpoint:
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


@contextmanager
def _high_water() -> Iterator[dict[str, float]]:
    """Gives the peaks of resident memory in the block, bytes, once it has ended: of all pages, and
    of those that the process made itself (sampled)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    held = {"begin": _held("VmRSS"), "own": _held("RssAnon")}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_SECONDS):
            held["own"] = max(held["own"], _held("RssAnon"))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield held
    finally:
        ended.set()
        watching.join()
        held["peak"] = _held("VmHWM")


def _held(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return float(found[1]) * 1024


def _print(found: dict[int, Figures]) -> None:
    table = Table("stage", title="Peak MiB of resident memory (own pages), seconds, requests")
    for size in found:
        table.add_column(f"{size:,} users and items", justify="right")
    for stage in next(iter(found.values())):
        cells = [
            f"{row['peak'] / MIB:,.0f} ({row['own'] / MIB:,.0f})  {row['seconds']:,.0f} s  "
            f"{row['requests']:,.0f}"
            for row in (stages[stage] for stages in found.values())
        ]
        table.add_row(stage, *cells)
    peaks = [max(row["peak"] for row in stages.values()) / MIB for stages in found.values()]
    table.add_section()
    table.add_row("all", *(f"{peak:,.0f}" for peak in peaks))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
