"""How a benchmark tells its figures: a table to read, and JSON where it is wanted."""

import json
import resource
from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table


def tell(figures: Mapping[str, object], json_file: Path | None) -> None:
    """Prints one figure a row, and writes all of them to ``json_file`` if given."""
    table = Table("figure", "value")
    for name, value in figures.items():
        shown = f"{value:,.2f}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), shown)
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2), encoding="utf-8")


def device_name(device: torch.device) -> str:
    """The GPU's name, or cpu."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_memory(device: torch.device) -> dict[str, float]:
    """The most memory held so far, in GiB: of this process, and of tensors on a GPU if one is used.

    The process's share counts the CUDA libraries it loaded, some gigabytes, which no tensor needs.
    """
    peak = {"peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    if device.type == "cuda":
        peak["gpu_peak_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    return peak
