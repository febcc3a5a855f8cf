"""The tables of quality on a terminal: only those that there is something to say in."""

from pathlib import Path

import polars as pl
import pytest
from rich.console import Console
from rich.table import Table

from artifacts.kinds.results import COLD_DOMAIN, FULL, METRIC_SCHEMA, METRICS
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from flows.cli.output.console import metric_tables

Row = tuple[str, str, str, str, str, float, int]

ORDINARY: Row = ("llm4cdsr", FULL, "all", "all", "HR@10", 0.3421, 400)
COLD: list[Row] = [
    ("llm4cdsr", COLD_DOMAIN, domain, group, "any@10", value, 9)
    for domain, group, value in (
        ("all", "all", 0.2831),
        ("b", "all", 0.1111),
        ("b", "a → b", 0.2222),
    )
]


def stored(store: Store, rows: list[Row]) -> ArtifactRef:
    wanted = identity(Kind.METRICS, {"rows": len(rows)}, {})
    with store.create(wanted) as draft:
        frame = pl.DataFrame(rows, schema=METRIC_SCHEMA, orient="row")
        frame.write_parquet(draft.path / METRICS)
    return wanted.ref


def printed(tables: list[Table]) -> str:
    shown = Console(width=200, force_terminal=False)
    with shown.capture() as text:
        shown.print(*tables)
    return text.get()


@pytest.mark.parametrize(("rows", "count"), [([ORDINARY], 1), (COLD, 1), ([ORDINARY, *COLD], 2)])
def test_each_protocol_that_was_measured_has_a_table(
    tmp_path: Path, rows: list[Row], count: int
) -> None:
    store = Store(tmp_path)
    tables = metric_tables(store, stored(store, rows))
    assert len(tables) == count
    text = printed(tables)
    assert ("0.3421" in text) == (ORDINARY in rows)
    assert ("0.2831" in text and "a → b" in text and "0.2222" in text) == (COLD[0] in rows)
    assert "0.1111" not in text
