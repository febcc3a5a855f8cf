"""``llm4cdsr compare``: compares two releases."""

from collections.abc import Iterator
from typing import Annotated

import polars as pl
import typer
from pydantic import JsonValue
from rich.table import Table
from rich.text import Text

from artifacts import columns as col
from artifacts.bundles import parts_of
from artifacts.kinds.results import ALL, FULL, METRIC_SCHEMA, METRICS, OUR_MODEL, read_table
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from flows.cli.commands.upkeep.release_command import completed_release
from flows.cli.options.opened_store import opened_store
from flows.cli.options.shared_options import StoreRoot
from flows.cli.output import terminal
from tasks.frame.number_texts import signed
from tasks.promoting.promotion import release_named

EXAMPLES = "Examples:\n\nllm4cdsr compare 3f2a 91c0\n\nllm4cdsr compare 3f2a 91c0 --store s3://b/s"

NO_FIGURES = pl.DataFrame(schema=METRIC_SCHEMA)
QUOTED = ("NDCG@10", "HR@10")
ROLES = ("dataset", "embeddings", "profiles", "model", "metrics")
"""The artifacts of a release whose settings are compared."""

Facts = dict[str, str]

Release = Annotated[
    str,
    typer.Argument(
        help="Fingerprint of a release, or a unique prefix.", autocompletion=completed_release
    ),
]


def compare(first: Release, second: Release, store: StoreRoot = None) -> None:
    """Compare two releases: data, settings and quality by domain.

    Metrics of different held-out events are marked, because they are not comparable.
    """
    opened = opened_store(store)
    pair = [release_named(opened, name) for name in (first, second)]
    facts = [_facts(opened, release) for release in pair]
    table = terminal.table("Releases", "", *(release.fingerprint for release in pair))
    for name in dict.fromkeys((*facts[0], *facts[1])):
        left, right = (each.get(name, "") for each in facts)
        if left != right or name in ("made", "data"):
            table.add_row(name, Text(left), Text(right))
    terminal.out.print(table)
    terminal.out.print(_quality(opened, pair))
    if parts_of(opened, pair[0])["dataset"] != parts_of(opened, pair[1])["dataset"]:
        terminal.out.print(
            "The two were measured on held-out events of different datasets: the difference "
            "includes the effect of the data."
        )


def _facts(store: Store, release: ArtifactRef) -> Facts:
    parts = parts_of(store, release)
    manifest, data = store.manifest(release), store.manifest(parts["dataset"])
    counts = ", ".join(f"{data.counts[n]:,} {n}" for n in ("users", "items", "events"))
    facts = {
        "made": f"{manifest.created:%Y-%m-%d %H:%M} UTC, version {manifest.code_version}",
        "data": f"{parts['dataset'].fingerprint}: {counts}",
        "notes": "; ".join(manifest.notes),
    }
    for role in (role for role in ROLES if role in parts):
        facts |= dict(_flat(role, store.manifest(parts[role]).parameters))
    return facts


def _flat(name: str, value: JsonValue) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, str(value)


def _quality(store: Store, pair: list[ArtifactRef]) -> Table:
    columns = ("domain", "metric", *(f">{release.fingerprint}" for release in pair), ">difference")
    table = terminal.table("Held-out events, full ranking (higher is better)", *columns)
    left, right = (_figures(store, release) for release in pair)
    for key in dict.fromkeys((*left, *right)):
        before, after = left.get(key), right.get(key)
        table.add_row(
            Text(key[0]),
            key[1],
            "" if before is None else f"{before:.4f}",
            "" if after is None else f"{after:.4f}",
            "" if before is None or after is None else signed(after - before, 4),
        )
    return table


def _figures(store: Store, release: ArtifactRef) -> dict[tuple[str, str], float]:
    parts = parts_of(store, release)
    frame = read_table(store, parts["metrics"], METRICS) if "metrics" in parts else NO_FIGURES
    is_quoted = pl.col("metric").is_in(QUOTED)
    rows = frame.filter(is_quoted, model=OUR_MODEL, ranking=FULL, group=ALL)
    found = rows.select(col.DOMAIN, "metric", "value").iter_rows()
    # Null: the domain has no measured event.
    return {(domain, metric): value for domain, metric, value in found if value is not None}
