"""``llm4cdsr demo-dump``: generates example data."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.output import terminal
from tasks.demo.demo_dump import write_demo_dump

EXAMPLES = "Example:\n\nllm4cdsr demo-dump demo --seed 8"


def demo_dump(
    directory: Annotated[Path, typer.Argument(help="Folder of the two files.", file_okay=False)],
    seed: Annotated[int, typer.Option(min=0, help="Seed of users and items.")] = 7,
    users: Annotated[int, typer.Option(min=10, help="Number of users.")] = 400,
    items: Annotated[int, typer.Option(min=48, help="Number of items in both shops.")] = 600,
) -> None:
    """Generate example data: interactions and items of two shops."""
    written = write_demo_dump(directory, seed=seed, users=users, items=items)
    terminal.out.print(
        f"{written.event_count:,} events of {written.user_count:,} users on "
        f"{written.item_count:,} items:\n  {written.interactions}\n  {written.items}"
    )
