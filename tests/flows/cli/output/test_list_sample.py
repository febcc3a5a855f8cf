"""The sample at the end of a run: each domain with its own places, a domain that is new first."""

from pathlib import Path

import polars as pl
from rich.console import Console

from flows.cli.output.list_sample import sample_table
from tests.tasks.dump.dump_files import events_of, of_events


def test_places_are_those_of_a_domain_and_the_new_domain_comes_first(tmp_path: Path) -> None:
    rows = [row for row in events_of() if row["user_id"] != "u000" or row["domain"] == "food"]
    lists = pl.DataFrame(
        [
            {"user_id": "u000", "domain": domain, "rank": rank, "item_id": "x", "title": title}
            for rank in (1, 2, 3, 4)
            for domain, title in (("food", f"meal {rank}"), ("kitchen", None))
        ]
    )
    console = Console(width=80)
    with console.capture() as shown:
        console.print(sample_table(of_events(tmp_path, rows).dataset, lists.lazy()))
    lines = [line.split("│")[1:-1] for line in shown.get().splitlines() if "│" in line]
    cells = [tuple(cell.strip() for cell in line) for line in lines]
    assert cells == [
        ("kitchen (new to the user)", "1", "x"),
        ("", "2", "x"),
        ("", "3", "x"),
        ("food", "1", "meal 1"),
        ("", "2", "meal 2"),
        ("", "3", "meal 3"),
    ]
