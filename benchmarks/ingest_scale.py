"""Seconds and memory of ingest by step, on generated dumps of growing size.

Items are Zipf-distributed, histories log-normal; a share of the users is active in several
domains. Each size is ingested by a process of its own, so that memory can be told apart.

    python benchmarks/ingest_scale.py --events 1000000 --events 10000000 --json ingest.json
"""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import typer
from figures import JsonFile, keep, peak_gib
from numpy.typing import NDArray
from own_process import in_own_process
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from artifacts.store import Store
from tasks.dump.dump_config import DumpConfig
from tasks.dump.made_dataset import made_from
from tasks.ingest import dataset_identity

CHUNK_EVENTS = 2_000_000
FIVE_YEARS = 5 * 365 * 86_400
START = 1_400_000_000


class Shape(BaseModel):
    """What a generated dump looks like."""

    events: int
    users: int
    items: int
    domain_shares: tuple[float, ...]
    overlap: float
    zipf: float
    spread: float
    cores: int
    gzip: bool
    seed: int


class Figures(BaseModel):
    """One ingest: seconds of each step, and the process's peak memory when it was done."""

    shape: Shape
    dump_mib: float
    seconds: dict[str, float]
    cpu_seconds: dict[str, float]
    peak_gib: dict[str, float]
    counts: dict[str, int | float]

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def main(
    events: Annotated[list[int], typer.Option(min=1_000, help="Events; may be repeated.")],
    events_per_user: Annotated[float, typer.Option(help="Mean length of a history.")] = 10,
    events_per_item: Annotated[float, typer.Option(help="Mean events of an item.")] = 50,
    share: Annotated[
        list[float] | None, typer.Option(help="Share of a domain's events; may be repeated.")
    ] = None,
    overlap: Annotated[float, typer.Option(help="Share of users in several domains.")] = 0.2,
    zipf: Annotated[float, typer.Option(help="Exponent of the items' popularity.")] = 1.0,
    spread: Annotated[float, typer.Option(help="Sigma of the log-normal histories.")] = 1.0,
    cores: Annotated[int, typer.Option(min=1, help="User and item core.")] = 3,
    gzip: Annotated[bool, typer.Option("--gzip", help="JSON lines, gzipped.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything generated.")] = 0,
    folder: Annotated[
        Path | None, typer.Option(help="Where dumps are written for a while.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Generate dumps, ingest each, and print seconds and peak memory by step."""
    shares = np.array(share or [0.35, 0.65])
    found = []
    for count in events:
        shape = Shape(
            events=count,
            users=max(1, round(count / events_per_user)),
            items=max(len(shares), round(count / events_per_item)),
            domain_shares=tuple(shares / shares.sum()),
            overlap=overlap,
            zipf=zipf,
            spread=spread,
            cores=cores,
            gzip=gzip,
            seed=seed,
        )
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as place:
            # Its memory must not count: the dump is made by another process.
            dump = in_own_process(generate, shape, Path(place))
            found.append(in_own_process(timed_ingest, shape, dump, Path(place)))
        _print(found)
    keep([each.model_dump(mode="json") for each in found], json_file)


def generate(shape: Shape, folder: Path) -> DumpConfig:
    """Writes a dump of this shape; its rows are in no order."""
    rng = np.random.default_rng(shape.seed)
    users = rng.permutation(np.repeat(np.arange(shape.users), _lengths(shape, rng)))
    home = rng.choice(len(shape.domain_shares), shape.users, p=shape.domain_shares)
    roams = rng.random(shape.users) < shape.overlap
    starts = np.round(np.cumsum([0, *shape.domain_shares]) * shape.items).astype(int)
    name = "interactions.jsonl.gz" if shape.gzip else "interactions.parquet"
    path = folder / name
    chunks = _chunks(shape, users, home, roams, starts, rng)
    if shape.gzip:
        for chunk in chunks:
            with path.open("ab") as file:
                chunk.write_ndjson(file, compression="gzip")
    else:
        _write_parquet(path, chunks)
    _write_items(folder / "items.parquet", starts)
    return DumpConfig(
        interactions=str(path),
        items=str(folder / "items.parquet"),
        user_core=shape.cores,
        item_core=shape.cores,
    )


def timed_ingest(shape: Shape, dump: DumpConfig, folder: Path) -> Figures:
    """Ingests a dump into a new store, looking at the clock after each step."""
    seconds, cpu, peak = {}, {}, {}
    last = time.perf_counter(), time.process_time()

    def on_step(step: str) -> None:
        nonlocal last
        now = time.perf_counter(), time.process_time()
        seconds[step], cpu[step] = now[0] - last[0], now[1] - last[1]
        last = now
        peak[step] = peak_gib()

    identity = dataset_identity(dump)
    on_step("hash files")
    store = Store(folder / "store")
    with store.create(identity) as draft:
        made_from(dump, on_step=on_step).write(draft)
        on_step("write")
    on_step("commit")
    assert isinstance(dump.interactions, str)
    return Figures(
        shape=shape,
        dump_mib=Path(dump.interactions).stat().st_size / 2**20,
        seconds=seconds,
        cpu_seconds=cpu,
        peak_gib=peak,
        counts=store.manifest(identity.ref).counts,
    )


def _lengths(shape: Shape, rng: np.random.Generator) -> NDArray[np.int64]:
    """Log-normal lengths of histories, at least 1, that sum to the events asked for."""
    drawn = rng.lognormal(0, shape.spread, shape.users)
    lengths = np.maximum(1, np.floor(drawn * shape.events / drawn.sum())).astype(np.int64)
    missing = shape.events - int(lengths.sum())
    if missing > 0:
        lengths += np.bincount(rng.integers(0, shape.users, missing), minlength=shape.users)
    elif missing < 0:
        lengths[np.argmax(lengths)] += missing
    return lengths


def _chunks(
    shape: Shape,
    users: NDArray[np.int64],
    home: NDArray[np.int64],
    roams: NDArray[np.bool_],
    starts: NDArray[np.int64],
    rng: np.random.Generator,
) -> Iterator[pl.DataFrame]:
    popularity = [np.cumsum(1 / np.arange(1, size + 1) ** shape.zipf) for size in np.diff(starts)]
    for begin in range(0, shape.events, CHUNK_EVENTS):
        who = users[begin : begin + CHUNK_EVENTS]
        drawn = rng.choice(len(shape.domain_shares), len(who), p=shape.domain_shares)
        domain = np.where(roams[who], drawn, home[who])
        item = np.zeros(len(who), np.int64)
        for number, weights in enumerate(popularity):
            mine = np.flatnonzero(domain == number)
            item[mine] = np.searchsorted(weights, rng.random(len(mine)) * weights[-1])
        yield pl.DataFrame(
            {
                "user_id": pl.Series(who * 7919 % 10**13).cast(pl.String).str.zfill(14),
                "item_id": pl.Series(item).cast(pl.String).str.zfill(10),
                "domain": pl.Series(domain).cast(pl.String),
                "timestamp": START + rng.integers(0, FIVE_YEARS, len(who)),
            }
        )


def _write_parquet(path: Path, chunks: Iterator[pl.DataFrame]) -> None:
    first = next(chunks).to_arrow()
    with pq.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for chunk in chunks:
            writer.write_table(chunk.to_arrow())


def _write_items(path: Path, starts: NDArray[np.int64]) -> None:
    tables = [
        pl.select(
            pl.int_range(size).cast(pl.String).str.zfill(10).alias("item_id"),
            pl.lit(str(number)).alias("domain"),
            pl.format("A thing number {} of shop {}", pl.int_range(size), number).alias("title"),
        )
        for number, size in enumerate(np.diff(starts).tolist())
    ]
    pl.concat(tables).write_parquet(path)


def _print(found: list[Figures]) -> None:
    table = Table("step", title="Seconds (of all cores) of each step, peak GiB when it was done")
    for figures in found:
        table.add_column(f"{figures.shape.events:,} events", justify="right")
    for step in found[0].seconds:
        cells = [
            f"{f.seconds[step]:.1f} ({f.cpu_seconds[step]:.1f})  {f.peak_gib[step]:.2f}"
            for f in found
        ]
        table.add_row(step, *cells)
    table.add_section()
    peaks = [max(figures.peak_gib.values()) for figures in found]
    cells = [
        f"{f.total:.1f} ({sum(f.cpu_seconds.values()):.1f})  {peak:.2f}"
        for f, peak in zip(found, peaks, strict=True)
    ]
    table.add_row("all", *cells)
    rates = [sum(f.cpu_seconds.values()) / f.shape.events * 1e6 for f in found]
    table.add_row("core microseconds an event", *(f"{rate:.2f}" for rate in rates))
    table.add_row("against the first", *(f"{rate / rates[0]:.2f}" for rate in rates))
    table.add_row("events kept", *(f"{f.counts['events']:,}" for f in found))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
