"""How a benchmark tells its figures: a table to read, and JSON where it is wanted."""

import json
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures here.")]


def tell(figures: Mapping[str, object], json_file: Path | None) -> None:
    """Prints one figure a row, and writes all of them to ``json_file`` if given."""
    table = Table("figure", "value")
    for name, value in figures.items():
        shown = f"{value:,.2f}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), shown)
    Console().print(table)
    keep(figures, json_file)


def keep(figures: object, json_file: Path | None) -> None:
    """Writes figures as JSON to ``json_file`` if given."""
    if json_file is not None:
        text = json.dumps(figures, indent=2, ensure_ascii=False)
        json_file.write_text(text, encoding="utf-8")


def peak_gib() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
