"""``llm4cdsr experiment``: measures a grid of models on data sets and renders the results."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.errors.exits import interruptible
from flows.cli.options.option_classes import LlmOptions
from flows.cli.options.shared_options import LlmProvider, StoreRoot
from flows.cli.options.training_options import Device
from flows.cli.output import terminal

if TYPE_CHECKING:
    from artifacts.store import Store
    from flows.experiment import Plan
    from tasks.experiments.cell_results import FinishedCell
    from tasks.experiments.grid import Cell

RESULTS, PAGE = "results.parquet", "report.html"
TITLE = "Results"

EXAMPLES = (
    "Examples:\n\n"
    "llm4cdsr experiment grid.toml --dry-run\n\n"
    "llm4cdsr experiment grid.toml --only 'paper / seed 0'\n\n"
    "llm4cdsr experiment mini.toml large.toml --keep kept --markdown docs/results.md"
)


def experiment(
    grids: Annotated[
        list[Path],
        typer.Argument(help="TOML files; several are combined in one report.", exists=True),
    ],
    only: Annotated[
        str | None,
        typer.Option(help="Measure only cells whose name matches this regular expression."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List finished and missing cells; measure none.")
    ] = False,
    render_only: Annotated[
        bool, typer.Option("--render-only", help="Render finished cells; measure none.")
    ] = False,
    output: Annotated[
        Path, typer.Option(help="Folder for results.parquet and report.html.")
    ] = Path("experiment"),
    markdown: Annotated[Path | None, typer.Option(help="Path for the tables as Markdown.")] = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="Folder to which finished cells are copied, e.g. in a Git repository."),
    ] = None,
    provider: LlmProvider = None,
    device: Device = "auto",
    store: StoreRoot = None,
) -> None:
    """Measure a grid of data sets, presets, ablations and seeds.

    A cell is one combination of them. Finished cells are reused: an interrupted or killed command
    resumes when repeated. Concurrent commands on one store share the work. The tables show the
    finished cells. With --keep, another machine resumes from that folder.
    """
    from artifacts.store import Store
    from flows.cli.options.configurations import llm_config
    from flows.experiment import keep_finished, make_missing, plan, read_dumps
    from flows.server.api import prefect_api
    from flows.settings import Settings
    from tasks.experiments.grid import read_grid
    from tasks.experiments.kept_cells import KeptCells

    terminal.show_logs(verbose=False)
    settings = Settings()
    opened = Store(store or settings.store)
    llm = llm_config(settings, LlmOptions(provider=provider))
    chosen = _filter(only)
    read = [(read_grid(path), path.resolve().parent) for path in grids]
    kept = None if keep is None else KeptCells(keep)
    plans = [plan(grid, folder, llm, opened, kept) for grid, folder in read]
    if dry_run:
        _list(plans, chosen)
        return
    if not render_only:
        log = opened.workspace("logs") / "prefect-server.log"
        with interruptible("Finished cells are kept; the same command measures the others."):
            for planned in plans:
                make_missing(planned, chosen, llm, opened, lambda: prefect_api(log), device, kept)
        plans = [plan(grid, folder, llm, opened) for grid, folder in read]
    for planned in plans:
        read_dumps(planned, opened)
        if kept is not None:
            keep_finished(planned, opened, kept)
    _show(opened, plans, grids, output, markdown)


def _filter(only: str | None) -> "Callable[[Cell], bool]":
    try:
        pattern = re.compile(only or "")
    except re.error as error:
        raise typer.BadParameter(f"--only {only!r} is no regular expression: {error}") from error
    return lambda cell: pattern.search(cell.label) is not None


def _list(plans: "list[Plan]", chosen: "Callable[[Cell], bool]") -> None:
    for planned in plans:
        cells = [each for each in planned.cells if chosen(each.cell)]
        for each in cells:
            mark, style = ("done   ", "green") if each.done else ("missing", "")
            terminal.out.print(mark, style=style, end=" ")
            terminal.say(each.cell.label)
        done = sum(each.done for each in cells)
        terminal.out.print(f"{planned.grid.title}: {done} of {len(cells)} cells are done")


def _show(
    store: "Store", plans: "list[Plan]", grids: list[Path], output: Path, markdown: Path | None
) -> None:
    from artifacts.files.durable import write_atomically
    from tasks.experiments.cell_results import collect
    from tasks.experiments.results_page import render_markdown, render_page
    from tasks.experiments.results_report import FinishedGrid, compared_models, experiment_content

    finished = [
        FinishedGrid(each.grid, _finished(each), [lacking.cell for lacking in each.missing])
        for each in plans
    ]
    cells = [cell for grid in finished for cell in grid.finished]
    if not cells:
        terminal.out.print("No cell is done yet, so there is nothing to show.")
        return
    results = collect(store, cells, compared_models(finished))
    command = " ".join(["llm4cdsr experiment", *(path.name for path in grids)])
    content = experiment_content(store, finished, results, TITLE, command)
    output.mkdir(parents=True, exist_ok=True)
    results.metrics.write_parquet(output / RESULTS)
    write_atomically(output / PAGE, render_page(content).encode())
    terminal.say(f"Results: {output / RESULTS}")
    terminal.say(f"Report: {(output / PAGE).resolve()}")
    if markdown is not None:
        write_atomically(markdown, render_markdown(content).encode())
        terminal.say(f"Markdown: {markdown}")


def _finished(planned: "Plan") -> "list[FinishedCell]":
    from tasks.experiments.cell import cell_identity
    from tasks.experiments.cell_results import FinishedCell

    return [
        FinishedCell(each.cell, cell_identity(each.cell, each.data).ref, each.data)
        for each in planned.cells
        if each.done and each.data is not None
    ]
